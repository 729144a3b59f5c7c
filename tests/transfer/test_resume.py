"""Nothing is lost: killed at any moment and resumed, a run ends in the same bits."""

import os
import shutil
import signal

import pytest
from typer.testing import CliRunner

from training.tiny import rock_salts, toy
from transfer.disturbed import TRAIN, VAL, in_fork, interrupted, kill_at, outcome, places, train
from xclimb.cli import app
from xclimb.data.parquet import to_parquet
from xclimb.errors import ConfigError, DataError
from xclimb.files import read_json
from xclimb.runs.folder import RunFolder
from xclimb.transfer import session


def test_kill_9_at_any_moment(calm, tmp_path):
    path, first = tmp_path / "run", True
    # every write goes through fsync, and replace or rename: kills fall before, into and after writing of states and potentials
    for function, count in (("fsync", 3), ("replace", 4), ("fsync", 9), ("rename", 3), ("fsync", 8)):

        def action(function=function, count=count, first=first):
            kill_at(os, function, count)
            train(path, resume=not first, overwrite=first)

        assert in_fork(action) == -signal.SIGKILL
        first = not places(path) if (path / "checkpoints" / "states").exists() else True
    assert train(path, resume=not first, overwrite=first).interrupted is False
    assert outcome(path) == calm
    assert {place.name for place in (path / "checkpoints").iterdir()} == {"best", "last"}  # nothing half-written is left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_step(number, calm, tmp_path):
    path = tmp_path / "run"
    assert interrupted(path, 5, number, checkpoint_minutes=1000.0) == 0
    (place,) = places(path)  # saved because of the signal alone
    # the signal comes while step 5 is looked at; the step after it is the one that all processes end with
    assert place.name == "step-000000006"
    run = train(path, resume=True, checkpoint_minutes=1000.0)
    assert outcome(run.path) == calm


def test_two_ctrl_c_end_at_once_and_leave_the_last_state(calm, tmp_path):
    def action():
        kill_at(session.Guard, "record", 3, signal.SIGINT)
        kill_at(session.Session, "_save_if_due", 4, signal.SIGINT)  # the first call is of epoch 0
        train(tmp_path / "run")

    assert in_fork(action) == 1
    record = read_json(tmp_path / "run" / "run.json")
    assert record["state"] == "interrupted"
    assert "go on from it with --resume" in record["error"]
    assert outcome(train(tmp_path / "run", resume=True).path) == calm


def test_the_last_three_states_are_kept(run):
    assert [place.name for place in places(run)] == [f"step-00000000{n}" for n in (3, 4, 5)]


def test_without_a_saved_state_the_run_begins_anew(calm, run):
    shutil.rmtree(run / "checkpoints" / "states")
    train(run, resume=True)
    assert outcome(run) == calm


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"learning_rate": 0.1}, r"learning_rate \(was 0.001, now 0.1\)"),
        ({"batch_size": 2, "loss": {"force": 2}}, r"batch_size \(was 4, now 2\), loss.force \(was 1.0, now 2.0\)"),
        ({"method": "refit"}, r"method.name \(was 'residual', now 'refit'\)"),
        ({"epochs": 3}, r"epochs \(was 2, now 3\)"),
    ],
)
def test_changed_settings_are_named(run, changed, told):
    with pytest.raises(ConfigError, match=told):
        train(run, resume=True, **changed)
    assert len(places(run)) == 3


def test_how_a_run_is_carried_out_may_change(calm, run):
    train(run, resume=True, checkpoint_minutes=5.0, log_steps=1, loggers=["csv"], nonfinite="skip")
    assert outcome(run) == calm
    assert (run / "metrics.csv").read_text().count("\n") == 4
    assert read_json(run / "run.json")["settings"]["loggers"] == ["csv"]


def test_other_frames_are_refused(run):
    with pytest.raises(DataError, match="the train frames are not those"):
        train(run, resume=True, train=rock_salts(10, seed=3))


def test_a_finished_run_says_how_to_train_on(run, tmp_path):
    with pytest.raises(ConfigError, match="holds no run to go on with"):
        train(tmp_path / "nothing", resume=True)
    finished = train(run, resume=True)
    with pytest.raises(ConfigError, match=r"is finished: .* DATA --source .*/run --method frozen --epochs 3 --out .*/run-more"):
        train(run, resume=True, epochs=5)
    more = train(tmp_path / "more", source=run, method="frozen", epochs=3)  # that very way
    before = finished.metrics  # of the weights that were handed over, perhaps between two epochs
    assert more.history[0]["val"]["energy_mae"] == pytest.approx(before.energy_mae, rel=1e-4)
    assert more.history[0]["val"]["forces_mae"] == pytest.approx(before.forces_mae, rel=1e-4)
    assert more.history[-1]["epoch"] == 3


def test_one_process_at_a_time(run):
    folder = RunFolder(run, resume=True)
    folder.go_on((run / "config.yaml").read_text(), [], 0)
    try:
        with pytest.raises(ConfigError, match="another process is training in"):
            RunFolder(run, resume=True).go_on("", [], 0)
    finally:
        folder.release()


def test_every_optimizer_and_schedule_goes_on_to_the_bit(tmp_path):
    for name, settings in {
        "free": {"optimizer": "schedulefree", "schedule": "constant", "ema_decay": None, "method": "trainable"},
        "plateau": {"optimizer": "adamw", "weight_decay": 0.01, "schedule": "plateau", "accumulate": 2, "warmup_epochs": 0.5},
    }.items():
        settings |= {"batch_size": 5}
        whole = outcome(train(tmp_path / f"{name}-whole", **settings).path)
        assert interrupted(tmp_path / name, 2 if name == "free" else 1, **settings) == 0
        assert outcome(train(tmp_path / name, resume=True, **settings).path) == whole


def test_the_command_reads_the_data_where_the_run_did(tmp_path, monkeypatch):
    to_parquet(TRAIN, tmp_path / "train.parquet")
    to_parquet(VAL, tmp_path / "val.parquet")
    monkeypatch.chdir(tmp_path)
    settings = [word for name in ("epochs=2", "batch_size=4", "checkpoint_minutes=1000") for word in ("--set", name)]
    toy().save(tmp_path / "toy")
    words = ["transfer", "train.parquet", "--val", "val.parquet", "-f", "r2SCAN", "-s", "toy", "--out", "run", *settings]

    def action():
        kill_at(session.Guard, "record", 2, signal.SIGTERM)
        if CliRunner().invoke(app, words).exit_code != 130:
            raise AssertionError

    assert in_fork(action) == 0
    refused = CliRunner().invoke(app, ["transfer", "--resume", "run", "--set", "loss.energy=2"])
    assert refused.exit_code == 2
    assert "loss.energy (was 1.0, now 2.0)" in refused.output
    gone_on = CliRunner().invoke(app, ["transfer", "--resume", "run"])
    assert gone_on.exit_code == 0, gone_on.output
    assert read_json(tmp_path / "run" / "run.json")["state"] == "finished"
    assert CliRunner().invoke(app, ["transfer", "--resume", "nowhere"]).exit_code == 2
    assert CliRunner().invoke(app, ["transfer"]).exit_code == 2
