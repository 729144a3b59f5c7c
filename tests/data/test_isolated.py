import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from xclimb.data.frames import Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.data.splits import Split, split_frames
from xclimb.errors import DataError
from xclimb.references import fit_references
from xclimb.transfer.checks import material_frames


def with_energy(atoms, energy, **info):
    atoms.info |= info
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def mixed():
    """Crystals of one atom a cell and of two; isolated atoms in a box, without a cell, and by name; a dimer."""
    return Frames.from_ase(
        [
            with_energy(bulk("Cs", "bcc", a=6.1), -1.0),
            with_energy(Atoms("H", cell=[12.0] * 3, pbc=True), -1.1),
            with_energy(Atoms("O"), -1.5),
            with_energy(Atoms("Cu", cell=[6.0] * 3, pbc=True), -0.3, config_type="IsolatedAtom"),
            with_energy(Atoms("O", cell=[12.0] * 3, pbc=True), -1.6),
            with_energy(Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], cell=[12.0] * 3, pbc=True), -9.0, config_type="dimer"),
            with_energy(bulk("NaCl", "rocksalt", a=5.6), -6.0),
            with_energy(Atoms("C", cell=[3.0, 3.0, 20.0], pbc=True), -7.0),
        ]
    )


def test_isolated_atoms_are_recognised_and_their_energies_kept():
    frames = mixed()
    assert is_isolated_atom(frames).tolist() == [False, True, True, True, True, False, False, False]
    assert frames.isolated_atom_energies() == {"H": -1.1, "O": -1.6, "Cu": -0.3}
    assert not is_isolated_atom(Frames.empty()).any()


def test_a_skewed_cell_hides_no_neighbour():
    cell = np.array([[3.0, 0, 0], [29.0, 3.0, 0], [0, 0, 3.0]])
    assert not is_isolated_atom(Frames.from_ase(Atoms("Cu", cell=cell, pbc=True))).any()


@pytest.mark.filterwarnings("ignore:few materials in a part")
def test_they_are_in_no_part_of_a_split():
    frames = mixed()
    split = split_frames(frames, (0.5, 0.25, 0.25), cover=False)
    parts = np.concatenate([split.train, split.val, split.test])
    assert sorted(parts.tolist()) == [0, 5, 6, 7]
    for one in (split, Split.from_dict(split.to_dict())):
        assert sum(len(part) for part in one.apply(frames)) == 4


def test_they_are_neither_trained_on_nor_fitted():
    frames = mixed()
    train, notes = material_frames(frames, "train")
    assert len(train) == 4
    assert notes == ["4 isolated atoms in the training set (H, O, Cu, O): left out of it."]
    with pytest.raises(DataError, match="validation set holds isolated atoms only"):
        material_frames(frames[[1, 2]], "val")
    assert fit_references(frames).n_frames == 4
