import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Molecule, Structure

from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError


def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    return atoms


def test_constraints_do_not_zero_forces():
    atoms = copper()
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    atoms.calc = EMT()
    atoms.get_potential_energy()
    forces = Frames.from_ase(atoms).forces
    np.testing.assert_array_equal(forces, atoms.get_forces(apply_constraint=False))
    assert np.abs(forces).max() > 0.01


def test_results_of_another_geometry_are_no_labels():
    atoms = copper()
    atoms.calc = EMT()
    atoms.get_potential_energy()
    assert Frames.from_ase(atoms).has("energy")
    atoms.positions[0] += 0.1
    assert not Frames.from_ase(atoms).has("energy")


def test_nothing_is_computed():
    atoms = copper()
    atoms.calc = EMT()
    assert not Frames.from_ase(atoms).has("energy")


@pytest.mark.parametrize("voigt", [True, False])
def test_stress_as_voigt_or_tensor(voigt):
    atoms = copper()
    full = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    atoms.calc = SinglePointCalculator(atoms, stress=np.array([1.0, 2, 3, 4, 5, 6]) if voigt else full)
    np.testing.assert_array_equal(Frames.from_ase(atoms).stress[0], full)


def test_labels_in_info_and_arrays():
    atoms = copper()
    atoms.info |= {"energy": -1.5, "stress": np.arange(9.0)}
    atoms.arrays |= {"forces": np.ones((4, 3)), "magmoms": np.full(4, 2.0)}
    frames = Frames.from_ase(atoms)
    assert frames.energy.tolist() == [-1.5]
    np.testing.assert_array_equal(frames.stress[0], np.arange(9.0).reshape(3, 3))
    np.testing.assert_array_equal(frames.magmoms, np.full(4, 2.0))


def test_energy_key_takes_its_prefix_along():
    atoms = copper()
    atoms.info |= {"energy": -1.0, "REF_energy": -2.0}
    atoms.arrays |= {"forces": np.ones((4, 3)), "REF_forces": np.full((4, 3), 7.0)}
    from xclimb.data.convert import from_ase

    frames = from_ase(atoms, keys=LabelKeys(energy="REF_energy"))
    assert frames.energy.tolist() == [-2.0]
    np.testing.assert_array_equal(frames.forces, np.full((4, 3), 7.0))
    assert not frames.has("stress")


def test_ids_functional_and_extras_from_info():
    many = [copper(), copper()]
    many[0].info |= {"frame_id": 7, "mp_id": "mp-30", "functional": "r2scan", "kind": "eq", "step": 3, "notes": [1, 2]}
    many[1].info |= {"functional": "R2SCAN", "step": 4}
    frames = Frames.from_ase(many)
    assert frames.frame_id.tolist() == ["7", "frame-1"]
    assert frames.material_id.tolist() == ["mp-30", "Cu"]
    assert frames.theory == LevelOfTheory("r2SCAN")
    assert frames.extras["kind"].tolist() == ["eq", ""]
    assert frames.extras["step"].tolist() == [3, 4]
    assert set(frames.extras) == {"kind", "step"}


def test_two_functionals_in_one_set():
    many = [copper(), copper()]
    many[0].info["functional"] = "PBE"
    with pytest.raises(TheoryError, match=r"different functionals \(None, PBE\)"):
        Frames.from_ase(many)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("forces", np.zeros((3, 3)), r"frame 0 \(Cu4\): forces has shape \(3, 3\), expected \(4, 3\)"),
        ("stress", np.zeros(4), "stress has shape"),
        ("energy", "low", "energy is no number"),
    ],
)
def test_labels_of_the_wrong_kind(name, value, told):
    atoms = copper()
    atoms.info[name] = value
    with pytest.raises(DataError, match=told):
        Frames.from_ase(atoms)


def test_molecules_have_no_cell():
    frames = Frames.from_ase(molecule("H2O"))
    assert not frames.pbc.any()
    assert frames.formulas().tolist() == ["H2O"]
    with pytest.raises(DataError, match=r"not periodic.*to_ase"):
        frames.to_pymatgen()
    water = Frames.from_pymatgen(Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0, 1], [0, 1, 0]]))
    assert water.n_atoms.tolist() == [3]


def test_partial_occupancies_are_refused():
    alloy = Structure(Lattice.cubic(3.0), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(DataError, match="partial occupancies"):
        Frames.from_pymatgen(alloy)


def test_incomplete_labels_are_left_out_of_atoms():
    frames = Frames.from_ase(copper()).replace(energy=np.array([-1.0]))
    results = frames.to_ase()[0].calc.results
    assert set(results) == {"energy"}
