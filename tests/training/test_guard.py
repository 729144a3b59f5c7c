"""Steps that are not finite, jumps and divergence: named, noted, and never worse than before."""

import json

import numpy as np
import pytest

import xclimb
from training.tiny import rock_salts, toy
from xclimb.errors import DataError
from xclimb.files import read_json
from xclimb.training.guard import MOST_SKIPPED, Guard, sentence
from xclimb.transfer import fit
from xclimb.transfer.checks import check_data

TRAIN, VAL = rock_salts(12, seed=0), rock_salts(3, seed=1)
SETTINGS = {"batch_size": 4, "progress": False, "audit_frames": 0}


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def slipped(monkeypatch):
    """Training frames with an infinite force in f0-7 that the checks did not see."""
    forces = TRAIN.forces.copy()
    forces[14, 1] = np.inf
    monkeypatch.setattr(fit, "check_data", lambda train, val, test: [])
    broken = TRAIN.replace(forces=forces)
    with pytest.raises(DataError, match="f0-7: forces is infinite"):
        check_data(broken, VAL)
    return broken


def test_a_bad_label_that_slipped_through_stops_the_run_and_is_named(slipped, tmp_path):
    with pytest.raises(DataError, match=r"not finite at step \d \(epoch 1\) in f0-7: look for broken labels") as error:
        xclimb.transfer(toy(), train=slipped, val=VAL, out=tmp_path / "run", epochs=2, **SETTINGS)
    assert "nonfinite='skip'" in str(error.value)
    (event,) = lines_of(tmp_path / "run" / "events.jsonl")
    assert (event["kind"], event["frames"]) == ("nonfinite", ["f0-7"])
    assert read_json(tmp_path / "run" / "run.json")["state"] == "interrupted"
    assert np.isfinite(xclimb.evaluate(xclimb.load(tmp_path / "run"), VAL).forces_mae)


def test_such_steps_can_be_left_out_and_are_noted(slipped, tmp_path):
    run = xclimb.transfer(toy(), train=slipped, val=VAL, out=tmp_path / "run", epochs=2, nonfinite="skip", **SETTINGS)
    events = lines_of(run.path / "events.jsonl")
    assert [(event["kind"], event["epoch"], event["frames"]) for event in events] == [
        ("nonfinite", k, ["f0-7"]) for k in (1, 2)
    ]
    assert all(np.isfinite(line["train"]["loss"]) for line in run.history[1:])
    weights = xclimb.load(run.path / "checkpoints" / "last").model.state_dict()
    assert all(value.isfinite().all() for value in weights.values())


def test_if_nothing_is_finite_it_stops_all_the_same(slipped, tmp_path):
    forces = np.full_like(slipped.forces, np.inf)
    with pytest.raises(DataError, match="not finite at step"):
        xclimb.transfer(
            toy(), train=slipped.replace(forces=forces), val=VAL, out=tmp_path / "x", epochs=20, nonfinite="skip", **SETTINGS
        )
    assert len(lines_of(tmp_path / "x" / "events.jsonl")) == MOST_SKIPPED + 1


def test_jumps_are_noted_with_their_frames(tmp_path):
    energy = TRAIN.energy.copy()
    energy[9] += 500.0  # finite, wrong, and large
    run = xclimb.transfer(
        toy(), train=TRAIN.replace(energy=energy), val=VAL, out=tmp_path / "run", method="frozen", epochs=4, learning_rate=1e-6,
        batch_size=2, progress=False, loss={"force": 0, "stress": 0, "magmom": 0}, spike_factor=3.0,
    )  # fmt: skip
    spikes = [event for event in lines_of(run.path / "events.jsonl") if event["kind"] == "spike"]
    assert spikes
    assert all("f0-9" in event["frames"] for event in spikes)
    assert "the loss jumped to" in sentence(spikes[0])
    worst = read_json(run.path / "run.json")["audit"]
    assert worst[0]["frame"] == "f0-9"
    assert len(worst) == 10
    assert worst[0]["times"] > 50
    assert any("f0-9" in note and "further from step 0" in note for note in run.notes)


def test_labels_in_order_are_not_suspected(tmp_path):
    run = xclimb.transfer(toy(), train=TRAIN, val=VAL, out=tmp_path / "run", epochs=0, progress=False)
    assert not any("further from step 0" in note for note in run.notes)


def test_divergence_from_step_0_is_flagged_once(tmp_path):
    run = xclimb.transfer(
        toy(), train=TRAIN, val=VAL, out=tmp_path / "run", epochs=3, learning_rate=0.2, schedule="constant", **SETTINGS
    )
    diverged = [event for event in lines_of(run.path / "events.jsonl") if event["kind"] == "divergence"]
    assert len(diverged) == 1
    assert "the training diverges" in sentence(diverged[0])
    assert run.best_epoch == 0  # never worse than what it started from


def test_on_an_accelerator_steps_are_looked_at_late_and_nothing_is_lost(monkeypatch, slipped, tmp_path):
    monkeypatch.setattr(Guard, "_every", property(lambda self: 16, lambda self, value: None), raising=False)
    with pytest.raises(DataError, match="in f0-7: look for broken labels"):
        xclimb.transfer(toy(), train=slipped, val=VAL, out=tmp_path / "run", epochs=1, **SETTINGS)


def test_weights_of_frames_come_from_a_column(tmp_path):
    weighted = TRAIN.replace(extras={"trust": np.array([0.0] * 6 + [1.0] * 6), "kind": np.array(["a"] * 12)})
    run = xclimb.transfer(toy(), train=weighted, val=VAL, out=tmp_path / "a", epochs=1, frame_weights="trust", **SETTINGS)
    assert (
        run.history[1]["train"]["loss"]
        != xclimb.transfer(toy(), train=weighted, val=VAL, out=tmp_path / "b", epochs=1, **SETTINGS).history[1]["train"]["loss"]
    )
    for column, told in {"weight": "no column 'weight'.*trust, kind", "kind": "holds text"}.items():
        with pytest.raises(DataError, match=told):
            xclimb.transfer(toy(), train=weighted, val=VAL, out=tmp_path / "c", frame_weights=column, **SETTINGS)
    for values, told in ((np.full(12, -1.0), "f0-0 has the weight -1.0"), (np.zeros(12), "all weights")):
        with pytest.raises(DataError, match=told):
            xclimb.transfer(
                toy(), train=TRAIN.replace(extras={"w": values}), val=VAL, out=tmp_path / "d", frame_weights="w", **SETTINGS
            )
