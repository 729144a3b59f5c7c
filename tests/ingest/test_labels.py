"""Labels by name, on the way through read and ingest; patterns and lists of atoms as data."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import xclimb
from data.made import crystals, same
from ingest.corpus.extxyz import frame
from xclimb.data.label_schema import parse_key
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest import ingest, read


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("energy", ("energy", "", True)),
        ("REF_energy", ("energy", "ref", True)),
        ("dftForces", ("forces", "dft", True)),
        ("virials", ("virial", "", True)),
        ("energy_pbe", ("energy", "pbe", True)),
        ("MACE_energy", ("energy", "mace", False)),
        ("energy_above_hull", ("energy", "above_hull", False)),
        ("initial_magmoms", ("magmoms", "initial", False)),
        ("forcefield", None),
        ("kind", None),
    ],
)
def test_keys_are_taken_apart(key, expected):
    assert parse_key(key) == expected


def test_a_functional_in_the_names_is_the_level_of_theory(tmp_path):
    (tmp_path / "a.xyz").write_text(frame("r2scan_energy=-7.0"))
    assert read(tmp_path / "a.xyz").theory.functional == "r2SCAN"
    with pytest.raises(TheoryError, match="states r2SCAN but PBE was given"):
        read(tmp_path / "a.xyz", "PBE")


def test_a_label_that_is_left_is_a_warning_of_one_sentence(tmp_path):
    (tmp_path / "a.xyz").write_text(frame("energy=-7.0", "MACE_forces"))
    with pytest.warns(XclimbWarning, match="not read as labels: MACE_forces .* give forces_key='MACE_forces'"):
        assert not read(tmp_path / "a.xyz").has("forces")


def test_patterns(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.extxyz").write_text(frame("energy=-7.0", atoms=f"Cu 0 0 0 0 0 0\nCu 2 2 0 0 0 {ord(name)}e-3\n"))
    assert read(tmp_path / "*.extxyz").frame_id.tolist() == ["a#0", "b#0"]
    with pytest.raises(DataError, match=r"no file fits the pattern .*\*.traj"):
        read(tmp_path / "*.traj")


def labelled(energy, **info):
    atoms = bulk("Cu", cubic=True)
    atoms.info |= info
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((4, 3)))
    return atoms


def test_lists_of_atoms_are_data():
    frames = read([labelled(-3.0), labelled(-4.0, functional="PBE")][:1], functional="PBE")
    assert (frames.energy.tolist(), frames.theory.functional) == ([-3.0], "PBE")
    with pytest.raises(DataError, match=r"atoms: frame atoms#1 .* is bad: no label"):
        read([labelled(-3.0), bulk("Cu")])
    with pytest.raises(DataError, match="nothing to read: give a file, a folder, a pattern or a list of ASE atoms"):
        read([1, 2])
    same(read(crystals().to_ase()), crystals())


def test_public_functions_take_lists_of_atoms():
    low = [labelled(-3.0, functional="PBE", frame_id="x")]
    high = [labelled(-4.0, functional="r2SCAN", frame_id="x")]
    assert xclimb.shift(low, high).mean == -0.25
    assert xclimb.fit_references(high).energies["Cu"] == -1.0
    with pytest.raises(DataError, match=r"train must be Frames or a list of ASE atoms: xclimb.read\(\.\.\.\)"):
        xclimb.transfer(train=["data.extxyz"])
    with pytest.raises(TheoryError, match=r"functional of the training frames is not known: .*functional='r2SCAN'"):
        xclimb.transfer(train=[labelled(-3.0, frame_id="a")], val=[labelled(-3.1, frame_id="b")])


def test_a_folder_of_structures_says_so(tmp_path):
    write(tmp_path / "a.cif", bulk("Cu"))
    with pytest.raises(DataError, match=r"none of the 1 frames can be used \(1 no label\)"):
        ingest(tmp_path, tmp_path / "store")
