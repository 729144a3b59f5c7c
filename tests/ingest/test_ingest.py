import bz2
import csv
import gzip
import json
import lzma

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from data.made import crystals, same
from xclimb.data.parquet import to_parquet
from xclimb.data.samples import load_sample
from xclimb.data.store import open_store
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest import Limits, ingest, read, retry


def rows(summary):
    with summary.rejects_path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_goes_through_whole(tmp_path):
    frames = load_sample()
    to_parquet(frames, tmp_path / "sample.parquet")
    summary = ingest(tmp_path / "sample.parquet", tmp_path / "store")
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (385, 385, 0)
    assert summary.theory == frames.theory
    same(open_store(tmp_path / "store", verify=True), frames)
    assert rows(summary) == []


def labelled(element):
    atoms = bulk(element)
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0)
    return atoms


def mixed_files(tmp_path):
    """Six frames in three files, three of them bad, and a file that breaks off after its first frame."""
    frames = crystals(copies=2, functional=None)
    forces = frames.forces.copy()
    forces[1] = 1e3
    to_parquet(frames.replace(forces=forces), tmp_path / "a.parquet")
    atoms = labelled("Cu")
    alloy = atoms.copy()
    alloy.info["occupancy"] = {"0": {"Cu": 0.5, "Au": 0.5}}
    wrong = atoms.copy()
    wrong.calc = SinglePointCalculator(wrong, magmoms=np.zeros((1, 2)))
    write(tmp_path / "b.json", [atoms])
    write(tmp_path / "c.extxyz", [atoms, wrong, atoms])
    path = tmp_path / "d.extxyz"
    write(path, [atoms, atoms])
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\nCu 0 0\n")
    return [tmp_path / name for name in ("a.parquet", "b.json", "c.extxyz", "d.extxyz")]


def test_counts_in_are_counts_out_and_rejected(tmp_path):
    summary = ingest(mixed_files(tmp_path), tmp_path / "store", "PBE")
    assert summary.n_in == summary.n_out + summary.n_rejected
    assert summary.n_out == len(open_store(tmp_path / "store"))
    listed = rows(summary)
    assert len(listed) == summary.n_rejected == sum(summary.reasons.values())
    assert [(row["frame_id"], row["index"], row["reason"]) for row in listed[:2]] == [
        ("f1", "1", "force too large"),
        ("c#1", "1", "unusable label"),
    ]
    assert listed[0]["file"].endswith("a.parquet")
    assert "1000" in listed[0]["detail"] or "eV/Å" in listed[0]["detail"]
    assert listed[-1]["reason"] == "file cannot be read"
    assert "d.extxyz" in listed[-1]["detail"]


def test_provenance_is_in_the_manifest(tmp_path):
    ingest(mixed_files(tmp_path), tmp_path / "store", "PBE")
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["theory"] == {"functional": "PBE"}
    assert [source["name"] for source in manifest["provenance"]["sources"]] == ["a.parquet", "b.json", "c.extxyz", "d.extxyz"]
    assert manifest["provenance"]["frames_rejected"] == manifest["provenance"]["rejects"]["force too large"] + 2


DAMAGE = {
    "cut.json.gz": lambda: gzip.compress(b"[" + 500 * b'{"a": 1}, ')[:12],
    "cut.extxyz.xz": lambda: lzma.compress(500 * b"1\n")[:20],
    "wrong.extxyz.xz": lambda: b"\xfd7zXZ\x00" + 60 * b"\x07",
    "cut.traj.bz2": lambda: bz2.compress(500 * b"1\n")[:14],
}


@pytest.mark.parametrize("name", [*DAMAGE, "nowhere.extxyz"])
def test_one_file_that_cannot_be_opened_does_not_stop_a_folder(tmp_path, name):
    data, bad = tmp_path / "data", tmp_path / "data" / "b" / name
    bad.parent.mkdir(parents=True)
    for one in ("a", "b/d"):
        write(data / f"{one}.extxyz", [labelled("Cu"), labelled("Al")])
    if name in DAMAGE:
        bad.write_bytes(DAMAGE[name]())
    else:
        bad.symlink_to(tmp_path / "gone.extxyz")
    summary = ingest(data, tmp_path / "store", "PBE")
    assert (summary.n_in, summary.n_out, summary.n_rejected) == (5, 4, 1)
    (row,) = rows(summary)
    assert (row["file"], row["index"], row["reason"]) == (str(bad), "-1", "file cannot be read")
    assert "cannot be opened (" in row["detail"]
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert [source["name"] for source in manifest["provenance"]["sources"]] == ["a.extxyz", "d.extxyz"]
    if name in DAMAGE:
        again = ingest(sorted(data.rglob("*.*")), tmp_path / "named", "PBE")  # one by one, as a shell names them
        assert (again.n_in, again.n_out, again.n_rejected) == (5, 4, 1)
    with pytest.raises(DataError, match="cannot be opened"):
        read(data)
    with pytest.warns(XclimbWarning, match="1 of 5 frames dropped"):
        assert len(read(data, strict=False)) == 4
    bad.unlink()
    write(tmp_path / "mended.extxyz", labelled("Ag"))
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(bad.suffix, bytes)
    bad.write_bytes(compress((tmp_path / "mended.extxyz").read_bytes()))
    mended = retry(summary.rejects_path)
    assert (mended.n_in, mended.n_out, len(open_store(tmp_path / "store"))) == (1, 1, 5)


def test_nothing_but_files_that_cannot_be_opened_is_an_error(tmp_path):
    for name in ("a.json.gz", "b.json.gz"):
        (tmp_path / name).write_bytes(DAMAGE["cut.json.gz"]())
    for what in (tmp_path / "a.json.gz", [tmp_path / "a.json.gz"]):
        with pytest.raises(DataError, match=r"a.json.gz cannot be opened \(.*: fetch or write it again$"):
            ingest(what, tmp_path / "store", "PBE")
    with pytest.raises(DataError, match="fetch or write it again; none of the 2 files can be"):
        ingest(tmp_path, tmp_path / "store", "PBE")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json.gz", "b.json.gz"]


def test_a_folder_says_what_it_passed_over(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    to_parquet(crystals(), data / "a.parquet")
    (data / "README.md").write_text("hello")
    for name in ("vasprun.xml", "OUTCAR", "POSCAR"):
        (data / name).write_text("<modeling>" if name == "vasprun.xml" else "vasp.6.3")
    summary = ingest(data, tmp_path / "store")
    assert {path.name for path in summary.passed} == {"README.md", "OUTCAR", "POSCAR"}
    assert (summary.files, summary.n_in, summary.n_out) == (2, 4, 3)


def test_existing_stores_are_kept_unless_told(tmp_path):
    to_parquet(crystals(), tmp_path / "a.parquet")
    ingest(tmp_path / "a.parquet", tmp_path / "store")
    with pytest.raises(DataError, match="is a store already"):
        ingest(tmp_path / "a.parquet", tmp_path / "store")
    to_parquet(crystals(copies=2), tmp_path / "a.parquet")
    assert ingest(tmp_path / "a.parquet", tmp_path / "store", overwrite=True).n_out == 6


def test_nothing_usable_leaves_the_reasons_and_no_store(tmp_path):
    frames = crystals()
    to_parquet(frames.replace(energy=np.full(3, np.inf)), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"none of the 3 frames can be used \(3 energy is not finite\), see .*store.rejects.csv"
    ):
        ingest(tmp_path / "a.parquet", tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "store.rejects.csv").read_text().count("energy is not finite") == 3


def test_levels_of_theory_do_not_mix_and_nothing_is_left(tmp_path):
    to_parquet(crystals(), tmp_path / "a.parquet")
    to_parquet(crystals(functional="PBE"), tmp_path / "b.parquet")
    with pytest.raises(TheoryError, match=r"several levels of theory: \w+ 1 file, \w+ 1; keep one"):
        ingest([tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "store")
    assert {path.name for path in tmp_path.iterdir()} == {"a.parquet", "b.parquet"}


def test_limits_names_and_progress(tmp_path, capsys):
    frames = crystals()
    to_parquet(frames.replace(forces=frames.forces + 150.0), tmp_path / "a.parquet")
    to_parquet(frames.replace(forces=frames.forces + 150.0), tmp_path / "b.parquet")
    with pytest.warns(XclimbWarning, match="3 frame ids stood"):
        summary = ingest(
            [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "store", limits=Limits(force=1e3), progress=True
        )
    assert summary.n_out == 6
    assert open_store(tmp_path / "store").frame_id.tolist() == ["f0", "f1", "f2", "b/f0", "b/f1", "b/f2"]
    assert "6 frames, 0 rejected" in capsys.readouterr().out
