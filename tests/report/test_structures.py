import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from comparison.planted import plant
from xclimb.comparison.outliers import MOST_ATOMS, outlier_structures
from xclimb.comparison.pairing import pair_frames
from xclimb.report.structures import scene, scenes


def side(atoms) -> dict:
    return {
        "numbers": atoms.numbers.tolist(), "positions": atoms.positions.ravel().tolist(),
        "cell": np.ravel(atoms.cell).tolist(), "pbc": atoms.pbc.tolist(),
    }  # fmt: skip


def places(drawn: dict) -> np.ndarray:
    return np.reshape(drawn["atoms"], (-1, 4))


def test_rock_salt_is_closed_and_bonded():
    drawn = scene(side(bulk("NaCl", "rocksalt", a=5.64, cubic=True)))
    assert [name for name, _, _ in drawn["elements"]] == ["Na", "Cl"]
    atoms = places(drawn)
    # conventional cell with its faces: 8 corners + 6 faces of one kind, 12 edges + 1 middle of the other
    assert np.bincount(atoms[:, 0].astype(int)).tolist() == [14, 13]
    np.testing.assert_allclose(atoms[:, 1:].mean(0), 0.0, atol=1e-6)
    bonds = np.reshape(drawn["bonds"], (-1, 2))
    assert len(bonds) == 54  # 3 * 9 lines of three atoms, two bonds each; none between equal ions
    assert (atoms[bonds[:, 0], 0] != atoms[bonds[:, 1], 0]).all()
    lengths = np.linalg.norm(atoms[bonds[:, 0], 1:] - atoms[bonds[:, 1], 1:], axis=1)
    np.testing.assert_allclose(lengths, 2.82, atol=0.02)
    ends = np.reshape(drawn["edges"], (12, 2, 3))
    np.testing.assert_allclose(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1), 5.64, atol=0.02)


def test_atoms_outside_the_cell_come_back_inside():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    moved = atoms.copy()
    moved.positions += atoms.cell.cartesian_positions([[3, -2, 1]]) - 1e-4
    key = lambda drawn: sorted(map(tuple, np.round(places(drawn), 1)))  # noqa: E731
    assert key(scene(side(moved))) == key(scene(side(atoms)))


def test_a_molecule_across_the_border_is_not_cut():
    across = Atoms("N2", [[0.2, 2, 2], [4.1, 2, 2]], cell=[5, 5, 5], pbc=True)
    drawn = scene(side(across))
    assert len(places(drawn)) == 4  # either atom with its partner
    assert len(drawn["bonds"]) == 4
    diamond = scene(side(bulk("C", "diamond", a=3.57)))
    atoms, bonds = places(diamond), np.reshape(diamond["bonds"], (-1, 2))
    complete = np.flatnonzero(np.bincount(bonds.ravel(), minlength=len(atoms)) == 4)
    assert len(complete) >= 2  # both atoms of the cell


def test_metals_bond_with_each_other_where_there_is_nothing_else():
    assert scene(side(bulk("Cu", cubic=True)))["bonds"]


def test_a_molecule_has_no_cell():
    drawn = scene(side(molecule("H2O")))
    assert (len(drawn["atoms"]), len(drawn["bonds"]), drawn["edges"]) == (12, 4, [])
    lone = scene(side(Atoms("Cs")))
    assert (len(lone["atoms"]), lone["bonds"]) == (4, [])


def test_the_furthest_pairs_are_kept_and_large_cells_named():
    low, high = plant(np.random.default_rng(0), n_materials=30)
    left = np.random.default_rng(1).normal(size=len(low))
    found = outlier_structures(pair_frames(low, high), left)
    order = np.argsort(-np.abs(left))
    assert [one["frame_id"] for one in found] == low.frame_id[order[:50]].tolist()
    assert found[0]["low"]["numbers"] == low.numbers[6 * order[0] : 6 * order[0] + 6].tolist()
    assert found[0]["high"] is None
    size = MOST_ATOMS + 1
    big = low[:1].replace(
        numbers=np.full(size, 8),
        positions=np.zeros((size, 3)),
        offsets=np.array([0, size]),
        forces=np.zeros((size, 3)),
        magmoms=np.zeros(size),
    )
    [named] = outlier_structures(pair_frames(big, big.replace(theory=high.theory)), np.ones(1))
    assert (named["n_atoms"], named["low"], scenes([named])) == (size, None, [[]])


def test_both_sides_of_a_relaxed_pair_are_kept():
    low, high = plant(np.random.default_rng(0), n_materials=4)
    pairs = pair_frames(low, high.replace(cells=1.05 * high.cells, positions=1.05 * high.positions))
    first = outlier_structures(pairs, np.arange(len(low), dtype=float))[0]
    assert first["high"]["cell"][0] == pytest.approx(1.05 * first["low"]["cell"][0])
    assert len(scenes([first])[0]) == 2
