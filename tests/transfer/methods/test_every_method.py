"""Contracts of every method: step 0 is the source but for the references, and a killed run goes on to the bit."""

import numpy as np
import pytest

import xclimb
from training.tiny import rock_salts
from transfer.disturbed import TRAIN, VAL, interrupted, outcome, train
from xclimb.backends.select import select
from xclimb.config import TransferConfig
from xclimb.training.engine import run_on_devices
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import METHODS, get_method

SETTINGS = {
    "ewc": {"fisher_frames": 4},
    "delta": {},
    "layerwise": {"rate_decay": 0.5, "freeze": ["atom_embedding"]},
    "multifidelity": {"low": {"HSE06": rock_salts(6, seed=5, functional="HSE06")}},
}


@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.new_weights])
def test_step_zero_is_the_source_with_other_references(name, backend, monkeypatch, source):
    monkeypatch.setenv("XCLIMB_BACKEND", backend)
    method, config = get_method(name), TransferConfig(method={"name": name} | SETTINGS.get(name, {}))
    engine = run_on_devices(config, lambda engine: engine)
    start = method.prepare(source, TRAIN, config.method, 0)
    trainer = Trainer(config, start, TRAIN, VAL, engine, method)
    batch = trainer.val_data.batch(np.arange(len(VAL)))
    wanted = source.label(VAL)
    interaction = wanted.energy - source.references.energy(VAL)
    path, network = select(trainer.trained.network), trainer.trained.network
    for compute, tolerance in ((path.forward, 1e-5), (path.predict, 1e-6)):  # eV, eV/Å; training rounds in another order
        output = compute(network, batch.graph, True)
        np.testing.assert_allclose(output.energy.detach(), interaction, rtol=0, atol=1e-5)  # of sums in float32
        np.testing.assert_allclose(output.forces.detach(), wanted.forces, rtol=0, atol=tolerance)
    handed_over = trainer.potential(trainer.last_weights).label(VAL)
    np.testing.assert_allclose(handed_over.energy - start.references.energy(VAL), interaction, rtol=0, atol=1e-6)
    for label in ("forces", "stress", "magmoms"):
        np.testing.assert_allclose(getattr(handed_over, label), getattr(wanted, label), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_killed_run_goes_on_to_the_bit(name, tmp_path):
    settings = {"method": {"name": name} | SETTINGS[name]}
    whole = train(tmp_path / "whole", **settings)
    assert interrupted(tmp_path / "half", 4, **settings) == 0
    assert outcome(train(tmp_path / "half", resume=True, **settings).path) == outcome(whole.path)
    again = xclimb.load(whole.path)
    np.testing.assert_array_equal(again.label(VAL).energy, whole.potential.label(VAL).energy)
