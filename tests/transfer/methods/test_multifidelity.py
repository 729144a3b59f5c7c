"""The method multifidelity: frames of several functionals in every step, references of each, and the functionals part."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import xclimb
from training.tiny import rock_salts, toy
from transfer.disturbed import TRAIN, VAL, interrupted, train
from xclimb.cli import app
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError, DataError, TheoryError
from xclimb.files import read_json
from xclimb.models.potential import Potential
from xclimb.references import fit_references
from xclimb.runs.folder import read_evaluation
from xclimb.training.engine import run_on_devices
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import get_method

LOW, HYBRID = rock_salts(12, seed=4, functional="PBE"), rock_salts(7, seed=5, functional="HSE06")
OTHER = toy().replace(theory=toy().theory.with_functional("SCAN"), name="other")  # a source of none of their functionals


def settings(**more):
    return {"method": {"name": "multifidelity", "low": {"PBE": LOW}} | more, "ema_decay": None}


def trainer(source: Potential = OTHER, **more) -> Trainer:
    config = TransferConfig(**settings(**more), batch_size=8)
    start = get_method("multifidelity").prepare(source, TRAIN, config.method, 0)
    engine = run_on_devices(config, lambda engine: engine)
    return Trainer(config, start, TRAIN, VAL, engine, get_method("multifidelity"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("multifidelity") / "run"
    return train(path, **settings(low_val={"PBE": rock_salts(5, seed=6, functional="PBE")}), guard="sum", learning_rate=3e-3)


def test_every_functional_has_references_of_its_own_around_those_below():
    start = trainer(low={"HSE06": HYBRID, "pbe": LOW}).start
    assert start.functionals == ("r2SCAN", "PBE", "HSE06")  # the target, then up the ladder
    below = OTHER
    fitted = {}
    for name, frames in {"PBE": LOW, "HSE06": HYBRID}.items():
        fitted[name] = below = below.with_references(fit_references(frames, below, kind="informed"))
    fitted["r2SCAN"] = fitted["PBE"].with_references(fit_references(TRAIN, fitted["PBE"], kind="informed"))
    for name, wanted in fitted.items():
        one = start.at(name)
        assert one.references.kind == "informed"
        assert one.references.theory.functional == one.theory.functional == name
        assert one.references.energies == pytest.approx(wanted.references.energies, abs=1e-6)
    assert fitted["r2SCAN"].references.energies != fitted["HSE06"].references.energies


def test_an_epoch_has_as_many_frames_of_each_functional():
    made = trainer(low={"PBE": LOW, "HSE06": HYBRID})
    levels, n = made.train_data.levels, len(TRAIN)
    assert np.bincount(levels).tolist() == [10, 12, 7]
    orders = [made.train_data.mixture.order(0, epoch) for epoch in range(6)]
    for order in orders:
        assert np.bincount(levels[order]).tolist() == [n, n, n]
        assert sorted(order[levels[order] == 0]) == list(range(n))
    everything = np.concatenate(orders)
    assert np.bincount(everything[levels[everything] == 1] - n).tolist() == [5] * 12  # 60 places, five passes
    assert trainer(balance=0.5).train_data.mixture.drawn == (5,)


def test_a_step_has_frames_of_all_functionals_in_batches_of_one_each():
    made = trainer()
    step = made.plan()[0]
    assert set(made.train_data.levels[np.concatenate(step)]) == {0, 1}
    batches = list(made.train_data.batches(step))
    assert [batch.graph.level for batch in batches] == [0, 1]
    assert sorted(np.concatenate([batch.frame_ids for batch in batches])) == sorted(
        made.train_data.frames.frame_id[np.concatenate(step)]
    )
    low = batches[1]
    frames = LOW[np.flatnonzero(np.isin(LOW.frame_id, low.frame_ids))]
    wanted = (frames.energy - made.start.at("PBE").references.energy(frames)) / 2
    np.testing.assert_allclose(sorted(low.targets.energy), sorted(wanted), rtol=0, atol=1e-5)


def test_the_penalty_pulls_task_weights_only():
    made = trainer(strength=3.0)
    network = made.trained.network
    penalty = made.penalty(network)
    assert penalty.item() == 0.0
    with torch.no_grad():
        network.tasks["readout/0"][1, :2] = torch.tensor([1.0, 2.0])
        network.base.readout[0].weight += 1.0
    penalty = made.penalty(network)
    assert penalty.item() == pytest.approx(3.0 / len(TRAIN) * 5.0)
    penalty.backward()
    assert all(parameter.grad is None for parameter in network.base.parameters())
    assert network.tasks["readout/0"].grad[1, 0] > 0


def test_only_targets_have_task_weights(tmp_path):
    network = xclimb.load(
        train(tmp_path / "run", **settings(targets=["readout.*"]), guard="sum").path / "checkpoints" / "last"
    ).model
    moved = {name for name, weights in network.tasks.items() if weights.any()}
    assert moved == {"readout/0", "readout/2", "readout/4", "readout/6"}
    assert not torch.equal(network.base.atom_convs[0].centre.weight, toy().model.atom_convs[0].centre.weight)


def test_a_run_has_all_functionals(run):
    assert run.potential.theory.functional == "r2SCAN"
    assert run.potential.functionals == ("r2SCAN", "PBE")
    for name in ("best", "last"):
        saved = xclimb.load(run.path / "checkpoints" / name)
        assert saved.functionals == ("r2SCAN", "PBE")
    folded = saved.at("r2SCAN")
    assert folded.architecture.kind == "chgnet"
    np.testing.assert_allclose(folded.label(VAL).energy, saved.label(VAL).energy, rtol=0, atol=1e-6)
    assert xclimb.evaluate(folded, VAL).energy_mae == pytest.approx(run.history[-1]["val"]["energy_mae"], rel=1e-5)
    assert "An epoch has 10 frames of r2SCAN, all, and beside them 10 of PBE (out of 12)." in run.notes


def test_errors_at_the_other_functional_are_reported(run):
    both = read_evaluation(run.path).root["val PBE"]
    low = rock_salts(5, seed=6, functional="PBE")
    assert both.after.energy_mae == pytest.approx(xclimb.evaluate(run.potential.at("PBE"), low).energy_mae, rel=1e-5)
    assert both.before.energy_mae != both.after.energy_mae
    assert any(re.match("At PBE, on 5 frames held out, from step 0 to what is kept: energy .* meV/atom, forces", one)
               for one in run.metrics.notes)  # fmt: skip
    assert set(read_json(run.path / "run.json")["data"]) == {"train", "val", "train PBE", "val PBE"}


def test_the_functionals_part_as_their_labels_do(tmp_path):
    """From one network at step 0, after training on both labels of the same crystals, along the difference of the labels."""
    high, low = (xclimb.load_sample("dft_pairs", name) for name in ("r2SCAN", "PBE"))
    small = np.flatnonzero(high.n_atoms <= 2)[::6][:24]
    high, low = high[small], low[small]
    more = {"method": {"name": "multifidelity", "low": {"PBE": low}, "strength": 0.0}, "guard": "sum", "ema_decay": None}
    more |= {"loss": {"force": 0.0, "stress": 0.0, "magmom": 0.0}, "epochs": 15, "batch_size": 12, "learning_rate": 2e-3}
    val = high.replace(frame_id=high.frame_id + "v")[:4]
    run = train(tmp_path / "run", source="chgnet-0.3.0", train=high, val=val.replace(positions=val.positions + 1e-3), **more)
    last = xclimb.load(run.path / "checkpoints" / "last")
    at = {name: last.at(name) for name in last.functionals}
    parted = (at["r2SCAN"].interaction_energy(high) - at["PBE"].interaction_energy(high)) / high.n_atoms
    shift = at["r2SCAN"].references.energy(high) - at["PBE"].references.energy(high)
    labels = (high.energy - low.energy - shift) / high.n_atoms  # what no references explain
    assert np.abs(parted).max() > 1e-3
    assert np.corrcoef(parted, labels)[0, 1] > 0.3
    total = (at["r2SCAN"].label(high).energy - at["PBE"].label(high).energy) / high.n_atoms
    assert np.corrcoef(total, (high.energy - low.energy) / high.n_atoms)[0, 1] > 0.99


def test_without_low_frames_the_source_labels_the_training_frames():
    made = trainer(toy(), low={})
    start, data, n = made.start, made.train_data, len(TRAIN)
    assert start.functionals == ("r2SCAN", "PBE")
    assert start.at("PBE").references.energies == toy().references.energies
    batch = data.batch(np.arange(n, 2 * n))
    np.testing.assert_allclose(batch.targets.energy, toy().interaction_energy(TRAIN) / 2, rtol=0, atol=1e-5)
    np.testing.assert_allclose(batch.targets.forces, toy().label(TRAIN).forces, rtol=0, atol=1e-5)


def test_a_potential_of_several_functionals_is_a_source_at_its_own(run, tmp_path):
    more = train(tmp_path / "more", source=run.path, method="frozen", epochs=0)
    assert more.potential.architecture.kind == "chgnet"
    np.testing.assert_allclose(more.potential.label(VAL).forces, run.potential.label(VAL).forces, rtol=0, atol=1e-6)


def test_frames_given_in_python_are_compared_when_a_run_goes_on(tmp_path):
    assert interrupted(tmp_path / "half", 4, **settings()) == 0
    with pytest.raises(
        ConfigError, match=r"method\.low\.PBE \(was 'in memory: 12 frames, sha256 .*', now 'in memory: 11 frames"
    ):
        train(tmp_path / "half", resume=True, **settings(low={"PBE": LOW[:11]}))
    stated = read_json(tmp_path / "half" / "run.json")["settings"]["method"]["low"]
    with pytest.raises(ConfigError, match="the PBE frames of this run were given in Python and are in no file"):
        train(tmp_path / "half", resume=True, **settings(low=stated))


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"low": {"r2SCAN": TRAIN}}, ConfigError, "r2SCAN training frames are of the functional of the training frames"),
        ({"low": {"PEB": LOW}}, TheoryError, "no functional called 'PEB' is known"),
        ({"low": {"HSE06": LOW}}, TheoryError, "method.low has PBE frames as those of HSE06"),
        ({"low": {"PBE": "no-such.extxyz"}}, DataError, "no-such.extxyz"),
        ({"low": {"PBE": LOW[:0]}}, DataError, "the PBE training set is empty"),
        ({"low_val": {"HSE06": HYBRID}}, ConfigError, "method.low_val has HSE06 and method.low has not"),
        ({"low_val": {"PBE": LOW[:2]}}, DataError, "2 frames in the PBE training set and in the PBE validation set as well"),
        ({"targets": ["*.neighbour"]}, ConfigError, r"no layer of \*\.neighbour has a bias"),
        ({"balance": 0}, ConfigError, "'balance' in method 'multifidelity' must be greater than 0"),
    ],
)
def test_wrong_settings(tmp_path, more, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path / "run", **settings(**more))


def test_what_does_not_go_together(tmp_path):
    with pytest.raises(ConfigError, match=r"replay\.fraction has no effect with method 'multifidelity'"):
        train(tmp_path / "run", **settings(), replay={"fraction": 0.5})
    same = toy().replace(theory=replace(toy().theory, functional="r2SCAN"))
    with pytest.raises(ConfigError, match="needs a known functional beside r2SCAN, and the source has none"):
        train(tmp_path / "run", source=same, method="multifidelity")


def test_on_the_command_line(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    xclimb.export(LOW, "low.extxyz")

    def say(*words):
        result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
        return result.exit_code, re.sub(r"\s+", " ", result.output)

    for name in ("r2SCAN", "PBE"):
        code, out = say("predict", run.path, "low.extxyz", "-f", name, "--out", f"{name}.json")
        assert code == 0
        assert f"{name}" in out.splitlines()[0]
        energies = [one["energy_eV"] for one in read_json(tmp_path / f"{name}.json")["structures"]]
        np.testing.assert_allclose(energies, run.potential.at(name).label(LOW).energy, rtol=0, atol=1e-5)
    code, out = say("predict", run.path, "low.extxyz", "-f", "HSE06")
    assert code == 2
    assert "has no functional 'HSE06': it predicts r2SCAN, PBE" in out
    code, out = say("evaluate", run.path, "low.extxyz", "--functional", "PBE", "--json", "errors.json")
    assert code == 0
    wanted = xclimb.evaluate(run.potential.at("PBE"), LOW)
    assert read_json(tmp_path / "errors.json")["energy_mae"] == pytest.approx(wanted.energy_mae, rel=1e-5)
    assert "different levels" not in out
