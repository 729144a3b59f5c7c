"""Networks for several functionals: zero task weights change nothing, a functional is an ordinary network with other biases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import rock_salts, toy
from xclimb.backends.select import select
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import CheckpointError, ConfigError
from xclimb.files import read_json, write_json
from xclimb.graph.batch import build_batch
from xclimb.models.base import architecture_of, get_architecture, sum_networks
from xclimb.models.multifidelity import Level, with_levels
from xclimb.models.potential import Potential
from xclimb.references import AtomRef
from xclimb.testing import check_potential, tiny_crystals

FRAMES = rock_salts(4)
FUNCTIONALS = ("r2SCAN", "PBE", "HSE06")


def multi(source: Potential, spread: float = 0.0) -> Potential:
    """A potential for three functionals, with references of -10, -11 and -12 eV and random task weights."""
    levels = [
        Level(AtomRef.from_table(np.full(94, -10.0 - k), theory=LevelOfTheory(name)), LevelOfTheory(name))
        for k, name in enumerate(FUNCTIONALS)
    ]
    network = with_levels(source.copy().model, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.tasks.values():
            weights += spread * torch.randn(weights.shape, generator=generator)
    return Potential(network, levels[0].references, levels[0].theory, "three", levels[1:])


@pytest.fixture
def three():
    return multi(toy(), 0.1)


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_without_task_weights_every_functional_is_the_source(backend, monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", backend)
    source = xclimb.load("chgnet-0.3.0")
    wanted, energy = source.label(FRAMES), source.interaction_energy(FRAMES)
    potential = multi(source)
    assert potential.functionals == FUNCTIONALS
    assert potential.describe()["backend"].startswith(backend)
    for name in FUNCTIONALS:
        one = potential.at(name)
        np.testing.assert_allclose(one.interaction_energy(FRAMES), energy, rtol=0, atol=1e-6)
        for label in ("forces", "stress", "magmoms"):
            np.testing.assert_allclose(getattr(one.label(FRAMES), label), getattr(wanted, label), rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_a_functional_is_an_ordinary_network_with_the_same_function(three, backend, monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", backend)
    batch = build_batch(FRAMES, three.graph)
    energies = []
    for level, name in enumerate(FUNCTIONALS):
        folded = three.at(name)
        assert folded.architecture.kind == "chgnet"
        assert folded.functionals == (name,)
        assert folded.theory == folded.references.theory == LevelOfTheory(name)
        assert folded.references.energies["H"] == -10.0 - level
        whole = select(three.model).predict(three.model, replace(batch, level=level), True)
        part = select(folded.model).predict(folded.model, batch, True)
        for label in ("energy", "forces", "stress", "magmoms"):
            torch.testing.assert_close(getattr(whole, label), getattr(part, label), rtol=0, atol=1e-6)
        energies.append(whole.energy)
    assert (energies[0] - energies[1]).abs().min() > 1e-4
    assert (energies[1] - energies[2]).abs().min() > 1e-4
    np.testing.assert_array_equal(three.label(FRAMES).energy, three.at("R2SCAN").label(FRAMES).energy)  # the default


def test_both_backends_give_the_same_gradients_of_task_weights(three, monkeypatch):
    network = three.model.requires_grad_(True)
    gradients = {}
    for backend in ("fused", "eager"):
        monkeypatch.setenv("XCLIMB_BACKEND", backend)
        output = select(network).forward(network, replace(build_batch(FRAMES, three.graph), level=1), True)
        loss = output.energy.sum() + output.forces.square().sum()
        rows = torch.autograd.grad(loss, list(network.tasks.values()), allow_unused=True, materialize_grads=True)
        gradients[backend] = dict(zip(network.tasks, rows, strict=True))
    for name, fused in gradients["fused"].items():
        assert not fused[[0, 2]].any()  # rows of other functionals
        torch.testing.assert_close(fused, gradients["eager"][name], rtol=1e-3, atol=1e-4)
    assert gradients["fused"]["readout/0"][1].any()
    assert gradients["fused"]["atom_convs/0/message/core"][1].any()


def test_after_a_prediction_the_biases_are_what_they_were(three):
    before = {name: value.clone() for name, value in three.model.state_dict().items()}
    three.label(FRAMES)
    with pytest.raises(RuntimeError, match="stop"), three.model.at_level(2):
        raise RuntimeError("stop")
    assert all(isinstance(parameter, torch.nn.Parameter) for parameter in three.model.base.readout[0]._parameters.values())
    assert all(torch.equal(value, before[name]) for name, value in three.model.state_dict().items())


def test_every_derived_potential_keeps_all_functionals(three, tmp_path):
    three.save(tmp_path / "saved")
    derived = [
        three.copy(),
        three.to(dtype="float64"),
        three.with_references(three.references),
        xclimb.load(tmp_path / "saved"),
    ]
    for potential in derived:
        assert potential.functionals == FUNCTIONALS
        wanted = three.at("HSE06").label(FRAMES)
        np.testing.assert_allclose(potential.at("HSE06").label(FRAMES).energy, wanted.energy, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(derived[-1].at("PBE").label(FRAMES).energy, three.at("PBE").label(FRAMES).energy)
    assert derived[-1].others[1].references.energies == three.others[1].references.energies


def test_a_functional_that_is_not_there(three):
    with pytest.raises(ConfigError, match="three has no functional 'PBE0': it predicts r2SCAN, PBE, HSE06"):
        three.at("PBE0")
    with pytest.raises(ConfigError, match="toy has no functional 'r2SCAN': it predicts PBE"):
        toy().at("r2SCAN")
    assert toy().at("pbe") is toy()
    with pytest.raises(ValueError, match="2 levels of theory for a network with weights for 3"):
        three.replace(others=three.others[:1])


def test_a_file_with_a_level_too_few_is_refused(three, tmp_path):
    three.save(tmp_path / "saved")
    card = read_json(tmp_path / "saved" / "potential.json")
    write_json(tmp_path / "saved" / "potential.json", card | {"others": card["others"][:1]})
    with pytest.raises(CheckpointError, match="2 levels of theory for a network with weights for 3"):
        xclimb.load(tmp_path / "saved")


def test_networks_of_networks_are_architectures(three):
    for network in (three.model, with_levels(sum_networks([toy().copy().model, toy().copy().model]), 2)):
        kind = architecture_of(network).kind
        assert type(network) is get_architecture(kind).network
        again = get_architecture(kind).network.from_state(network.config, network.state_dict())
        assert again.n_levels == network.n_levels
    assert kind == "multi-fidelity sum of chgnet"
    with pytest.raises(ConfigError, match="unknown architecture 'mace'"):
        get_architecture("multi-fidelity mace")


@pytest.mark.parametrize("name", ["r2SCAN", "HSE06"])
def test_the_contract_is_kept_at_a_functional(three, name):
    check_potential(three.at(name), {"NaCl": tiny_crystals()["NaCl"]})


def test_calculator(three):
    atoms = FRAMES.to_ase()[0]
    for name in FUNCTIONALS:
        calculator = xclimb.Calculator(three, functional=name)
        assert calculator.get_potential_energy(atoms) == pytest.approx(three.at(name).predict(atoms).energy, abs=1e-6)
        assert calculator.parameters["theory"] == name
    assert xclimb.Calculator(three).potential.architecture.kind == "chgnet"
    with pytest.raises(ConfigError, match="no functional 'SCAN'"):
        xclimb.Calculator(three, functional="SCAN")
