"""The registry of studies: the recipe of CONTRIBUTING.md for a new one, and trials that fail."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import xclimb
from training.tiny import rock_salts, toy
from xclimb.cli import app
from xclimb.errors import ConfigError
from xclimb.runs.schema import read_results
from xclimb.study import STUDIES, get_study, grid
from xclimb.study.run import run_study

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "batch_size=8", "--set", "audit_frames=0", "--epochs", "1", "--by", "frame", "--source", "toy"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A small potential and frames in the working folder."""
    monkeypatch.chdir(tmp_path)
    toy().save(tmp_path / "toy")
    for name, functional in (("low", "PBE"), ("high", "r2SCAN")):
        xclimb.export(rock_salts(24, functional=functional), tmp_path / f"{name}.extxyz")


@pytest.fixture
def rates(tmp_path, monkeypatch):
    """The study of the recipe, from a file like one in the folder of the studies."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding a study", 1)[1]
    (tmp_path / "rates_study.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("rates_study")
    yield
    del STUDIES["rates"], sys.modules["rates_study"]


def run(*words):
    return CliRunner().invoke(app, ["study", *words])


def test_a_new_study_is_one_file(files, rates, tmp_path):
    assert "rates" in run("--help").output
    assert "--factor" in run("rates", "--help").output
    words = ["rates", "high.extxyz", "--seeds", "0", "--factor", "3", "--count", "2", "--out", "s", *SMALL]
    answer = run(*words)
    assert answer.exit_code == 0, answer.output
    assert "The lowest validation error has residual" in answer.output
    rows = read_results(tmp_path / "s").select(kind="method", split="test", metric="energy_mae").rows
    assert [row.model for row in rows] == ["residual 1e-03", "residual 3e-04"]
    assert "The lowest validation error has residual" in (tmp_path / "s" / "report.html").read_text()
    with pytest.raises(ConfigError, match="did you mean 'factor'"):
        run_study("rates", rock_salts(3), [["f0-0"], ["f0-1"], ["f0-2"]], tmp_path / "t", source=toy(), options={"facto": 3})


def test_an_unknown_study_is_named():
    with pytest.raises(ConfigError, match="did you mean 'methods'"):
        get_study("method")


def test_a_broken_trial_is_named_and_the_others_finish(files, tmp_path, monkeypatch):
    original = grid.run_trial

    def broken(trial, *rest, **more):
        if trial.name == "residual-0":
            raise RuntimeError("no luck")
        return original(trial, *rest, **more)

    monkeypatch.setattr(grid, "run_trial", broken)
    words = ["methods", "low.extxyz", "high.extxyz", "--methods", "residual,frozen", "--seeds", "0"]
    answer = run(*words, "--out", "s", *SMALL)
    assert answer.exit_code == 2
    assert "The trial residual-0 failed and is not in the table: no luck." in answer.output
    table = read_results(tmp_path / "s")
    assert table.failed == {"residual-0": "no luck"}
    assert {row.model for row in table.select(kind="method").rows} == {"frozen"}
    assert "The trial residual-0 failed" in (tmp_path / "s" / "report.html").read_text()
    monkeypatch.setattr(grid, "run_trial", original)
    assert run(*words, "--out", "s", *SMALL).exit_code == 0
    assert {row.model for row in read_results(tmp_path / "s").select(kind="method").rows} == {"residual", "frozen"}
