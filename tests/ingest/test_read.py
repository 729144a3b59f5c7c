import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import write

from data.made import crystals, same
from xclimb.data.parquet import to_parquet
from xclimb.data.samples import load_sample
from xclimb.data.store_writer import write_store
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest import read


def labelled(energy=-3.0, **info):
    atoms = bulk("Cu", cubic=True)
    atoms.info |= info
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((4, 3), 0.1), stress=np.arange(6) / 100)
    return atoms


@pytest.mark.parametrize("name", ["a.extxyz", "a.xyz", "a.traj", "a.json", "a.extxyz.gz", "no_suffix", "wrong.cif"])
def test_formats_of_ase(tmp_path, name):
    kinds = {"no_suffix": "extxyz", "wrong.cif": "extxyz", "a.xyz": "extxyz"}
    write(tmp_path / name, [labelled(-3.0), labelled(-4.0)], format=kinds.get(name))
    frames = read(tmp_path / name, "r2SCAN")
    assert frames.energy.tolist() == [-3.0, -4.0]
    np.testing.assert_allclose(frames.forces, 0.1)
    np.testing.assert_allclose(frames.stress[1], [[0, 0.05, 0.04], [0.05, 0.01, 0.03], [0.04, 0.03, 0.02]])
    assert frames.theory == LevelOfTheory("r2SCAN")
    stem = name.split(".")[0]
    assert frames.frame_id.tolist() == [f"{stem}#0", f"{stem}#1"]
    assert frames.material_id.tolist() == ["Cu", "Cu"]


@pytest.mark.parametrize("name", ["a.db", "renamed"])
def test_rows_of_a_database(tmp_path, name):
    with connect(str(tmp_path / name), type="db") as database:
        atoms = labelled(-3.0)
        atoms.set_constraint(FixAtoms([0, 1]))
        database.write(atoms, material_id="m-1", frame_id="first", kind="eq", gap=0.5, data={"path": [1, 2]})
        database.write(labelled(-4.0), material_id="m-2", kind="rattle")
    frames = read(tmp_path / name, "PBE")
    assert frames.frame_id.tolist() == ["first", f"{name.split('.')[0]}#1"]
    assert frames.material_id.tolist() == ["m-1", "m-2"]
    np.testing.assert_allclose(frames.forces, 0.1)
    assert frames.extras["kind"].tolist() == ["eq", "rattle"]
    np.testing.assert_array_equal(frames.extras["gap"], [0.5, np.nan])


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "POSCAR.gz", "a.vasp"])
def test_structures_without_labels(tmp_path, name):
    write(tmp_path / name, bulk("NaCl", "rocksalt", a=5.64), format="vasp" if name == "POSCAR.gz" else None)
    frames = read(tmp_path / name, labels="ignored")
    assert frames.formulas().tolist() == ["NaCl"]
    assert not frames.has("energy")
    assert frames.theory.functional is None
    with pytest.raises(DataError, match=r"is bad: no label, a structure alone"):
        read(tmp_path / name)


def test_labels_that_are_ignored_cannot_be_wrong(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.info |= {"pbe_energy": "broken", "energy": -1.0, "kind": "eq"}
    atoms.arrays["forces"] = np.full((4, 3), 1e5)
    write(tmp_path / "a.extxyz", atoms)
    frames = read(tmp_path / "a.extxyz", labels="ignored")
    assert not any(frames.has(label) for label in ("energy", "forces"))
    assert frames.extras["kind"].tolist() == ["eq"]


def test_extxyz_keeps_ids_functional_and_extras(tmp_path):
    frames = load_sample().replace(extras={"rank": np.arange(385)})
    write(tmp_path / "sample.extxyz", frames.to_ase())
    back = read(tmp_path / "sample.extxyz")
    assert back.theory.functional == "r2SCAN"
    assert back.frame_id.tolist() == frames.frame_id.tolist()
    assert back.material_id.tolist() == frames.material_id.tolist()
    np.testing.assert_array_equal(back.extras["rank"], frames.extras["rank"])
    np.testing.assert_allclose(back.forces, frames.forces, atol=1e-7)
    np.testing.assert_allclose(back.energy, frames.energy, atol=1e-9)


def test_energy_key(tmp_path):
    atoms = labelled(-3.0, REF_energy=-7.0)
    atoms.arrays["REF_forces"] = np.full((4, 3), 0.7)
    write(tmp_path / "a.extxyz", [atoms, atoms])
    with pytest.warns(XclimbWarning, match=r"not read as labels: stress \(not under the key given\); .* stress_key='stress'"):
        frames = read(tmp_path / "a.extxyz", energy_key="REF_energy")
    assert frames.energy.tolist() == [-7.0, -7.0]
    np.testing.assert_allclose(frames.forces, 0.7)
    told = r"no frame has an energy under 'dft_energy'; its labels are .*REF_energy"
    with pytest.raises(DataError, match=told):
        read(tmp_path / "a.extxyz", energy_key="dft_energy", labels="optional")


def test_labels_under_other_names_are_pointed_out(tmp_path):
    atoms = bulk("Cu")
    atoms.info["MACE_energy"] = -7.0
    write(tmp_path / "a.extxyz", atoms)
    told = r"no label, not read as labels: MACE_energy \(unknown name\); to take one, give energy_key='MACE_energy'"
    with pytest.raises(DataError, match=told):
        read(tmp_path / "a.extxyz")
    assert read(tmp_path / "a.extxyz", energy_key="MACE_energy").energy.tolist() == [-7.0]


def test_the_parquet_sample(tmp_path):
    from importlib.resources import files

    path = files("xclimb.data.samples") / "dft_pairs.parquet"
    frames = read(str(path), functional="r2SCAN")
    same(frames, load_sample(functional="r2SCAN").with_theory(frames.theory))
    assert frames.theory.functional == "r2SCAN"
    with pytest.raises(DataError, match="holds labels of PBE"):
        read(str(path))
    with pytest.raises(TheoryError, match="no labels of HSE06"):
        read(str(path), "HSE06")


def test_parquet_whatever_it_is_called(tmp_path):
    frames = crystals(copies=3)
    to_parquet(frames, tmp_path / "data.bin")
    same(read(tmp_path / "data.bin"), frames)
    with pytest.raises(TheoryError, match="states r2SCAN but PBE was given"):
        read(tmp_path / "data.bin", functional="PBE")


def test_a_store(tmp_path):
    write_store(crystals(), tmp_path / "store")
    same(read(tmp_path / "store"), crystals())
    with pytest.raises(TheoryError, match="states r2SCAN but PBE was given"):
        read(tmp_path / "store", "PBE")
    with pytest.raises(DataError, match="is a part of a store: give its folder"):
        read(tmp_path / "store" / "atoms-00000.arrow")


def test_a_folder_of_everything(tmp_path):
    write(tmp_path / "a.extxyz", [labelled(-1.0, frame_id="one"), labelled(-2.0)])
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "a.traj", [labelled(-3.0)])
    to_parquet(crystals(functional=None), tmp_path / "deep" / "b.parquet")
    write_store(crystals(functional=None), tmp_path / "deep" / "store")
    for name in ("README.md", "slurm.out", "notes.txt", "table.json", ".hidden.xyz", "empty.xyz"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "{}\n")
    with pytest.warns(XclimbWarning, match="frame ids stood for another frame already"):
        frames = read(tmp_path, "PBE")
    assert frames.energy[:3].tolist() == [-1.0, -2.0, -3.0]
    ids = ["one", "a#1", "deep/a#0", "f0", "f1", "f2", "deep/store/f0", "deep/store/f1", "deep/store/f2"]
    assert frames.frame_id.tolist() == ids


def test_ids_that_occur_twice_in_a_file(tmp_path):
    write(tmp_path / "a.extxyz", [labelled(frame_id="x"), labelled(frame_id="x"), labelled(frame_id="x#1")])
    with pytest.warns(XclimbWarning, match="2 frame ids.*'x' the first"):
        frames = read(tmp_path / "a.extxyz")
    assert frames.frame_id.tolist() == ["x", "x#1", "x#1#1"]


def test_levels_of_theory(tmp_path):
    write(tmp_path / "a.extxyz", labelled(functional="PBE"))
    assert read(tmp_path / "a.extxyz").theory == LevelOfTheory("PBE")
    assert read(tmp_path / "a.extxyz", "GGA/GGA+U").theory == LevelOfTheory("GGA/GGA+U")
    whole = LevelOfTheory("PBE", code="VASP", pseudopotentials="PAW_PBE")
    assert read(tmp_path / "a.extxyz", theory=whole).theory == whole
    assert read(tmp_path / "a.extxyz", theory=LevelOfTheory(code="VASP")).theory == LevelOfTheory("PBE", code="VASP")
    with pytest.raises(TheoryError, match=r"a.extxyz states PBE but r2SCAN was given"):
        read(tmp_path / "a.extxyz", "r2SCAN")
    with pytest.raises(TheoryError, match="states PBE but r2SCAN"):
        read(tmp_path / "a.extxyz", theory=LevelOfTheory("r2SCAN"))
    with pytest.raises(TheoryError, match="disagree: give one"):
        read(tmp_path / "a.extxyz", "PBE", theory=LevelOfTheory("r2SCAN"))
    write(tmp_path / "b.extxyz", labelled(functional="r2SCAN"))
    with pytest.raises(TheoryError, match="PBE 1 file, r2SCAN 1; read one with only='PBE', or make a store"):
        read(tmp_path)


VASPRUN = """<?xml version="1.0"?>
<modeling>
 <incar>{incar}</incar>
 <atominfo><array name="atomtypes"><set>
  <rc><c>  1</c><c>Fe</c><c> 55.8</c><c> 8.0</c><c>  PAW_PBE Fe_pv 02Aug2007  </c></rc>
  <rc><c>  1</c><c>O </c><c> 16.0</c><c> 6.0</c><c>  PAW_PBE O 08Apr2002  </c></rc>
 </set></array></atominfo>
 <calculation></calculation>
 <i type="string" name="METAGGA">SCAN</i>
</modeling>
"""


@pytest.mark.parametrize(
    ("incar", "expected"),
    [
        ("", {"functional": "PBE"}),
        ('<i type="string" name="METAGGA">R2SCAN</i>', {"functional": "r2SCAN"}),
        ('<i type="string" name="METAGGA">--</i><i name="GGA">PS</i>', {"functional": "PBEsol"}),
        ('<i type="string" name="METAGGA">MBJ</i>', {"functional": None}),
        ('<i type="logical" name="LHFCALC"> T  </i>', {"functional": None}),
        ('<i type="int" name="IVDW">    12</i>', {"functional": "PBE", "dispersion": "D3(BJ)"}),
        (
            '<i type="logical" name="LDAU"> T  </i><v name="LDAUU"> 5.3 0.0</v>',
            {"functional": "PBE+U", "hubbard_u": {"Fe": 5.3}},
        ),
    ],
)
@pytest.mark.parametrize("opener", [open, gzip.open])
def test_what_a_vasprun_states(tmp_path, incar, expected, opener):
    from xclimb.formats.vasp.tags import vasprun_theory

    path = tmp_path / "vasprun.xml"
    with opener(path, "wt") as file:
        file.write(VASPRUN.format(incar=incar))
    theory = vasprun_theory(path)
    potcar = {"Fe": "PAW_PBE Fe_pv 02Aug2007", "O": "PAW_PBE O 08Apr2002"}
    rest = {"code": "VASP", "pseudopotentials": "PAW_PBE", "potcar": potcar, "energy_flavour": "e_0"}
    assert theory == LevelOfTheory(**(rest | expected))


# -- what cannot be read ------------------------------------------------------------------------------------------------


def bad_frames(tmp_path):
    many = [labelled(), labelled(), labelled(), labelled()]
    many[1].calc.results["forces"] = np.full((4, 3), 1e4)
    many[3].positions[1] = many[3].positions[0]
    many[3].calc = SinglePointCalculator(many[3], energy=-3.0)
    write(tmp_path / "bad.extxyz", many)
    return tmp_path / "bad.extxyz"


def test_bad_frames_are_refused_by_name(tmp_path):
    told = r"frame bad#1 \(number 1\) is bad: force too large, .*; 2 of 4 frames are: .*xclimb ingest.*strict=False"
    with pytest.raises(DataError, match=told):
        read(bad_frames(tmp_path))


def test_bad_frames_are_dropped_when_told(tmp_path):
    told = r"2 of 4 frames dropped \(1 force too large, 1 overlapping atoms\), bad#1 the first"
    with pytest.warns(XclimbWarning, match=told):
        frames = read(bad_frames(tmp_path), strict=False)
    assert frames.frame_id.tolist() == ["bad#0", "bad#2"]


def test_a_file_that_breaks_off(tmp_path):
    path = tmp_path / "cut.extxyz"
    write(path, [labelled(-1.0), labelled(-2.0), labelled(-3.0)])
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    with pytest.raises(DataError, match=r"cut.extxyz cannot be read as extxyz (after frame 2|from its start)"):
        read(path)


def parquet_bytes(tmp_path):
    return to_parquet(crystals(), tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.extxyz", lambda _: b"", r"is empty \(0 bytes\)"),
        ("notes.txt", lambda _: b"dear diary\n", "in no format with structures"),
        ("picture.png", lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100), "in no format with structures"),
        ("table.json", lambda _: b'{"a": 1}', "in no format with structures"),
        ("broken.cif", lambda _: b"data_x\nloop_\n_atom_site_fract_x\n", "broken.cif"),
        ("broken.traj", lambda _: b"- of UlmASE-Trajectory" + bytes(30), "broken.traj"),
        ("broken.db", lambda _: b"SQLite format 3\0" + bytes(90), "broken.db cannot be read as db from its start"),
        ("cut.xyz.gz", lambda _: gzip.compress(b"1\n\nH 0 0 0\n" * 2000)[:-60], "cut.xyz.gz"),
        ("cut.parquet", lambda path: parquet_bytes(path)[:-40], "damaged Parquet file"),
        ("flipped.parquet", lambda path: parquet_bytes(path).replace(b"PAR1", b"PAR1\xff\xff\xff", 1), "damaged Parquet file"),
        ("wrong.extxyz", lambda _: b"2\nProperties=species:S:1:pos:R:3\nQq 0 0 0\nH 0 0 1\n", "cannot be read as extxyz"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content(tmp_path))
    with pytest.raises(DataError, match=told) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.extxyz does not exist"):
        read(tmp_path / "nowhere.extxyz")
    with pytest.raises(DataError, match=r"has no file that can be read \(looked at 0\)"):
        read(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    with pytest.raises(DataError, match=r"looked at 1"):
        read(tmp_path)
    pq.write_table(
        pa.table({"numbers": [[1]], "cell": [[1.0] * 9], "positions": [[0.0] * 3]}).slice(0, 0), tmp_path / "none.parquet"
    )
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path / "none.parquet")
    write_store(crystals()[:0], tmp_path / "store")
    with pytest.raises(DataError, match="no frames that can be used"):
        read(tmp_path / "store")


@pytest.mark.parametrize("name", ["a.aselmdb", "renamed"])
def test_lmdb_databases(tmp_path, name):
    pytest.importorskip("lmdb")
    with connect(str(tmp_path / "a.aselmdb"), type="aselmdb") as database:
        for energy in (-3.0, -4.0):
            database.write(labelled(energy))
    (tmp_path / "a.aselmdb").rename(tmp_path / name)
    frames = read(tmp_path / name, "PBE")
    assert frames.energy.tolist() == [-3.0, -4.0]
    np.testing.assert_allclose(frames.forces, 0.1)
