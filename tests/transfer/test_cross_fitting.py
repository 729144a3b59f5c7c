"""Cross-fitting: each material is judged by the network that never saw it, and the average of the weights is handed over."""

import signal

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import rock_salts, toy
from transfer.disturbed import in_fork, kill_at, outcome
from xclimb.config import TransferConfig
from xclimb.errors import DataError
from xclimb.evaluation.metrics import evaluate
from xclimb.files import read_json
from xclimb.runs.folder import RunFolder
from xclimb.transfer import session
from xclimb.transfer.cross_fitting import NO_PART, CrossFitted, assign_folds, count_folds, is_behind_barrier
from xclimb.transfer.weights import average


def materials(count=8, frames=2, seed=0):
    """Frames of so many materials, in turn."""
    made = rock_salts(count * frames, seed=seed)
    return made.replace(material_id=np.array([f"m{k % count}" for k in range(count * frames)]))


def settings(**values):
    return TransferConfig.build({"method": "l2sp", "validation": {"group": "ids", **values}})


SHORT = {"epochs": 2, "batch_size": 4, "progress": False, "checkpoint_minutes": 0.0, "audit_frames": 0}
THREE = SHORT | {"method": "residual", "validation": {"folds": 3, "group": "ids"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    train, test = materials(), rock_salts(3, seed=5)
    return xclimb.transfer(toy(), train, test=test, out=tmp_path_factory.mktemp("folds") / "run", **THREE)


def test_parts_are_of_equal_size_and_keep_materials_whole():
    frames = materials(13, 3)
    fold, notes = assign_folds(frames, settings(folds=4), 4)
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 3
    for name in np.unique(frames.material_id):
        assert len(set(fold[frames.material_id == name].tolist())) == 1
    assert "4 networks" in notes[-1]
    again, _ = assign_folds(frames, settings(folds=4), 4)
    np.testing.assert_array_equal(fold, again)


def test_the_only_material_with_an_element_is_in_every_training():
    frames = materials(7, 3)  # Na, Cl; Mg, O; Li, F
    numbers = frames.numbers.copy()
    numbers[np.isin(frames.system, np.flatnonzero(frames.material_id == "m0"))] = 19
    frames = frames.replace(numbers=numbers)
    fold, _ = assign_folds(frames, settings(folds=2), 2)
    assert set(fold[frames.material_id == "m0"].tolist()) == {NO_PART}
    assert (fold[frames.material_id != "m0"] != NO_PART).all()
    assert (assign_folds(frames, settings(folds=2, cover=False), 2)[0] != NO_PART).all()


def test_parts_that_cannot_be_are_refused_if_they_were_asked_for():
    frames = materials(7)
    with pytest.raises(DataError, match=r"7 materials .* cannot be divided into 8 parts"):
        assign_folds(frames, settings(folds=8), 8)
    assert assign_folds(frames, settings(), 4)[0] is None


@pytest.mark.parametrize(
    ("config", "count", "folds"),
    [
        ({}, 8, 4),
        ({}, 7, 1),  # two materials a part
        ({"method": "residual"}, 8, 1),
        ({"epochs": 0}, 8, 1),
        ({"validation": {"fraction": 0.2}}, 8, 1),
        ({"validation": {"by": "frame"}}, 8, 1),
        ({"validation": {"folds": 1}}, 8, 1),
        ({"method": "residual", "validation": {"folds": 3}}, 8, 3),
        ({}, 700, 1),  # frames enough for a tenth of them
    ],
)
def test_the_number_of_networks_is_that_of_the_method_where_data_are_few(config, count, folds):
    assert count_folds(TransferConfig.build(config), materials(count)) == folds


def test_predictions_are_those_of_the_network_that_did_not_see_the_frame():
    frames, fold = rock_salts(6), np.array([1, 0, 2, 0, 1, 2])
    shifts = [np.full(94, -10.0 - k) for k in range(3)]
    members = [toy().with_references(xclimb.AtomRef.from_table(values, theory=toy().theory)) for values in shifts]
    labelled = CrossFitted(members, fold).label(frames)
    np.testing.assert_array_equal(labelled.frame_id, frames.frame_id)
    np.testing.assert_allclose(labelled.energy_per_atom, toy().label(frames).energy_per_atom - fold, atol=1e-5)
    with pytest.raises(ValueError, match="5 frames"):
        CrossFitted(members, fold).label(frames[:5])


def test_an_average_has_the_mean_of_each_weight():
    members = [toy().copy() for _ in range(3)]
    for k, member in enumerate(members):
        with torch.no_grad():
            for value in member.model.parameters():
                value += k
    mean = average(members).model.state_dict()
    for name, value in members[1].model.state_dict().items():
        torch.testing.assert_close(mean[name], value)


def test_a_run_keeps_each_network_and_their_average(run):
    members = [xclimb.load(run.path / "folds" / str(k) / "checkpoints" / "last") for k in range(3)]
    last = xclimb.load(run.path / "checkpoints" / "last")
    expected = average(members).model.state_dict()
    for name, value in last.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    record = read_json(run.path / "run.json")
    assert (record["state"], record["folds"]) == ("finished", 3)
    assert record["data"]["val"]["frames"] == record["data"]["train"]["frames"] == 16
    assert len(run.history) == 3
    assert run.share in (0, 0.25, 0.5, 0.75, 1.0)
    assert set(run.test) == {"before", "after"}
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"best", "last"}


def test_validation_errors_are_those_of_networks_that_did_not_see_the_frames(run):
    frames = materials()
    fold, _ = assign_folds(frames, settings(folds=3), 3)
    members = []
    for k in range(3):
        folder = run.path / "folds" / str(k)
        record = read_json(folder / "run.json")
        assert record["data"]["val"]["frames"] == np.count_nonzero(fold == k)
        assert record["data"]["train"]["frames"] == np.count_nonzero(fold != k)
        members.append(xclimb.load(folder / "checkpoints" / "last"))
    errors = evaluate(CrossFitted(members, fold), frames)
    assert run.history[-1]["val"]["forces_mae"] == pytest.approx(errors.forces_mae, rel=1e-4)
    if run.share == 1:
        assert run.metrics.energy_mae == pytest.approx(errors.energy_mae, rel=1e-5)


def test_a_run_that_is_killed_goes_on_to_the_same_bits(run, tmp_path):
    path, calm = tmp_path / "run", outcome(run.path)
    train, test = materials(), rock_salts(3, seed=5)

    def action():
        kill_at(session.Session, "_close_epoch", 5, signal.SIGKILL)  # in the second network
        xclimb.transfer(toy(), train, test=test, out=path, **THREE)

    assert in_fork(action) == -signal.SIGKILL
    assert {folder.name for folder in (path / "folds").iterdir()} == {"0", "1"}
    assert outcome(xclimb.transfer(toy(), train, test=test, out=path, resume=True, **THREE).path) == calm


@pytest.mark.parametrize(
    ("function", "count"), [("checkpoint", 1), ("clean_up", 4)]
)  # its start, and its end after three others
def test_a_run_that_is_killed_as_it_begins_or_ends_goes_on(function, count, run, tmp_path):
    path = tmp_path / "run"
    train, test = materials(), rock_salts(3, seed=5)

    def action():
        kill_at(RunFolder, function, count, signal.SIGKILL)
        xclimb.transfer(toy(), train, test=test, out=path, **THREE)

    assert in_fork(action) == -signal.SIGKILL
    assert outcome(xclimb.transfer(toy(), train, test=test, out=path, resume=True, **THREE).path) == outcome(run.path)
    assert {folder.name for folder in (path / "checkpoints").iterdir()} == {"best", "last"}


def test_a_signal_leaves_a_run_that_reads_and_goes_on(run, tmp_path):
    path = tmp_path / "run"
    train, test = materials(), rock_salts(3, seed=5)

    def action():
        kill_at(session.Guard, "record", 5, signal.SIGTERM)
        stopped = xclimb.transfer(toy(), train, test=test, out=path, **THREE)
        assert stopped.interrupted
        assert stopped.best_epoch == 0

    assert in_fork(action) == 0
    assert read_json(path / "run.json")["state"] == "interrupted"
    assert outcome(xclimb.transfer(toy(), train, test=test, out=path, resume=True, **THREE).path) == outcome(run.path)


def test_networks_of_a_former_run_are_not_kept(run, tmp_path):
    path = tmp_path / "run"
    (path / "folds" / "7").mkdir(parents=True)
    (path / "run.json").write_text("{}")
    xclimb.transfer(toy(), materials(), out=path, overwrite=True, **(THREE | {"epochs": 1}))
    assert {folder.name for folder in (path / "folds").iterdir()} == {"0", "1", "2"}


def test_an_average_behind_a_barrier_is_worse_than_its_members():
    frames = toy().label(materials())
    fold = np.arange(len(frames)) % 2
    broken = toy().copy()
    with torch.no_grad():
        for value in broken.model.parameters():
            value += 0.5
    assert not is_behind_barrier(CrossFitted([toy(), toy()], fold), toy(), frames)
    assert is_behind_barrier(CrossFitted([toy(), toy()], fold), broken, frames)
