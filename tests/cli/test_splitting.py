"""From a trajectory, or several, to a run with only the hints that are printed."""

import json

import numpy as np
import pytest

from data.made import crystals
from training.tiny import rock_salts, toy
from xclimb.cli.options import run_settings
from xclimb.config import TransferConfig
from xclimb.data.parquet import to_parquet
from xclimb.data.store_writer import write_store
from xclimb.files import read_json
from xclimb.runs.folder import read_run
from xclimb.study import get_study
from xclimb.study.run import make_plan

SMALL = ("-s", "toy", "--set", "batch_size=8", "--set", "audit_frames=0", "--epochs")


@pytest.fixture
def files(tmp_path):
    """A trajectory of one crystal, one of another, and a third that is kept for the test."""
    toy().save(tmp_path / "toy")
    frames = rock_salts(90)
    for kind, name in enumerate(("md", "other", "held")):
        some = frames[kind::3]
        stem = "held" if name == "held" else "f"  # two of them have the same ids
        to_parquet(some.replace(frame_id=np.array([f"{stem}{n}" for n in range(len(some))])), tmp_path / f"{name}.parquet")
    return tmp_path


def test_one_trajectory_leads_from_split_to_a_tested_run(xclimb_cli, files):
    said = xclimb_cli("split", "md.parquet", "-f", "r2SCAN")
    assert "blocks of frames were split instead (--by frame)" in said.err
    assert "2 frames between the blocks left out" in said.err
    assert len(json.loads((files / "md.split.json").read_text())["left_out"]) == 2
    (hint,) = (line for line in said.out.splitlines() if line.startswith("train:"))
    words = hint.split()[2:]
    assert words == ["transfer", "md.parquet", "-f", "r2SCAN", "--split", "md.split.json"]
    ended = xclimb_cli(*words, *SMALL, 1, "--out", "run")
    assert "test, before training" in ended.flat
    evaluation = read_json(files / "run" / "evaluation.json")
    assert set(evaluation) == {"val", "test"}
    assert set(evaluation["test"]) == {"before", "after"}
    assert evaluation["test"]["after"]["n_frames"] == 3
    run = read_run(files / "run")
    assert run.test["after"].energy_mae == pytest.approx(evaluation["test"]["after"]["energy_mae"])
    xclimb_cli("report", "run")
    assert "test" in (files / "run" / "report.html").read_text()
    assert "already" in xclimb_cli("split", "md.parquet", status=2).err


def test_several_data_and_a_test_set(xclimb_cli, files):
    words = ("md.parquet", "other.parquet", "-f", "r2SCAN", "--val-fraction", "0.2", "--by", "frame", "--test", "held.parquet")
    ended = xclimb_cli("transfer", *words, *SMALL, 0, "--out", "run")
    assert "30 frame ids stood for another frame already" in ended.err
    record = read_json(files / "run" / "run.json")
    counts = {name: found["frames"] for name, found in record["data"].items()}
    assert counts == {"train": 46, "val": 12, "test": 30}
    assert record["settings"]["validation"] == {
        "by": "frame",
        "group": "structure",
        "fraction": 0.2,
        "cover": True,
        "folds": None,
        "gap": None,
    }
    assert record["inputs"]["data"] == ["md.parquet", "other.parquet"]
    assert record["threads"] >= 1
    before = (files / "run" / "run.json").read_bytes()
    assert "finished already: run" in xclimb_cli("transfer", "--resume", "run").err  # of a job that was queued again
    assert (files / "run" / "run.json").read_bytes() == before
    told = xclimb_cli("transfer", "--resume", "run", "--epochs", 3, status=2).err
    assert "md.parquet other.parquet --functional r2SCAN --test held.parquet --source run --method frozen --epochs 3" in told


def test_one_trajectory_just_trains(xclimb_cli, files):
    ended = xclimb_cli("transfer", "md.parquet", "-f", "r2SCAN", *SMALL, 0, "--out", "run")
    assert "1 material cannot be split into 2 parts without leaks" in ended.err
    told = xclimb_cli("transfer", "md.parquet", "-f", "r2SCAN", "--by", "material", *SMALL, 0, "--out", "new", status=2).err
    assert "1 material cannot be split into 2 parts" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--val", "other.parquet", "--by", "frame"), "validation.by has no effect where validation frames are given"),
        (("--split", "md.split.json", "--test", "held.parquet"), "both say which frames are held out"),
        (("--test", "md.parquet", "--val", "held.parquet"), "in the training set and in the test set as well"),
        (("--set", "lr=0.1"), "did you mean 'learning_rate'?"),
        (("--set", "forces_weight=10"), "did you mean 'loss.force'?"),
    ],
)
def test_what_contradicts_itself_is_refused(xclimb_cli, files, words, told):
    assert told in xclimb_cli("transfer", "md.parquet", "-f", "r2SCAN", *words, *SMALL, 0, "--out", "run", status=2).err


def test_a_store_keeps_its_split_and_says_how_to_train_on_it(xclimb_cli, tmp_path):
    write_store(crystals(copies=20, materials=[f"m{n // 3}" for n in range(60)]), tmp_path / "store")
    said = xclimb_cli("split", "store", "--group", "ids", "--val-fraction", "0.2", "--no-cover")
    assert "xclimb transfer store:train --test store:test" in said.out
    assert "store:val 12" in said.flat
    joined = xclimb_cli("split", "store", "--by", "frame", "--overwrite").err
    assert "18 material ids joined to another of the same crystal (m0 and m1, the first)" in joined


def test_ingest_names_a_crystal_under_two_ids(xclimb_cli, tmp_path):
    frames = rock_salts(6).replace(material_id=np.array([f"id-{n}" for n in range(6)]))
    to_parquet(frames, tmp_path / "data.parquet")
    said = xclimb_cli("ingest", "data.parquet", "--out", "store", "--potential", "none")
    assert "3 material ids of a crystal that has another id as well" in said.flat


def test_what_does_not_exist_is_said(xclimb_cli):
    assert "nowhere does not exist: give the folder" in xclimb_cli("report", "nowhere", status=2).err


def test_the_recipe_of_the_default_method_is_not_that_of_another(tmp_path):
    (tmp_path / "own.yaml").write_text("epochs: 3\n")
    settings = run_settings(tmp_path / "own.yaml", {"method": "residual"}, [])
    assert TransferConfig.build(settings).model_dump() == TransferConfig(method="residual", epochs=3).model_dump()
    assert TransferConfig.build(run_settings(tmp_path / "own.yaml", {}, [])).ema_decay is not None
    frames = rock_salts(3)
    study, ids = get_study("methods"), frames.frame_id[:, None]
    plan = make_plan(study, frames, ids, frames, ["frozen"], [0], "toy", 2, batch_size=8)
    (trial,) = study.trials(plan)
    assert trial.config == TransferConfig(source="toy", method="frozen", epochs=2, batch_size=8)
