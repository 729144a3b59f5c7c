"""Where numbers go: CSV, TensorBoard, the text of ``report --watch``, the page of the documentation."""

import csv
import importlib.util
import json
import shutil
import struct
import sys
import types
from pathlib import Path

import pytest

import xclimb
from training.tiny import rock_salts, toy
from xclimb.cli.watch import look, watch
from xclimb.config import TransferConfig
from xclimb.errors import CheckpointError, ConfigError
from xclimb.files import read_json, write_json
from xclimb.runs.loggers import WandbLog

ROOT = Path(__file__).parents[2]
FRAMES = {"train": rock_salts(6), "val": rock_salts(3, seed=1)}
SETTINGS = FRAMES | {"epochs": 2, "batch_size": 3, "progress": False, "log_steps": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that logs everywhere; Weights & Biases is a stand-in that notes what it is told."""
    told: list = []

    class Run:
        def log(self, numbers, step):
            told.append((step, numbers))

        def finish(self):
            told.append("finished")

    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: told.append(settings) or Run()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", fake)
        out = tmp_path_factory.mktemp("logs") / "run"
        made = xclimb.transfer(toy(), out=out, loggers=["csv", "tensorboard", "wandb"], **SETTINGS)
    return made, told


def test_csv_has_one_row_an_epoch(run):
    rows = list(csv.DictReader((run[0].path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert float(rows[2]["val/energy_mae"]) == run[0].history[2]["val"]["energy_mae"]
    assert rows[0]["train/loss"] == ""


def test_tensorboard_reads_the_same_numbers(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run[0].path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("val/loss")]
    assert losses == [(line["step"], pytest.approx(line["val"]["loss"])) for line in run[0].history]
    assert [event.step for event in events.Scalars("step/loss")] == [2, 4]


def test_wandb_is_offline_and_gets_the_same_numbers(run):
    made, told = run
    assert told[0]["mode"] == "offline"
    assert told[-1] == "finished"
    epochs = [numbers["val/loss"] for step, numbers in told[1:-1] if "val/loss" in numbers]
    assert epochs == [line["val"]["loss"] for line in made.history]


def test_wandb_itself_keeps_the_same_numbers_offline(run, tmp_path, capfd):
    """The real package, where it is installed: what its file holds, read back."""
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    log = WandbLog(TransferConfig(loggers=["wandb"]), tmp_path)
    for line in run[0].history:
        log.epoch(line, [])
    log.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content, place, losses = file.read_bytes(), 7, {}
    while place < len(content):  # a LevelDB log of one block: checksum, length and kind before each record
        _, length, kind = struct.unpack_from("<IHB", content, place)
        assert kind == 1
        record = Record.FromString(content[place + 7 : place + 7 + length])
        place += 7 + length
        found = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        if "val/loss" in found:
            losses[record.history.step.num] = found["val/loss"]
    assert losses == {line["step"]: line["val"]["loss"] for line in run[0].history}
    assert capfd.readouterr().err == ""


def test_steps_are_logged_every_so_many(run):
    lines = [json.loads(line) for line in (run[0].path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert set(lines[0]) == {"step", "epoch", "lr", "loss", "norm", "atoms_per_second"}


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_log_without_its_package_is_an_error(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    with pytest.raises(ConfigError, match=rf"xclimb\[{name}\]"):
        xclimb.transfer(toy(), out=tmp_path / "x", loggers=[name], **SETTINGS)
    assert not (tmp_path / "x").exists()


def test_watching_a_finished_run_shows_it_once(run, capsys):
    watch(run[0].path)
    shown = " ".join(capsys.readouterr().out.split())  # lines are broken where the path of the run is long
    assert "l2sp · finished · epoch 2 of 2" in shown
    assert "atoms/s" in shown
    assert f"{run[0].history[2]['val']['energy_mae']:.1f}" in shown


def test_watching_says_when_a_run_was_killed(run, capsys, tmp_path):
    path = shutil.copytree(run[0].path, tmp_path / "killed")
    write_json(path / "run.json", read_json(path / "run.json") | {"state": "running"})
    assert not look(path)["running"]
    watch(path)
    assert "no process is training here any more: go on with xclimb transfer --resume" in " ".join(
        capsys.readouterr().out.split()
    )


def test_watching_follows_until_the_end(run, capsys, monkeypatch, tmp_path):
    from xclimb.cli import watch as module

    path = shutil.copytree(run[0].path, tmp_path / "running")
    record, lines = read_json(path / "run.json"), (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    states = iter([(2, "running"), (2, "running"), (3, "running"), (3, "finished")])
    monkeypatch.setattr("xclimb.runs.folder.is_training", lambda path: True)

    def later(seconds=0.0):
        count, state = next(states)
        (path / "metrics.jsonl").write_text("".join(lines[:count]))
        write_json(path / "run.json", record | {"state": state})

    monkeypatch.setattr(module.time, "sleep", later)
    later()
    watch(path)
    shown = capsys.readouterr().out
    assert shown.count("l2sp · running") == 2  # once an epoch
    assert "minutes left" in shown
    assert shown.count("l2sp · finished") == 1


def test_watching_something_else_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="no complete run"):
        watch(tmp_path)


def test_the_documentation_lists_every_setting_as_it_is():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    page = (ROOT / "docs" / "training.md").read_text()
    assert build.settings_table() in page, "run: make docs"
    for name, _, reason in TransferConfig.describe():
        assert f"| `{name}` |" in page
        assert reason
