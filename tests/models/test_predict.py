"""What can be asked of a potential, what comes back, and the sentences for what cannot be answered."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Molecule, Structure

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError, ReferencesError, XclimbError, XclimbWarning
from xclimb.models.potential import Potential, Prediction, atom_batches
from xclimb.models.zoo import load
from xclimb.references import AtomRef
from xclimb.testing import tiny_crystals

CRYSTALS = tiny_crystals()
SALT, IRON, OXIDE = CRYSTALS["NaCl"], CRYSTALS["Fe"], CRYSTALS["SrTiO3"]


@pytest.fixture(scope="module")
def potential() -> Potential:
    return load("chgnet-0.3.0", dtype="float64")


def structure(atoms: Atoms) -> Structure:
    return Frames.from_ase(atoms).to_pymatgen()[0]


def same(one: Prediction, other: Prediction):
    assert one.energy == pytest.approx(other.energy, abs=1e-9)
    for label in ("forces", "stress", "magmoms", "site_energies"):
        np.testing.assert_allclose(getattr(one, label), getattr(other, label), atol=1e-9)


# -- what can be asked --------------------------------------------------------------------------------


def test_one_for_one(potential):
    out = potential.predict(OXIDE)
    assert isinstance(out, Prediction)
    assert type(out.energy) is float
    shapes = {"forces": (5, 3), "stress": (3, 3), "magmoms": (5,), "site_energies": (5,)}
    for label, shape in shapes.items():
        assert getattr(out, label).shape == shape
        assert getattr(out, label).dtype == np.float64
    assert out.energy_per_atom == pytest.approx(out.energy / 5)
    same(potential.predict(structure(OXIDE)), out)


@pytest.mark.parametrize(
    "many",
    [
        [SALT],
        (SALT, IRON),
        [structure(SALT), structure(IRON)],
        [SALT, structure(IRON), Frames.from_ase([OXIDE])],
        Frames.from_ase([SALT]),
        Frames.from_ase([SALT, IRON]),
        (atoms for atoms in [SALT, IRON]),
    ],
    ids=["one-element list", "tuple", "structures", "mixed", "frames of one", "frames", "generator"],
)
def test_a_list_for_many(potential, many):
    out = potential.predict(many)
    assert isinstance(out, list)
    for got, atoms in zip(out, [SALT, IRON, OXIDE], strict=False):
        same(got, potential.predict(atoms))


@pytest.mark.parametrize("nothing", [[], (), Frames.empty()], ids=["list", "tuple", "frames"])
def test_nothing_for_nothing(potential, nothing):
    assert potential.predict(nothing) == []


def test_frames_of_several_structures_in_a_list(potential):
    assert len(potential.predict([Frames.from_ase([SALT, IRON]), OXIDE])) == 3


def test_molecules(potential):
    water = molecule("H2O")
    out = potential.predict(water)
    same(potential.predict(Molecule(water.symbols, water.positions)), out)
    assert not out.stress.any()
    np.testing.assert_allclose(out.forces.sum(axis=0), 0, atol=1e-10)


def test_labels_play_no_part(potential):
    labelled = SALT.copy()
    labelled.calc = SinglePointCalculator(labelled, energy=123.0, forces=np.ones((2, 3)), magmoms=np.ones(2))
    labelled.info["energy"] = "a text"
    labelled.set_initial_magnetic_moments([1.0, 2.0])
    same(potential.predict(labelled), potential.predict(SALT))
    assert labelled.calc.results["energy"] == 123.0


def test_frames_of_different_levels_of_theory_are_geometries_all_the_same(potential):
    mixed = [Frames.from_ase(SALT, LevelOfTheory("PBE")), Frames.from_ase(IRON, LevelOfTheory("r2SCAN"))]
    assert len(potential.predict(mixed)) == 2


def test_labelled_frames(potential):
    frames = Frames.from_ase([SALT, OXIDE], LevelOfTheory("PBE"))
    labelled = potential.label(frames)
    assert labelled.theory == potential.theory
    assert frames.theory.functional == "PBE"
    assert not frames.has("energy")
    for s, atoms in enumerate((SALT, OXIDE)):
        out = potential.predict(atoms)
        assert labelled.energy[s] == pytest.approx(out.energy, abs=1e-9)
        np.testing.assert_allclose(labelled[s].forces, out.forces, atol=1e-9)
    interaction = potential.interaction_energy(frames)
    np.testing.assert_allclose(interaction + potential.references.energy(frames), labelled.energy, atol=1e-9)
    assert potential.interaction_energy(Frames.empty()).shape == (0,)
    assert len(potential.label(Frames.empty())) == 0


@pytest.mark.parametrize("batch_atoms", [1, 3, 10_000])
def test_any_size_of_batch(potential, batch_atoms):
    many = list(CRYSTALS.values())
    for got, atoms in zip(potential.predict(many, batch_atoms=batch_atoms), many, strict=True):
        same(got, potential.predict(atoms))


@pytest.mark.parametrize("limit", [1, 2, 4, 7, 100])
def test_batches_hold_all_frames_in_order(limit):
    frames = Frames.from_ase([*CRYSTALS.values(), Atoms()])
    parts = list(atom_batches(frames, limit))
    assert [name for part in parts for name in part.frame_id] == list(frames.frame_id)
    assert all(part.total_atoms <= limit or len(part) == 1 for part in parts)


# -- what cannot be answered --------------------------------------------------------------------------


def spoiled(change) -> Atoms:
    atoms = SALT.copy()
    change(atoms)
    return atoms


def _overlap(atoms):
    atoms.positions[1] = atoms.positions[0] + 0.01


def _nan(atoms):
    atoms.positions[1, 2] = np.nan


def _flat(atoms):
    atoms.set_cell([(3, 0, 0), (0, 3, 0), (0, 0, 0)])


NAMELESS = {
    "text": ("POSCAR", "cannot predict str 'POSCAR': give ASE atoms, pymatgen structures or"),
    "number": (3.0, "cannot predict float '3.0'"),
    "none": (None, "cannot predict NoneType 'None'"),
    "list of text": ([SALT, "POSCAR"], "item 1 is a str, not a structure"),
}
NAMED = {
    "unknown element": (spoiled(lambda atoms: atoms.set_atomic_numbers([11, 95])), "atomic number 95 is outside 1 to 94"),
    "no element": (spoiled(lambda atoms: atoms.set_atomic_numbers([0, 17])), "atomic number 0 is outside 1 to 94"),
    "NaN positions": (spoiled(_nan), "positions or cell are not finite"),
    "overlapping atoms": (spoiled(_overlap), r"two atoms \(Cl-Na\) are 0.017 Å apart"),
    "periodic without volume": (spoiled(_flat), "the cell is periodic but has no volume"),
}


@pytest.mark.parametrize("name", NAMELESS)
def test_what_is_no_structure(potential, name):
    wrong, told = NAMELESS[name]
    with pytest.raises(DataError, match=told):
        potential.predict(wrong)


@pytest.mark.parametrize("name", NAMED)
def test_bad_structures_are_named(potential, name):
    bad, told = NAMED[name]
    with pytest.raises(DataError, match=told):
        potential.predict(bad)
    with pytest.raises(DataError, match=f"frame structure 2: {told}") as caught:
        potential.predict([SALT, IRON, bad])
    assert "\n" not in str(caught.value)


def test_disordered_structures(potential):
    mixed = Structure(np.eye(3) * 4, [{"Fe": 0.5, "Ni": 0.5}], [(0, 0, 0)])
    with pytest.raises(XclimbError, match="partial occupancies: order it first"):
        potential.predict(mixed)


def test_an_element_without_reference(potential):
    bare = Potential(potential.model, AtomRef.from_energies({"Na": -1.0}), potential.theory)
    with pytest.raises(ReferencesError, match="no reference energy for Cl"):
        bare.predict(SALT)


def test_an_element_that_the_references_never_saw_is_said():
    ytterbium = bulk("Yb", "fcc", a=5.5)
    oxygen_only = AtomRef.from_energies({"O": -5.0})
    filled = load("chgnet-r2scan").with_references(oxygen_only.merged_over(load("chgnet-0.3.0").references))
    with pytest.warns(XclimbWarning, match="were not determined by data for Yb"):
        filled.predict(ytterbium)
    with pytest.warns(XclimbWarning, match="Yb"):
        filled.label(Frames.from_ase(ytterbium))


def test_uncovered_elements_of_the_r2scan_weights():
    with pytest.warns(XclimbWarning, match="Yb"):
        out = load("chgnet-r2scan").predict(bulk("Yb", "fcc", a=5.5))
    assert np.isfinite(out.forces).all()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dtype": "float16"}, "dtype 'float16' is not supported: use 'float32' or 'float64'"),
        ({"dtype": "double precision"}, "dtype 'double precision' is not supported"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not available"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(potential, settings, told):
    with pytest.raises(ConfigError, match=told):
        potential.to(**settings)
