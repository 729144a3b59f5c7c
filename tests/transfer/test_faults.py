"""What can go wrong with files, frames, disk, clock and memory: told in one sentence, with the last state whole."""

import ctypes
import json
import resource
import shutil
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import xclimb
from transfer.disturbed import TRAIN, in_fork, interrupted, outcome, places, train
from xclimb.cli import app
from xclimb.data.store_writer import write_store
from xclimb.errors import CheckpointError, DataError, TrainingError
from xclimb.files import read_json
from xclimb.runs import states


@pytest.fixture
def damaged_store(tmp_path):
    """A store, and the same with one bit turned in the last force: it opens, and every number in it is a number."""
    store = write_store(TRAIN, tmp_path / "store")
    shutil.copytree(store, tmp_path / "sound")
    shard = store / "atoms-00000.arrow"
    content = bytearray(shard.read_bytes())
    forces = content.rindex(np.ascontiguousarray(TRAIN.forces).tobytes())
    content[forces + TRAIN.forces.nbytes - 2] ^= 1
    shard.write_bytes(content)
    return store


def test_a_damaged_shard_is_told_before_a_run_begins(damaged_store, tmp_path):
    words = ["transfer", str(damaged_store), "-f", "r2SCAN", "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2
    assert "atoms-00000.arrow does not have the checksum of the manifest" in " ".join(told.output.split())
    assert not (tmp_path / "run").exists()


def test_a_shard_that_is_damaged_during_a_run_stops_its_resuming(damaged_store, tmp_path):
    path = tmp_path / "run"
    assert interrupted(path, 2, train=xclimb.open(tmp_path / "sound")) == 0
    with pytest.raises(DataError, match=r"does not have the checksum of the manifest"):
        train(path, resume=True, train=xclimb.open(damaged_store))
    assert places(path)[-1].name == "step-000000003"


def test_a_damaged_state_is_told_and_the_one_before_is_taken(calm, run):
    newest = places(run)[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    found = train(run, resume=True)
    assert any("step-000000005" in note and "going back to the state before it" in note for note in found.notes)
    assert outcome(run) == calm


def test_if_no_state_is_whole_it_is_said(run):
    for place in places(run):
        (place / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no saved state in .* is whole"):
        train(run, resume=True)


def test_a_state_of_a_newer_version_is_not_skipped(run):
    card = places(run)[-1] / "state.json"
    content = json.loads(card.read_text())
    content["state"]["format"] = states.FORMAT + 1
    card.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="newer xclimb"):
        train(run, resume=True)


def test_nan_labels_are_gaps_and_empty_frames_are_named(tmp_path):
    energy, offsets = TRAIN.energy.copy(), TRAIN.offsets.copy()
    energy[3], offsets[-2] = np.nan, offsets[-1]
    found = train(tmp_path / "a", train=TRAIN.replace(energy=energy), epochs=1)
    assert np.isfinite(found.history[-1]["train"]["loss"])
    with pytest.raises(DataError, match=r"training frame f0-9 has no atoms"):
        train(tmp_path / "b", train=TRAIN.replace(offsets=offsets))
    assert not (tmp_path / "b").exists()


def test_crystals_over_the_budget_are_trained_on_alone_and_told(tmp_path):
    found = train(tmp_path / "run", epochs=1, batch_atoms=1)
    assert found.history[-1]["step"] == len(TRAIN)
    assert any("10 training frames over the budget batch_atoms=1" in note for note in found.notes)


NO_ROOM = "cannot write .*: make room or give rights; the state at step 3 is whole, go on from it with --resume"


def stopped_by_no_room(run, **more):
    """Train until nothing can be written any more; what was saved before is whole."""
    with pytest.raises(TrainingError, match=NO_ROOM) as error:
        train(run, **more)
    assert "\n" not in str(error.value)
    assert places(run)[-1].name == "step-000000003"
    assert not list(run.rglob(".step*"))


def test_a_limit_on_files_stops_with_the_last_state_whole(calm, tmp_path):
    """Of all files of a run states are the largest: weights still fit, states no longer do."""
    run = tmp_path / "run"
    assert interrupted(run, 2) == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (run / "checkpoints" / "best" / "weights.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size, hard))
    try:
        stopped_by_no_room(run, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert outcome(train(run, resume=True).path) == calm


def mounted(place, size: int) -> bool:
    """Put a disk of so many bytes there, for this process alone; False where that is not allowed."""
    libc, new_mounts, new_user, private = ctypes.CDLL(None, use_errno=True), 0x20000, 0x10000000, 0x44000
    if libc.unshare(new_mounts) and libc.unshare(new_mounts | new_user):
        return False
    libc.mount(b"none", b"/", None, private, None)
    return libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, f"size={size}".encode()) == 0


def fill(file):
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(1 << 16)):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk in a namespace")
def test_a_full_disk_stops_with_the_last_state_whole(calm, tmp_path):
    disk, said = tmp_path / "disk", tmp_path / "said"
    disk.mkdir()

    def action():
        if not mounted(disk, 32 << 20):
            said.write_text("not allowed")
            return
        stopped_by_no_room(disk / "run", on_epoch=lambda line: line["epoch"] and fill(disk / "filler"))
        stopped_by_no_room(disk / "run", resume=True)
        (disk / "filler").unlink()
        assert outcome(train(disk / "run", resume=True).path) == calm

    ended = in_fork(action)
    if said.exists():
        pytest.skip("this process may not mount a disk")
    assert ended == 0


def test_a_folder_that_cannot_be_written_to(run, tmp_path):
    shutil.rmtree(run / "checkpoints" / "last")
    (run / "checkpoints" / "last").write_text("in the way")  # as good as read-only, also for root
    with pytest.raises((TrainingError, CheckpointError), match="last"):
        train(run, resume=True)
    assert places(run)
    assert read_json(run / "run.json")["state"] == "interrupted"
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TrainingError, match=r"cannot write .*: make room or give rights") as error:
        train(tmp_path / "file" / "run")
    assert "\n" not in str(error.value)


def test_a_clock_that_goes_backwards_changes_nothing(calm, monkeypatch, tmp_path):
    now = [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    assert outcome(train(tmp_path / "run").path) == calm


def test_no_memory_is_told_with_the_way_out(run, monkeypatch):
    def full(*args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("xclimb.training.trainer.train_step", full)
    with pytest.raises(TrainingError, match=r"out of memory at step 6: lower batch_atoms .* the state at step 5 is whole"):
        train(run, resume=True)
