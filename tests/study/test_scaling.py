"""The study of scaling: nested subsets, independent trials, a killed worker, verdict and page."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import xclimb
from report.synthetic import measured, metrics, write_study
from study.test_orphans import children
from training.tiny import rock_salts, toy
from xclimb.cli import app
from xclimb.errors import ConfigError
from xclimb.files import read_json
from xclimb.report import read_folder, write_report
from xclimb.runs.schema import read_results
from xclimb.study import get_study, verdict_of
from xclimb.study.run import make_plan
from xclimb.study.scaling import curves

SMALL = "--seeds 0 --set batch_size=8 --set audit_frames=0 --by frame --subsets frame --source toy --methods refit"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A small potential and frames in the working folder."""
    monkeypatch.chdir(tmp_path)
    toy().save(tmp_path / "toy")
    xclimb.export(rock_salts(24), tmp_path / "high.extxyz")


def run(words):
    answer = CliRunner().invoke(app, ["study", *words.split()])
    assert answer.exit_code == 0, answer.output
    return answer.output


def plan_of(**options):
    frames = rock_salts(60)
    ids = [frames.frame_id[:40], frames.frame_id[40:50], frames.frame_id[50:]]
    return make_plan(get_study("scaling"), frames, ids, seeds=(0, 1), epochs=2, options=options)


def test_subsets_are_nested_and_drawn_for_each_seed():
    trials = {one.name: one for one in get_study("scaling").trials(plan_of(sizes=[0, 10, 20], rule="steps"))}
    assert list(trials) == [f"{method}-{n}-{seed}" for n in (10, 20) for seed in (0, 1) for method in ("scratch", "refit")]
    rows = {name: set(one.rows.tolist()) for name, one in trials.items()}
    assert rows["refit-10-0"] < rows["refit-20-0"]
    assert rows["refit-10-0"] == rows["scratch-10-0"] != rows["refit-10-1"]
    assert (trials["refit-10-0"].config.epochs, trials["refit-20-0"].config.epochs) == (4, 2)
    by_default = get_study("scaling").trials(plan_of())
    assert sorted({len(one.rows) for one in by_default}) == [19, 40]


def test_bad_sizes_are_one_sentence():
    with pytest.raises(ConfigError, match="write 0,64,256"):
        plan_of(sizes="many")
    with pytest.raises(ConfigError, match="given twice"):
        get_study("scaling").trials(plan_of(sizes=[4, 4]))
    with pytest.raises(ConfigError, match="above 0"):
        get_study("scaling").trials(plan_of(sizes=[0]))


def test_independent_trials_give_the_table_of_the_whole_study(data, tmp_path):
    words = f"scaling high.extxyz --sizes 0,6,12 --epochs 1 {SMALL}"
    listed = run(f"{words} --dry-run")
    assert "2 trials" in listed
    assert "hours" in listed
    assert not (tmp_path / "studies").exists()
    run(f"{words} --prepare --out apart")
    for k in (1, 0):
        run(f"trial apart {k} --threads 1")
    assert "finished" in run("trial apart 0")  # a finished one is not repeated
    inodes = [(tmp_path / "apart/runs" / name / "run.json").stat().st_ino for name in ("refit-6-0", "refit-12-0")]
    run(f"{words} --out apart")
    assert inodes == [(tmp_path / "apart/runs" / name / "run.json").stat().st_ino for name in ("refit-6-0", "refit-12-0")]
    run(f"{words} --out whole")
    apart, whole = (read_results(tmp_path / name).model_dump() for name in ("apart", "whole"))
    assert apart == whole
    assert {(row["model"], row["n_train"]) for row in apart["rows"]} == {
        ("toy + informed references", 0),
        ("refit", 6),
        ("refit", 12),
    }
    answer = CliRunner().invoke(app, ["study", "trial", "apart", "2"])
    assert "count from 0 to 1" in answer.output


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are listed in /proc")
def test_a_killed_worker_costs_nothing(data, tmp_path):
    """A worker is killed in the middle: the trials that were running go on, and the table is that of an undisturbed study."""
    words = f"study scaling high.extxyz --sizes 6,12 --epochs 20 --workers 2 {SMALL}"
    command = [sys.executable, "-m", "xclimb", *words.split()]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", "calm"], cwd=tmp_path, env=alone, check=True, capture_output=True, timeout=300)
    with (tmp_path / "log").open("w") as log:
        study = subprocess.Popen([*command, "--out", "hit"], cwd=tmp_path, env=alone, stdout=log, stderr=log)
    file, deadline = tmp_path / "hit" / "runs" / "refit-12-0" / "metrics.jsonl", time.monotonic() + 150
    while not (file.exists() and file.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < deadline
        assert study.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    os.kill(children(study.pid)[-1], signal.SIGKILL)
    assert study.wait(300) == 0, (tmp_path / "log").read_text()
    assert read_results(tmp_path / "hit").model_dump() == read_results(tmp_path / "calm").model_dump()


def synthetic(folder):
    """A study folder with planted laws: scratch is twice as bad."""
    write_study(folder, methods=("scratch", "refit"), seeds=(0, 1, 2), kind="scaling", options={"sizes": [0, 64]})
    rng, rows = np.random.default_rng(0), []
    for split in ("val", "test"):
        rows += measured(metrics(rng, 52, 75), model="pbe", seed=None, kind="baseline", split=split, n_train=0)
        for model, a in (("scratch", 300.0), ("refit", 150.0)):
            for n in (64, 256, 1024, 4096):
                for seed in range(3):
                    error = a * n**-0.4 * np.exp(rng.normal(0, 0.03))
                    trial = {"model": model, "seed": seed, "kind": "method", "split": split, "n_train": n}
                    rows += measured(metrics(rng, error, error), **trial)
    (folder / "results.json").write_text(json.dumps({"rows": rows}))
    return folder


def test_the_verdict_is_what_a_planner_needs(tmp_path):
    folder = read_folder(synthetic(tmp_path / "s"))
    text = " ".join(verdict_of(folder))
    law = curves(folder, "energy_mae")["refit"].law
    assert law.slope[0] < 0.4 < law.slope[1]
    assert "structures with refit equal" in text
    assert "with scratch" in text
    assert "structures more (predicted there" in text
    get_study("scaling").finish(folder)
    entries = read_json(tmp_path / "s" / "scaling.json")
    assert {(one["method"], one["metric"], one["split"]) for one in entries} == {
        (method, metric, split)
        for method in ("scratch", "refit")
        for metric in ("energy_mae", "forces_mae")
        for split in ("val", "test")
    }


def test_the_page_shows_laws_and_says_what_is_not_reached(tmp_path):
    page = write_report(synthetic(tmp_path / "s")).read_text(encoding="utf-8")
    assert "Errors against the number of training structures" in page
    assert "not reached in range" in page
    drawn = json.loads(page.split('id="figures">', 1)[1].split("</script>", 1)[0])
    names = [trace.get("name") for trace in drawn["scaling"]["data"]]
    assert {"scratch", "refit", "N = 0: new references, no training"} <= set(names)
