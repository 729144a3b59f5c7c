"""One crystal under several ids: found whatever the cell, the volume and small displacements, and kept in one part."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from xclimb.data.frames import Frames
from xclimb.data.groups import crystal_notes, group_frames
from xclimb.data.same_crystal import same_crystals
from xclimb.data.splits import nested_subsets, propose_split

PROTOTYPES = {
    "NaCl-rocksalt": bulk("NaCl", "rocksalt", 5.64),
    "NaCl-cscl": bulk("NaCl", "cesiumchloride", 3.4),
    "ZnS-zincblende": bulk("ZnS", "zincblende", 5.41),
    "ZnS-wurtzite": bulk("ZnS", "wurtzite", 3.82, c=6.26),
    "Al-fcc": bulk("Al", "fcc", 4.05),
    "Al-hcp": bulk("Al", "hcp", 2.86, c=4.67),
    "Si-diamond": bulk("Si", "diamond", 5.43),
    "Si-bcc": bulk("Si", "bcc", 3.1),
    "TiO2-rutile": crystal(
        ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90]
    ),
    "TiO2-anatase": crystal(["Ti", "O"], [(0, 0, 0), (0, 0, 0.208)], spacegroup=141, cellpar=[3.785, 3.785, 9.514, 90, 90, 90]),
    "CaTiO3-perovskite": crystal(
        ["Ca", "Ti", "O"], [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.9, 3.9, 3.9, 90, 90, 90]
    ),
}


def rattled(atoms: Atoms, size: float, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0, size, atoms.positions.shape)
    return atoms


def copies(atoms: Atoms) -> dict[str, Atoms]:
    """What people call another material and is the same crystal."""
    scaled = atoms.copy()
    scaled.set_cell(1.02 * atoms.cell, scale_atoms=True)
    return {"copy": atoms, "supercell": atoms.repeat((2, 1, 1)), "scaled": scaled, "rattled": rattled(atoms, 0.03)}


def library(names: list[str]) -> Frames:
    """Each copy of each prototype under an id of its own."""
    frames, ids = [], []
    for name in names:
        for kind, atoms in copies(PROTOTYPES[name]).items():
            frames.append(atoms)
            ids.append(f"{kind}-{name}")
    made = Frames.from_ase([Atoms(a.numbers, a.positions, cell=a.cell, pbc=True) for a in frames])
    return made.replace(material_id=np.array(ids), frame_id=np.array([f"{name}/0" for name in ids]))


@pytest.fixture(scope="module")
def frames() -> Frames:
    return library(list(PROTOTYPES))


def test_copies_are_one_crystal_and_polymorphs_are_not(frames):
    found = same_crystals(frames)
    crystals: dict[int, set[str]] = {}
    for name, number in zip(found.ids.tolist(), found.crystal.tolist(), strict=True):
        crystals.setdefault(number, set()).add(name.split("-", 1)[1])
    assert sorted(map(sorted, crystals.values())) == [[name] for name in sorted(PROTOTYPES)]
    assert not found.skipped
    assert len(found.pairs) == 3 * len(PROTOTYPES)


def test_no_prototype_stands_on_two_sides(frames):
    prototype = np.array([name.split("-", 1)[1] for name in frames.material_id.tolist()])
    for seed in range(3):
        split = propose_split(frames, (0.6, 0.2, 0.2), seed=seed, cover=False)
        sets = [set(prototype[part]) for part in (split.train, split.val, split.test)]
        assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
        assert sum(map(len, sets)) == len(PROTOTYPES)
    assert "33 material ids joined to another of the same crystal" in split.notes[0]
    subset = nested_subsets(frames, [8])[8]
    assert len(set(prototype[subset])) == 2  # whole crystals, four copies each


def test_rattled_supercells_and_moments_of_a_trajectory():
    cell = PROTOTYPES["NaCl-rocksalt"].repeat(2)
    atoms = [PROTOTYPES["NaCl-rocksalt"], *(rattled(cell, 0.1, seed) for seed in range(6)), PROTOTYPES["NaCl-cscl"]]
    frames = Frames.from_ase([Atoms(a.numbers, a.positions, cell=a.cell, pbc=True) for a in atoms])
    frames = frames.replace(material_id=np.array([f"id-{n}" for n in range(len(atoms))]))
    found = same_crystals(frames)
    assert len(set(found.crystal[:7])) == 1
    assert found.crystal[7] != found.crystal[0]


def test_the_answer_depends_on_neither_the_order_nor_the_machine(frames):
    mixed = frames[np.random.default_rng(3).permutation(len(frames))]
    one, other = same_crystals(frames), same_crystals(mixed)
    assert one.pairs == other.pairs
    np.testing.assert_array_equal(one.crystal, other.crystal)


def test_what_is_not_affordable_is_said(frames):
    few = same_crystals(frames, structures=8)
    assert "NaCl" in few.skipped
    assert "8 material ids joined" not in " ".join(crystal_notes(few))
    assert "too many similar structures to compare them all" in crystal_notes(few)[-1]
    some = library(["Al-fcc", "Al-hcp"])
    assert same_crystals(some, sites=0).skipped == ("Al",)


def test_composition_and_chemical_system(frames):
    some = library(["TiO2-rutile", "TiO2-anatase", "NaCl-rocksalt"])
    assert group_frames(some, "composition").names.tolist() == ["NaCl", "TiO2"]
    assert group_frames(some, "chemical-system").names.tolist() == ["Cl-Na", "O-Ti"]
    assert len(group_frames(some, "ids").names) == 12


def test_molecules_and_nothing_at_all():
    molecule = Frames.from_ase([Atoms("OH", [(0, 0, 0), (0, 0, 1)])] * 2).replace(material_id=np.array(["a", "b"]))
    assert same_crystals(molecule).crystal.tolist() == [0, 1]
    assert len(same_crystals(molecule[:0]).ids) == 0
