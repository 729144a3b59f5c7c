"""Effects of the findings of an audit of the whole set: listed, left out, refused; and when it is interrupted."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data.made import crystals, same
from xclimb.data.parquet import to_parquet
from xclimb.data.store import open_store
from xclimb.errors import DataError, XclimbWarning
from xclimb.ingest import ingest, retry
from xclimb.ingest.audit import resolve_checks
from xclimb.ingest.set_audit import Findings, Group, WrongUnit, is_comparable

OFF = {"duplicate": "off"}


@pytest.fixture
def compare(monkeypatch):
    """Replaces the comparison with a potential by a function."""

    def replace(function):
        monkeypatch.setattr("xclimb.ingest.model_audit.ModelAudit", lambda potential: function)

    return replace


def files(tmp_path):
    """Forty frames in one file, three each in ten more."""
    to_parquet(crystals(sizes=(2,), copies=40), tmp_path / "large.parquet")
    for n in range(10):
        frames, names = crystals(), np.array([f"{n}a", f"{n}b", f"{n}c"])
        to_parquet(frames.replace(frame_id=names, energy=frames.energy + 0.01 * n), tmp_path / f"small-{n}.parquet")
    return sorted(tmp_path.glob("*.parquet"))


def test_groups_and_frames_of_the_files(tmp_path, compare):
    seen = {}

    def audit(parts, groups, checks, limits):
        seen.update({group.name.rpartition("/")[2]: group.rows.tolist() for group in groups})
        seen["frames"] = sum(map(len, parts))
        return Findings(outliers={41: "far"})

    compare(audit)
    summary = ingest(files(tmp_path), tmp_path / "store", checks=OFF, potential="chgnet-0.3.0")
    assert seen["frames"] == 70
    assert seen["large.parquet"] == list(range(40))
    assert seen["small-0.parquet, ...)"] == list(range(40, 70))
    assert summary.warned == {"energy is an outlier": 1}
    assert "small-0.parquet,0b,-1,energy is an outlier,far" in (summary.path / "warnings.csv").read_text()


def test_what_is_rejected_is_left_out_and_can_be_tried_again(tmp_path, compare):
    def audit(parts, groups, checks, limits):
        return Findings(outliers={0: "far", 69: "far"})

    compare(audit)
    paths = files(tmp_path)
    whole = ingest(paths, tmp_path / "whole", checks=OFF)
    summary = ingest(paths, tmp_path / "store", checks=OFF | {"outlier": "reject"}, potential="chgnet-0.3.0")
    assert (summary.n_in, summary.n_out, summary.reasons) == (70, 68, {"energy is an outlier": 2})
    same(open_store(summary.path, verify=True), open_store(whole.path)[1:-1])
    manifest = json.loads((summary.path / "manifest.json").read_text())
    assert (manifest["frames"], manifest["provenance"]["frames_rejected"]) == (68, 2)
    again = retry(summary.rejects_path)
    assert (again.n_out, again.n_rejected) == (2, 0)
    assert set(open_store(summary.path).frame_id.tolist()) == set(open_store(whole.path).frame_id.tolist())


@pytest.mark.parametrize("action", ["reject", "warn"])
def test_wrong_units_end_the_ingest_or_are_warned_of(tmp_path, compare, action):
    def audit(parts, groups, checks, limits):
        return Findings([WrongUnit(groups[0], "forces", -1.0, False, "forces point backwards")])

    compare(audit)

    def run():
        return ingest(files(tmp_path), tmp_path / "store", checks=OFF | {"force-unit": action}, potential="chgnet-0.3.0")

    sentence = (
        r"large.parquet: forces point backwards; give force_unit='-eV/A' if that is so, or set the check force-unit to warn"
    )
    if action == "reject":
        with pytest.raises(DataError, match=sentence):
            run()
        assert not [path for path in tmp_path.iterdir() if "store" in path.name]
    else:
        with pytest.warns(XclimbWarning, match=sentence):
            summary = run()
        assert (summary.n_out, summary.warned) == (70, {"forces in another unit": 1})


def test_interrupted_in_the_audit_the_same_store_comes_out(tmp_path, compare):
    def audit(parts, groups, checks, limits):
        if not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        return Findings(outliers={3: "far"})

    compare(audit)
    paths, checks = files(tmp_path), OFF | {"outlier": "reject"}
    with pytest.raises(KeyboardInterrupt):
        ingest(paths, tmp_path / "a", checks=checks, potential="chgnet-0.3.0")
    assert not (tmp_path / "a").exists()
    ingest(paths, tmp_path / "a", checks=checks, potential="chgnet-0.3.0")
    ingest(paths, tmp_path / "b", checks=checks, potential="chgnet-0.3.0")
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    assert (tmp_path / "a" / "rejects.csv").read_bytes() == (tmp_path / "b" / "rejects.csv").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("potential", [None, "none"])
def test_without_a_potential_nothing_is_compared(tmp_path, compare, potential):
    compare(lambda *anything: pytest.fail("compared"))
    assert ingest(files(tmp_path), tmp_path / "store", checks=OFF, potential=potential).warned == {}


@pytest.mark.parametrize(
    ("kind", "size", "checks", "comparable"),
    [
        ("parquet", 3, {}, True),
        ("parquet", 2, {}, False),
        ("parquet", 3, {"energy-unit": "off", "force-unit": "off", "stress-unit": "off"}, False),
        ("vasprun", 15, {}, False),  # states its units, and too few for outliers
        ("vasprun", 16, {}, True),
        ("vasprun", 16, {"outlier": "off"}, False),
    ],
)
def test_a_potential_is_loaded_only_where_there_is_something_to_compare(kind, size, checks, comparable):
    frames = crystals(sizes=(2,), copies=size)
    groups = [Group("file", kind, np.arange(size))]
    assert is_comparable([frames], groups, resolve_checks(checks)) is comparable
    zeros = frames.replace(forces=np.zeros_like(frames.forces))
    assert is_comparable([zeros], groups, resolve_checks(checks)) is (size > 2)


def test_light_data_import_no_torch(tmp_path):
    """Two frames are too few for a comparison: ingest with a potential stays without torch."""
    to_parquet(crystals(sizes=(2,), copies=2), tmp_path / "a.parquet")
    code = (
        "import sys; from xclimb.ingest import ingest; "
        f"ingest({str(tmp_path / 'a.parquet')!r}, {str(tmp_path / 'store')!r}, potential='chgnet-0.3.0'); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
