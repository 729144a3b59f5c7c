"""A second architecture, the one of CONTRIBUTING.md: registered from one file, it does all that the first one does."""

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import xclimb
from training.tiny import rock_salts
from transfer.disturbed import interrupted, outcome, train
from xclimb.cli import app
from xclimb.data.frames import Frames
from xclimb.errors import CheckpointError, ConfigError, XclimbWarning
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.models import base
from xclimb.models.zoo import fresh
from xclimb.report import write_report
from xclimb.study.methods import study_methods
from xclimb.testing import check_potential, tiny_crystals

ROOT = Path(__file__).parents[2]


@pytest.fixture
def filternet(tmp_path, monkeypatch):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding an architecture", 1)[1]
    (tmp_path / "filternet.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("filternet")
    yield xclimb.load("filternet-small")
    del base.ARCHITECTURES["filternet"], sys.modules["filternet"]


def test_it_keeps_the_contract(filternet):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)
        check_potential(filternet)


def test_it_is_eager_and_listed(filternet):
    described = filternet.describe()
    assert described["backend"] == "eager (no faster backend for Filternet)"
    assert (described["architecture"], described["cutoff"], described["bond_cutoff"]) == ("filternet", 5.0, None)
    assert "filternet-small" in CliRunner().invoke(app, ["models"]).output


def test_it_is_saved_and_loaded(filternet, tmp_path):
    atoms = tiny_crystals()["NaCl"]
    again = xclimb.load(filternet.save(tmp_path / "saved"))
    assert again.predict(atoms).energy == filternet.predict(atoms).energy
    kept = base.ARCHITECTURES.pop("filternet")
    with pytest.raises(CheckpointError, match="a network 'filternet', this xclimb knows chgnet"):
        xclimb.load(tmp_path / "saved")
    base.register(kept)
    with pytest.raises(ValueError, match="has the name 'filternet' already"):
        base.register(kept)
    assert fresh(filternet, 3).architecture.kind == "filternet"


def test_it_trains_and_resumes_to_the_bit(filternet, tmp_path):
    more = {"source": filternet, "learning_rate": 1e-3}
    whole = train(tmp_path / "whole", **more)
    assert whole.potential.architecture.kind == "filternet"
    assert interrupted(tmp_path / "half", 3, **more) == 0
    assert outcome(train(tmp_path / "half", resume=True, **more).path) == outcome(whole.path)


def test_it_is_studied_and_reported(filternet, tmp_path):
    high = rock_salts(12)
    low = high.replace(energy=high.energy + 1.0).with_theory(xclimb.LevelOfTheory("PBE"))
    ids = [high.frame_id[:8], high.frame_id[8:10], high.frame_id[10:]]
    settings = {"epochs": 1, "batch_size": 4, "progress": False}
    study_methods(low, high, ids, tmp_path / "s", methods=("residual",), seeds=(0,), source="filternet-small", **settings)
    page = write_report(tmp_path / "s")
    assert "filternet-small" in Path(page).read_text(encoding="utf-8")


def test_no_angles_without_a_bond_cutoff(monkeypatch):
    frames = Frames.from_ase(list(tiny_crystals().values()))
    with_angles = build_batch(frames, GraphSpec(5.0, 3.0))
    monkeypatch.setattr("xclimb.graph.batch.find_angles", None)  # not called
    without = build_batch(frames, GraphSpec(5.0))
    assert len(with_angles.first) > 0 == len(without.first) == without.n_short
    assert len(without.vectors) == len(with_angles.vectors)
    assert np.isclose(without.vectors.norm(dim=1).sum(), with_angles.vectors.norm(dim=1).sum())


def test_an_unknown_kind():
    with pytest.raises(ConfigError, match=r"unknown architecture 'chgnt'.*did you mean"):
        base.get_architecture("chgnt")
