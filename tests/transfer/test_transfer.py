import json
import os
import signal

import numpy as np
import pytest
import torch

import xclimb
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError, DataError
from xclimb.files import read_json
from xclimb.runs.folder import read_history
from xclimb.transfer.methods import METHODS

SHORT = {"epochs": 1, "progress": False, "batch_size": 8}


@pytest.fixture(scope="module", params=list(METHODS))
def run(request, pairs, tmp_path_factory):
    train, val = pairs
    out = tmp_path_factory.mktemp("runs") / request.param
    return xclimb.transfer(train=train[:12], val=val, method=request.param, out=out, guard="sum", **SHORT)


def test_a_run_folder_tells_all(run, pairs):
    _, val = pairs
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "references.json",
        "checkpoints",
        "evaluation.json",
        "predictions.json",
    }
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"best", "last"}
    record = read_json(run.path / "run.json")
    assert (record["state"], record["method"], record["source"], record["seed"]) == ("finished", run.method, "chgnet-0.3.0", 0)
    assert record["theory"]["target"]["functional"] == "r2SCAN"
    assert record["theory"]["source"]["functional"] == "GGA/GGA+U"
    assert record["data"]["val"]["sha256"] == val.checksum()
    assert record["best_epoch"] == run.best_epoch
    assert set(record["versions"]) >= {"python", "torch", "numpy", "chgnet", "ase"}
    config = TransferConfig.load(run.path / "config.yaml")
    assert (config.method.name, config.epochs, config.batch_size) == (run.method, 1, 8)
    assert record["settings"] == config.model_dump(mode="json")


def test_predictions_are_those_that_were_evaluated(run):
    stored, evaluated = (read_json(run.path / f"{name}.json")["val"] for name in ("predictions", "evaluation"))
    for quantity, errors in stored["errors"].items():
        before, after, count = (np.array(errors[name], dtype=float) for name in ("before", "after", "count"))
        metric = f"{quantity}_mae"
        assert np.nansum(after * count) / count.sum() == pytest.approx(evaluated[metric], rel=1e-3)
        assert np.nansum(before * count) / count.sum() == pytest.approx(run.history[0]["val"][metric], rel=1e-2)


def test_history_starts_before_any_step(run):
    assert read_history(run.path) == run.history
    first, last = run.history
    assert (first["epoch"], first["step"], first["train"]) == (0, 0, None)
    others = "name: multifidelity" in (run.path / "config.yaml").read_text()  # frames of another functional beside its own
    assert (last["epoch"], last["step"]) == (1, 3 if others else 2)
    assert set(last) == {"epoch", "step", "lr", "seconds", "atoms_per_second", "train", "val"}
    assert set(last["val"]) == set(last["train"]) == {"loss", "energy_mae", "forces_mae", "stress_mae", "magmom_mae"}


def test_best_is_never_worse_than_step_zero_and_is_what_is_saved(run, pairs):
    _, val = pairs
    losses = [line["val"]["loss"] for line in run.history]
    assert run.best_epoch == int(np.argmin(losses))
    best = run.history[run.best_epoch]["val"]
    assert run.metrics.energy_mae == pytest.approx(best["energy_mae"], rel=1e-3, abs=1e-2)
    assert run.metrics.forces_mae == pytest.approx(best["forces_mae"], rel=1e-3, abs=1e-2)
    loaded = xclimb.load(run.path)
    np.testing.assert_array_equal(loaded.label(val).energy, run.potential.label(val).energy)
    np.testing.assert_array_equal(loaded.references.values, run.references.values)
    assert loaded.theory.functional == "r2SCAN"
    last = xclimb.load(run.path / "checkpoints" / "last")
    errors = xclimb.evaluate(last, val)
    assert errors.energy_mae == pytest.approx(run.history[-1]["val"]["energy_mae"], rel=1e-3, abs=1e-2)
    assert not any(parameter.requires_grad for parameter in run.potential.model.parameters())


def test_step_zero_is_the_pretrained_network_plus_the_references_of_the_method(run, source, pairs):
    train, val = pairs
    if run.method == "scratch":
        return
    kind = METHODS[run.method].references
    expected = source.references if kind == "source" else xclimb.fit_references(train[:12], potential=source, kind=kind)
    energy = source.interaction_energy(val) + expected.energy(val)
    mae = np.abs(energy - val.energy).__truediv__(val.n_atoms).mean() * 1000
    assert run.history[0]["val"]["energy_mae"] == pytest.approx(mae, abs=0.1)
    assert read_json(run.path / "run.json")["step_zero_deviation"] < 0.05  # meV/atom
    forces = xclimb.evaluate(source, val).forces_mae
    assert run.history[0]["val"]["forces_mae"] == pytest.approx(forces, abs=0.05)


def test_references_change_only_where_they_are_trained(run, source, pairs):
    train, _ = pairs
    last = xclimb.load(run.path / "checkpoints" / "last").references
    changed = np.flatnonzero(~np.isclose(last.values, source.references.values, rtol=0, atol=1e-12, equal_nan=True))
    if run.method == "frozen":
        assert not len(changed)
    elif METHODS[run.method].references == "informed":  # elements without data too, by the prior
        assert set(train[:12].elements.tolist()) < set(changed.tolist())
    else:
        assert changed.tolist() == train[:12].elements.tolist()
    if run.method == "trainable":
        steps = np.abs(last.values - source.references.values)[changed]
        assert (steps < 2.1e-3).all()  # two Adam steps of at most 1e-3


def test_scratch_starts_from_other_weights(run, source):
    start = run.history[0]["val"]["forces_mae"]
    same = start == pytest.approx(xclimb.evaluate(source, run_val(run)).forces_mae, abs=0.05)
    assert same == (run.method != "scratch")


def run_val(run):
    frames = xclimb.load_sample("dft_pairs", functional="r2SCAN")
    return next(
        frames[frames.material_id == name] for name in np.unique(frames.material_id) if _checksum(frames, name) == _val_sum(run)
    )


def _checksum(frames, name):
    return frames[frames.material_id == name].checksum()


def _val_sum(run):
    return read_json(run.path / "run.json")["data"]["val"]["sha256"]


def test_the_source_is_untouched(source, pairs, tmp_path):
    train, val = pairs
    before = {name: value.clone() for name, value in source.model.state_dict().items()}
    references = source.references.values.copy()
    run = xclimb.transfer(source, train[:8], val, "trainable", tmp_path / "x", **SHORT)
    for name, value in source.model.state_dict().items():
        assert torch.equal(value, before[name])
    np.testing.assert_array_equal(source.references.values, references)
    assert read_json(run.path / "run.json")["source"] == source.name


def test_same_seed_same_numbers_and_no_trace_in_global_generators(pairs, tmp_path):
    train, val = pairs
    torch.manual_seed(7)
    state = torch.get_rng_state()
    runs = [
        xclimb.transfer(train=train[:8], val=val, method="scratch", out=tmp_path / str(n), seed=seed, **SHORT)
        for n, seed in enumerate((5, 5, 6))
    ]
    assert torch.equal(torch.get_rng_state(), state)
    one, same, other = ([line["val"]["loss"] for line in run.history] for run in runs)
    assert one == same
    assert one != other
    weights = [(run.path / "checkpoints" / "last" / "weights.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]


def test_no_epochs_only_exchange_the_references(source, pairs, tmp_path):
    train, val = pairs
    run = xclimb.transfer(source, train, val, "residual", tmp_path / "x", epochs=0, progress=False)
    expected = source.with_references(xclimb.fit_references(train, potential=source, kind="residual"))
    np.testing.assert_allclose(run.potential.label(val).energy, expected.label(val).energy, atol=1e-5)
    assert (len(run.history), run.best_epoch) == (1, 0)


def test_validation_is_split_off_by_material(tmp_path):
    frames = xclimb.load_sample("dft_pairs", functional="r2SCAN")
    small = frames[frames.n_atoms <= 3]
    run = xclimb.transfer(train=small, out=tmp_path / "x", epochs=0, progress=False)
    data = read_json(run.path / "run.json")["data"]
    assert data["train"]["frames"] + data["val"]["frames"] == len(small)
    assert data["train"]["materials"] + data["val"]["materials"] == len(np.unique(small.material_id))


def test_weights_of_the_loss_reach_the_training(pairs, tmp_path):
    train, val = pairs
    run = xclimb.transfer(train=train[:8], val=val, out=tmp_path / "x", loss={"energy": 0, "stress": 0, "magmom": 0}, **SHORT)
    val_errors = run.history[0]["val"]
    only_forces = xclimb.transfer(train=train[:8], val=val, out=tmp_path / "y", **{"loss.energy": 0.0}, **SHORT)
    assert val_errors["loss"] < only_forces.history[0]["val"]["loss"]


@pytest.mark.filterwarnings("ignore:the reference energies")  # of elements whose only energies were taken away
def test_missing_labels_are_masked(pairs, tmp_path):
    train, val = pairs
    bare = train.replace(stress=np.full_like(train.stress, np.nan), magmoms=np.full_like(train.magmoms, np.nan))
    energy = bare.energy.copy()
    energy[::3] = np.nan
    run = xclimb.transfer(train=bare.replace(energy=energy)[:9], val=val, out=tmp_path / "x", **SHORT)
    assert run.history[1]["train"]["magmom_mae"] is None
    assert np.isfinite(run.history[1]["val"]["stress_mae"])
    assert any("magmoms" in note for note in run.notes)


def test_ctrl_c_leaves_a_usable_folder(pairs, tmp_path):
    train, val = pairs

    def press(line):
        if line["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    run = xclimb.transfer(train=train[:8], val=val, out=tmp_path / "x", epochs=50, progress=False, batch_size=8, on_epoch=press)
    assert run.interrupted
    assert [line["epoch"] for line in run.history] == [0, 1]
    assert read_json(run.path / "run.json")["state"] == "interrupted"
    np.testing.assert_array_equal(xclimb.load(run.path).label(val).energy, run.potential.label(val).energy)


def test_a_diverging_loss_names_frames_and_keeps_the_best(pairs, tmp_path):
    train, val = pairs
    with pytest.raises(DataError, match="the loss is not finite at step") as error:
        xclimb.transfer(
            train=train[:8], val=val, out=tmp_path / "x", learning_rate=1e30, epochs=3, progress=False, batch_size=4
        )
    assert any(name in str(error.value) for name in [*train[:8].frame_id, *val.frame_id])
    record = json.loads((tmp_path / "x" / "run.json").read_text())
    assert record["state"] == "interrupted"
    assert record["error"] == str(error.value)
    errors = xclimb.evaluate(xclimb.load(tmp_path / "x"), val)
    assert np.isfinite(errors.energy_mae)


def test_a_used_folder_is_refused_unless_overwrite(pairs, tmp_path):
    train, val = pairs
    settings = {"epochs": 0, "progress": False, "out": tmp_path / "x"}
    xclimb.transfer(train=train, val=val, **settings)
    with pytest.raises(ConfigError, match="is not empty"):
        xclimb.transfer(train=train, val=val, **settings)
    run = xclimb.transfer(train=train, val=val, method="refit", overwrite=True, **settings)
    assert read_json(run.path / "run.json")["method"] == "refit"


def test_float64(pairs, tmp_path):
    train, val = pairs
    run = xclimb.transfer(train=train[:4], val=val[:1], out=tmp_path / "x", dtype="float64", **SHORT)
    assert run.potential.dtype == torch.float64
    assert read_json(run.path / "run.json")["step_zero_deviation"] < 1e-6
