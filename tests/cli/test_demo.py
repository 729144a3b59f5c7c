"""The demo on a few of its frames: what it prints, leaves, continues and refuses."""

import json

import numpy as np
import pytest

import xclimb.demo
from xclimb.data.samples import load_sample
from xclimb.demo import Plan
from xclimb.errors import ConfigError


@pytest.fixture
def few(monkeypatch):
    """The demo's data cut down to twelve small crystals: eight to train on, two each for validation and test."""
    low, high = load_sample("dft_pairs", "PBE"), load_sample("dft_pairs", "r2SCAN")
    small = np.flatnonzero(high.n_atoms <= 2)
    _, place = np.unique(high.material_id[small], return_index=True)
    chosen = np.sort(small[place[:12]])
    ids = high.frame_id[chosen].tolist()
    monkeypatch.setattr(xclimb.demo, "load_pairs", lambda: (low[chosen], high[chosen]))
    monkeypatch.setattr(xclimb.demo, "load_sample_split", lambda name: (ids[:8], ids[8:10], ids[10:]))


def test_demo_shows_and_leaves_everything_and_can_be_repeated(few, xclimb_cli, tmp_path):
    words = ("demo", "--epochs", "0", "--workers", "1", "--out", "out")
    answer = xclimb_cli(*words)
    order = [
        "shift PBE to r2SCAN",
        "residual references",
        "without data, kept from before",
        "Test set",
        "on PBE: energy error",
        "report:",
    ]
    places = [answer.out.index(told) for told in order]
    assert places == sorted(places)
    for method in ("scratch", "trainable", "frozen", "refit", "l2sp", "chgnet-r2scan"):
        assert method in answer.out
    for name in ("report.html", "study.json", "results.json", "runs/l2sp-0/checkpoints/best/potential.json"):
        assert (tmp_path / "out" / name).exists()
    used = answer.out[answer.out.index("xclimb predict ") :].split()[2]
    assert (tmp_path / used / "run.json").exists()

    began = (tmp_path / "out" / "runs" / "l2sp-0" / "run.json").stat().st_mtime_ns
    xclimb_cli(*words)
    assert (tmp_path / "out" / "runs" / "l2sp-0" / "run.json").stat().st_mtime_ns == began  # finished runs are kept


def test_a_plan_knows_its_own_folder(tmp_path):
    plan = Plan(tmp_path / "demo", epochs=3)
    assert plan.prepare() is False
    assert plan.prepare() is False  # the same again: go on
    assert Plan(tmp_path / "demo", epochs=4).prepare() is True  # another demo: replace
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["epochs"] == 4


@pytest.mark.parametrize("kind", ["file", "foreign folder"])
def test_a_plan_refuses_what_is_not_its_own(tmp_path, kind):
    place = tmp_path / "thesis"
    if kind == "file":
        place.write_text("precious")
    else:
        place.mkdir()
        (place / "chapter.tex").write_text("precious")
    with pytest.raises(ConfigError, match="--out"):
        Plan(place).prepare()
    assert not (tmp_path / "thesis" / "demo.json").exists()
