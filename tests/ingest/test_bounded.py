"""Files that unpack to far more than they seem, or are built to fill the memory: one sentence, and little memory."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from ingest.test_vasp import run
from xclimb.errors import DataError
from xclimb.formats import compressed, extxyz
from xclimb.formats.vasp import xml
from xclimb.ingest import ingest, read, tasks

HEADER = b'2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 energy=-1.0\n'
ATOMS = b"Cu 0 0 0\nCu 2 2 2\n"
SCRIPT = """
import resource, sys
from xclimb.errors import DataError
from xclimb.formats import extxyz
from xclimb.formats.vasp import xml
from xclimb.ingest import read
extxyz.MAX_LINE, xml.MAX_BYTES, xml.MAX_ELEMENTS = 2_000_000, 20_000_000, 200_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(sys.argv[1], "PBE")
except DataError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""


def bomb(path, begin, filler, times):
    """A gzip file that unpacks to ``times`` fillers behind its beginning."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(times):
            file.write(filler)
    return path


@pytest.mark.parametrize(
    ("name", "begin", "filler", "times", "sentence"),
    [
        ("line.extxyz.gz", HEADER + b"Cu 0 0 ", b"0" * 1_000_000, 200, "a line of more than 2,000,000 bytes"),
        ("vasprun.xml.gz", b'<?xml version="1.0"?>\n<modeling>\n<x>', b"<a/>" * 250_000, 40, "200,000 XML elements"),
        ("text.xml.gz", b'<?xml version="1.0"?>\n<modeling>\n<x>', b" " * 1_000_000, 200, "20,000,000 bytes"),
    ],
)
def test_little_memory_is_used(tmp_path, name, begin, filler, times, sentence):
    path = bomb(tmp_path / name, begin, filler, times)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path)]
    told, used = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert sentence in told
    assert str(path) in told
    assert int(used) < 200  # MB


def test_a_ratio_that_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "MAX_UNPACKED", 100_000)
    monkeypatch.setattr(compressed, "MAX_RATIO", 20)
    path = bomb(tmp_path / "a.extxyz.gz", b"", HEADER + ATOMS, 20_000)
    summary = ingest(path, tmp_path / "store", checks={"duplicate": "off"})
    assert summary.n_out > 500
    assert "20 times its size: unpack it first" in summary.rejects_path.read_text()
    path = bomb(tmp_path / "a.json.gz", b'[{"structure": {"lattice": {', b" " * 10_000, 1000)
    with pytest.raises(DataError, match=r"a.json.gz cannot be read after record 0 \(unpacks to more than"):
        read(path)
    path = bomb(tmp_path / "a.cif.gz", b"data_a\n", b"# nothing\n" * 1000, 1000)
    with pytest.raises(DataError, match=r"a.cif.gz cannot be read as cif from its start \(unpacks to more than"):
        read(path)


def test_a_small_file_of_very_many_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "_HELD", 200_000)
    path = bomb(tmp_path / "a.extxyz.gz", b"", HEADER + ATOMS, 5000)
    summary = ingest(path, tmp_path / "store", checks={"duplicate": "off"})
    assert summary.reasons == {"file cannot be read": 1}
    assert "unpack it first, it is streamed then" in summary.rejects_path.read_text()
    (tmp_path / "a.extxyz").write_bytes((HEADER + ATOMS) * 10)
    monkeypatch.setattr(tasks, "_WHOLE", 0)
    assert ingest(tmp_path / "a.extxyz", tmp_path / "other", checks={"duplicate": "off"}).n_out == 10


def test_the_order_and_values_of_an_honest_file(tmp_path, monkeypatch):
    monkeypatch.setattr(extxyz, "_AT_ONCE", 300)
    many = []
    for n in range(7):
        atoms = bulk("Cu", cubic=True).repeat((1, 1, 1 + n % 2))
        atoms.info["energy"] = -1.0 - n
        many.append(atoms)
    write(tmp_path / "a.extxyz", many)
    text = (tmp_path / "a.extxyz").read_bytes() + b"\n \n"
    for name, content in (("b.extxyz", text), ("b.extxyz.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(content)
        frames = read(tmp_path / name, "PBE")
        np.testing.assert_array_equal(frames.energy, [-1.0 - n for n in range(7)])
        assert frames.n_atoms.tolist() == [4, 8, 4, 8, 4, 8, 4]


@pytest.mark.parametrize("tail", [b"what is this\n", b"2\n", HEADER + b"Cu 0 0 0\n", b"-3\n"])
def test_frames_before_the_break_are_kept(tmp_path, tail):
    path = tmp_path / "a.extxyz"
    path.write_bytes((HEADER + ATOMS) * 3 + tail)
    summary = ingest(path, tmp_path / "store", checks={"duplicate": "off"})
    assert (summary.n_out, summary.reasons) == (3, {"file cannot be read": 1})
    assert "cannot be read as extxyz after frame 3" in summary.rejects_path.read_text()


def test_tables_that_no_frame_needs_are_not_parsed(tmp_path, monkeypatch):
    folder = run(tmp_path / "a")
    path = folder / "vasprun.xml.gz"
    text = gzip.decompress(path.read_bytes())
    tables = b"<dos><total>" + b"<r>0 0</r>" * 1000 + b"</total></dos><projected><eigenvalues><r/></eigenvalues>"
    tables += b"<array><r> & not XML </r></array></projected><eigenvalues><array/></eigenvalues>"
    energy = b'<energy><i name="e_fr_energy">-9.5'
    path.write_bytes(gzip.compress(text.replace(energy, tables + energy)))
    monkeypatch.setattr(xml, "MAX_ELEMENTS", 200)
    for block in (1_000_000, 100, 7):
        monkeypatch.setattr(xml, "_BLOCK", block)
        assert len(read(folder)) == 2
    monkeypatch.setattr(xml, "MAX_ELEMENTS", 20)
    with pytest.raises(DataError, match=r"vasprun.xml.gz has a part of more than 20 XML elements"):
        read(folder)
