"""The registry of formats: a new module is enough, documents and help read it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import xclimb.formats
from xclimb.cli import app
from xclimb.data.store import open_store, read_manifest
from xclimb.errors import ConfigError, DataError
from xclimb.formats import base, energy_names, format_of, formats, table
from xclimb.ingest import ingest, read
from xclimb.units import label_unit

ROOT = Path(__file__).parents[2]
RYDBERG, _ = label_unit("energy", "Ry")


def ingest_help():
    shown = CliRunner().invoke(app, ["ingest", "--help"], prog_name="xclimb", env={"COLUMNS": "160"}).stdout
    return " ".join(shown.split())


def forget():
    """The registry as it was before any module was asked for a format that a test added."""
    base.FORMATS.pop("lattix", None)
    sys.modules.pop("xclimb.formats.lattix", None)
    vars(xclimb.formats).pop("lattix", None)
    xclimb.formats._discover.cache_clear()


@pytest.fixture
def lattix(tmp_path, monkeypatch):
    """The format of CONTRIBUTING.md, as a new module of the package; nothing else is done."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding a format")[1].split("\n## ")[0]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "lattix.py").write_text(re.search(r"```python\n(.*?)```", recipe, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.setattr(xclimb.formats, "__path__", [*xclimb.formats.__path__, str(tmp_path / "modules")])
    forget()
    yield
    forget()


def frame(n):
    return {"numbers": [3, 17], "positions": [[0, 0, 0], [2.5 + 0.01 * n, 0, 0]], "cell": [[5, 0, 0], [0, 5, 0], [0, 0, 5]],
            "energy": -0.5 - 0.01 * n}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "runs"
    path.mkdir()
    (path / "a.txt").write_text("\n".join(["#lattix", *(json.dumps(frame(n)) for n in range(3))]) + "\n")
    (path / "notes.txt").write_text("nothing\n")
    return path


def test_a_new_module_is_read(lattix, folder):
    frames = read(folder / "a.txt", "PBE")
    np.testing.assert_allclose(frames.energy, [-0.5 * RYDBERG, -0.51 * RYDBERG, -0.52 * RYDBERG], rtol=1e-12)
    assert frames.frame_id.tolist() == ["a#0", "a#1", "a#2"]
    assert np.isnan(frames.forces).all()
    np.testing.assert_allclose(read(folder / "a.txt", "PBE", energy_unit="eV").energy, [-0.5, -0.51, -0.52], rtol=1e-12)


def test_a_new_module_is_ingested(lattix, folder, tmp_path):
    summary = ingest(folder, tmp_path / "store", "PBE")
    assert (summary.n_out, summary.n_rejected) == (3, 0)
    assert [path.name for path in summary.passed] == ["notes.txt"]
    assert read_manifest(tmp_path / "store")["provenance"]["sources"][0]["format"] == "lattix"
    np.testing.assert_allclose(open_store(tmp_path / "store").energy[0], -0.5 * RYDBERG, rtol=1e-12)


def test_frames_before_a_damaged_place_are_kept(lattix, folder, tmp_path):
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(text[:-20])
    summary = ingest(folder, tmp_path / "store", "PBE")
    assert (summary.n_out, summary.n_rejected) == (2, 1)
    with pytest.raises(DataError, match=r"a\.txt breaks off in frame 2"):
        read(folder, "PBE")


def test_a_new_module_is_in_the_help_and_the_table(lattix):
    assert "Lattix" in ingest_help()
    assert "| Lattix | structure, energy (Ry) |" in table()


def test_without_the_module_it_is_unknown(folder):
    with pytest.raises(DataError, match=r"a\.txt is in no format with structures that xclimb knows"):
        read(folder / "a.txt", "PBE")
    assert "Lattix" not in ingest_help()


def test_help_and_documents_list_every_format():
    shown = ingest_help().replace(" ", "")
    for one in formats():
        for what in one.reads:
            assert what.replace("`", "").replace(" ", "") in shown
    for program, names in energy_names().items():
        assert f"{'or'.join(names)}({program})" in shown
    assert table() in (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), "run python docs/build.py"


def test_kinds_belong_to_one_format():
    assert format_of("vasp-xml").units is None
    assert format_of("db").name == format_of("traj").name == "ase_db"
    assert format_of("cif").name == "ase"  # a name of ASE's that no other format claims
    assert format_of("records").units["stress"] == format_of("matpes").units["stress"] == "-kbar"
    with pytest.raises(ValueError, match="the format 'ase_db' has the name 'traj' already"):
        base.register(base.Format("traj", reads={}, iter=lambda source, options: iter(())))


def test_an_energy_that_no_format_has(folder):
    with pytest.raises(DataError, match=r"energy='zero': give uncorrected or corrected \(JSON\), e_0 or free \(VASP\)"):
        read(folder, energy="zero")


def test_units_of_a_format_that_states_them(tmp_path):
    (tmp_path / "vasprun.xml").write_text("<modeling></modeling>")
    with pytest.raises(ConfigError, match="states its units"):
        read(tmp_path / "vasprun.xml", "PBE", energy_unit="Ha")
