"""The registry of methods, their settings, and the recipe for adding one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import xclimb
from training.tiny import toy
from transfer.disturbed import interrupted, outcome, train
from xclimb.cli import app
from xclimb.cli.options import run_settings
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.settings import parse_overrides
from xclimb.transfer.methods import METHODS, get_method, register, settings_of, settings_rows

ROOT = Path(__file__).resolve().parents[3]


def test_the_methods_of_the_paper_come_first_in_its_order():
    assert list(METHODS)[:5] == ["scratch", "trainable", "frozen", "refit", "l2sp"]
    assert [method.paper for method in METHODS.values()][:5] == [1, 2, 3, 4, None]
    assert all(method.summary and method.name == name for name, method in METHODS.items())


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'frozen' already"):
        register(get_method("frozen"))


def test_the_registry_imports_no_torch():
    code = "import sys, xclimb.transfer.methods; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("refitt", "unknown method 'refitt': did you mean 'refit'"),
        ({"name": 3}, "name of a method is text"),
        ({"name": "frozen", "references_lr": 0.1}, "method.references_lr has no effect with method 'frozen', .* 'trainable'"),
        ({"name": "trainable", "reference_lr": 0.1}, "'reference_lr' in method 'trainable': did you mean 'references_lr'"),
        ({"name": "trainable", "references_lr": 0}, "'references_lr' in method 'trainable' must be greater than 0"),
        ({"references_lr": 0.1}, "no effect with method 'l2sp'"),
    ],
)
def test_wrong_settings(method, message):
    with pytest.raises(ConfigError, match=message):
        TransferConfig(method=method)


@pytest.mark.parametrize(
    "values",
    [
        {"method": {"name": "trainable", "references_lr": 0.1}},
        {"method": "trainable", "method.references_lr": 0.1},
        {"method": "trainable", "references_lr": 0.1},  # as up to version 0.1
        parse_overrides(["method=trainable", "method.references_lr=0.1"]),
        run_settings(None, {"method": "trainable"}, ["method.references_lr=0.1"]),
    ],
)
def test_every_spelling_is_the_same(values, tmp_path):
    config = TransferConfig.build(values)
    assert config.method == settings_of({"name": "trainable", "references_lr": 0.1})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert yaml.safe_load(config.to_yaml())["method"] == {"name": "trainable", "references_lr": 0.1}
    assert TransferConfig.load(tmp_path / "config.yaml") == config


def test_another_name_leaves_the_settings_behind(tmp_path):
    (tmp_path / "c.yaml").write_text("method: {name: trainable, references_lr: 0.1}\n")
    assert TransferConfig.build(run_settings(tmp_path / "c.yaml", {"method": "refit"}, [])).method.name == "refit"
    with pytest.raises(ConfigError, match="given twice"):
        run_settings(None, {"method": "refit"}, ["method.name=frozen"])


def test_a_run_of_version_0_1_goes_on(run, calm):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"method": config["method"]["name"], "references_lr": None}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert outcome(train(run, resume=True).path) == calm


@pytest.fixture
def anchored(tmp_path, monkeypatch):
    """The method of the recipe, from a file like one in the folder of the methods."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## Adding a method", 1)[1]
    (tmp_path / "anchored_method.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1))
    monkeypatch.syspath_prepend(tmp_path)
    __import__("anchored_method")
    yield METHODS["anchored"]
    del METHODS["anchored"], sys.modules["anchored_method"]


def test_a_new_method_is_one_file(anchored, tmp_path):
    for words in (["transfer", "--help"], ["study", "methods", "--help"], ["models", "--methods"]):
        assert "anchored" in CliRunner().invoke(app, words).output
    assert ("anchored", "method.strength") in [row[:2] for row in settings_rows()]
    strong = {"method": {"name": "anchored", "strength": 1e6}, "learning_rate": 1e-4}
    whole = train(tmp_path / "whole", **strong)
    assert whole.method == "anchored"
    moved = distance(xclimb.load(whole.path / "checkpoints" / "last"))
    free = train(tmp_path / "free", **strong | {"method": {"name": "anchored", "strength": 0.0}})
    assert moved < 0.7 * distance(xclimb.load(free.path / "checkpoints" / "last"))
    plain = train(tmp_path / "plain", method="residual", learning_rate=1e-4)
    assert outcome(free.path) == outcome(plain.path)  # no penalty, nothing else changed
    assert interrupted(tmp_path / "half", 3, **strong) == 0
    shutil.copytree(tmp_path / "half", tmp_path / "again")
    assert outcome(train(tmp_path / "again", resume=True, **strong).path) == outcome(whole.path)
    with pytest.raises(ConfigError, match=r"method.strength \(was 1000000.0, now 0.001\)"):
        train(tmp_path / "half", resume=True, **strong | {"method": "anchored"})


def distance(potential) -> float:
    """Of the weights from those of the source."""
    before = toy().model.state_dict()
    return sum(float((value - before[name]).square().sum()) for name, value in potential.model.state_dict().items())
