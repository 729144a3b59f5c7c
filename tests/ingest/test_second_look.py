"""What is done about what a second look finds, whatever looks: listed, left out, refused; and when it is interrupted."""

import json

import numpy as np
import pytest

from data.made import crystals, same
from xclimb.data.parquet import to_parquet
from xclimb.data.store import open_store
from xclimb.errors import DataError, XclimbWarning
from xclimb.ingest import ingest, retry
from xclimb.ingest.set_audit import Findings, WrongUnit

OFF = {"duplicate": "off"}


def files(tmp_path):
    """Forty frames in one file, three each in ten more."""
    to_parquet(crystals(sizes=(2,), copies=40), tmp_path / "large.parquet")
    for n in range(10):
        frames, names = crystals(), np.array([f"{n}a", f"{n}b", f"{n}c"])
        to_parquet(frames.replace(frame_id=names, energy=frames.energy + 0.01 * n), tmp_path / f"small-{n}.parquet")
    return sorted(tmp_path.glob("*.parquet"))


def test_groups_and_frames_of_the_files(tmp_path):
    seen = {}

    def look(parts, groups, checks, limits):
        seen.update({group.name.rpartition("/")[2]: group.rows.tolist() for group in groups})
        seen["frames"] = sum(map(len, parts))
        return Findings(outliers={41: "far"})

    summary = ingest(files(tmp_path), tmp_path / "store", checks=OFF, look=look)
    assert seen["frames"] == 70
    assert seen["large.parquet"] == list(range(40))
    assert seen["small-0.parquet, ...)"] == list(range(40, 70))
    assert summary.warned == {"energy is an outlier": 1}
    assert "small-0.parquet,0b,-1,energy is an outlier,far" in (summary.path / "warnings.csv").read_text()


def test_what_is_rejected_is_left_out_and_can_be_tried_again(tmp_path):
    def look(parts, groups, checks, limits):
        return Findings(outliers={0: "far", 69: "far"})

    paths = files(tmp_path)
    whole = ingest(paths, tmp_path / "whole", checks=OFF)
    summary = ingest(paths, tmp_path / "store", checks=OFF | {"outlier": "reject"}, look=look)
    assert (summary.n_in, summary.n_out, summary.reasons) == (70, 68, {"energy is an outlier": 2})
    same(open_store(summary.path, verify=True), open_store(whole.path)[1:-1])
    manifest = json.loads((summary.path / "manifest.json").read_text())
    assert (manifest["frames"], manifest["provenance"]["frames_rejected"]) == (68, 2)
    again = retry(summary.rejects_path)
    assert (again.n_out, again.n_rejected) == (2, 0)
    assert set(open_store(summary.path).frame_id.tolist()) == set(open_store(whole.path).frame_id.tolist())


@pytest.mark.parametrize("action", ["reject", "warn"])
def test_wrong_units_end_the_ingest_or_are_warned_of(tmp_path, action):
    def look(parts, groups, checks, limits):
        return Findings([WrongUnit(groups[0], "forces", -1.0, False, "forces point backwards")])

    def run():
        return ingest(files(tmp_path), tmp_path / "store", checks=OFF | {"force-unit": action}, look=look)

    told = r"large.parquet: forces point backwards; give force_unit='-eV/A' if that is so, or set the check force-unit to warn"
    if action == "reject":
        with pytest.raises(DataError, match=told):
            run()
        assert not [path for path in tmp_path.iterdir() if "store" in path.name]
    else:
        with pytest.warns(XclimbWarning, match=told):
            summary = run()
        assert (summary.n_out, summary.warned) == (70, {"forces in another unit": 1})


def test_interrupted_while_looking_the_same_store_comes_out(tmp_path):
    def look(parts, groups, checks, limits):
        if not (tmp_path / "again").exists():
            (tmp_path / "again").touch()
            raise KeyboardInterrupt
        return Findings(outliers={3: "far"})

    paths, checks = files(tmp_path), OFF | {"outlier": "reject"}
    with pytest.raises(KeyboardInterrupt):
        ingest(paths, tmp_path / "a", checks=checks, look=look)
    assert not (tmp_path / "a").exists()
    ingest(paths, tmp_path / "a", checks=checks, look=look)
    ingest(paths, tmp_path / "b", checks=checks, look=look)
    assert (tmp_path / "a" / "manifest.json").read_bytes() == (tmp_path / "b" / "manifest.json").read_bytes()
    assert (tmp_path / "a" / "rejects.csv").read_bytes() == (tmp_path / "b" / "rejects.csv").read_bytes()
    assert not list(tmp_path.glob(".*"))
