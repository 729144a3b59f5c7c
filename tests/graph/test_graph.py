"""The graph against ASE's neighbour list, on cells of every kind, and its errors."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xclimb.data.frames import Frames
from xclimb.errors import DataError
from xclimb.graph import neighbours
from xclimb.graph.batch import GraphSpec, build_batch

CUTOFF, BOND_CUTOFF = 4.0, 2.5  # small, so that ASE is fast


@pytest.fixture(scope="module", params=["compiled", "vesin"], autouse=True)
def each_search(request):
    """Every test of this file, with numba and without."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        yield
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neighbours, "_compiled", lambda: None)
            yield


def batch_of(*atoms: Atoms, cutoff: float = CUTOFF, bond_cutoff: float = BOND_CUTOFF):
    return build_batch(Frames.from_ase(list(atoms)), GraphSpec(cutoff, bond_cutoff), dtype=torch.float64)


def both_directions(batch) -> np.ndarray:
    """Directed edges as rows (centre, neighbour, vector), sorted ``[2 B, 5]``."""
    i, j, vectors = batch.centres.numpy(), batch.neighbours.numpy(), batch.vectors.numpy()
    there, back = np.column_stack([i, j, vectors]), np.column_stack([j, i, -vectors])
    return sorted_rows(np.concatenate([there, back]))


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    rounded = rows.round(6) + 0.0  # no -0
    return rows[np.lexsort(rounded.T[::-1])]


def by_ase(atoms: Atoms, cutoff: float = CUTOFF, first: int = 0) -> np.ndarray:
    i, j, vectors = neighbor_list("ijD", atoms, cutoff)
    return sorted_rows(np.column_stack([i + first, j + first, vectors]))


@st.composite
def structures(draw) -> Atoms:
    """1 to 5 atoms in a skewed, flat, long, tiny or left-handed cell, periodic or not, some atoms far outside."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 5))
    cell = np.diag(rng.uniform(1.5, 6, 3)) @ (np.eye(3) + rng.uniform(-0.9, 0.9, (3, 3)))
    assume(abs(np.linalg.det(cell)) > 4)
    if draw(st.booleans()):
        cell = cell[[1, 0, 2]]
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    scaled = rng.uniform(0, 1, (n, 3))
    if draw(st.booleans()):
        scaled += rng.integers(-20, 21, (n, 3)) * pbc
    return Atoms(rng.integers(1, 3, n), scaled @ cell, cell=cell, pbc=pbc)  # H and He: others would overlap at random places


@settings(max_examples=100)
@given(structures())
def test_neighbours_are_those_of_ase(atoms):
    expected = by_ase(atoms)
    lengths = np.linalg.norm(expected[:, 2:], axis=1)
    assume(not len(lengths) or (lengths.min() > 0.1 and np.abs(lengths - BOND_CUTOFF).min() > 1e-6))
    assume(not len(lengths) or np.abs(np.linalg.norm(by_ase(atoms, CUTOFF + 1e-6)[:, 2:], axis=1) - CUTOFF).min() > 1e-6)
    batch = batch_of(atoms)
    got = both_directions(batch)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-9)

    # short bonds first, and nothing short later
    ours = batch.vectors.norm(dim=1)
    assert (ours[: batch.n_short] < BOND_CUTOFF).all()
    assert (ours[batch.n_short :] >= BOND_CUTOFF).all()

    # angles: every pair of different short directed edges with one centre, once
    short = np.bincount(expected[lengths < BOND_CUTOFF, 0].astype(int), minlength=len(atoms))
    assert len(batch.first) == len(batch.second) == (short * (short - 1) // 2).sum()
    check_angles(batch)


def check_angles(batch):
    ends = torch.cat([batch.centres[: batch.n_short], batch.neighbours[: batch.n_short]])
    assert (batch.first != batch.second).all()
    assert (ends[batch.first] == ends[batch.second]).all()
    pairs = {tuple(sorted(pair)) for pair in zip(batch.first.tolist(), batch.second.tolist(), strict=True)}
    assert len(pairs) == len(batch.first)


@settings(max_examples=15)
@given(st.lists(structures(), min_size=2, max_size=4))
def test_a_batch_is_its_members_side_by_side(many):
    for atoms in many:
        distances = neighbor_list("d", atoms, CUTOFF)
        assume(not len(distances) or distances.min() > 0.1)
    batch, singles = batch_of(*many), [batch_of(atoms) for atoms in many]
    assert batch.n_systems == len(many)
    assert batch.n_atoms.tolist() == [len(atoms) for atoms in many]
    assert batch.system.tolist() == [s for s, atoms in enumerate(many) for _ in atoms]
    assert batch.numbers.tolist() == [z for atoms in many for z in atoms.numbers]
    torch.testing.assert_close(batch.volumes, torch.cat([one.volumes for one in singles]))
    assert torch.equal(batch.bond_system, batch.system[batch.centres])
    assert torch.equal(batch.system[batch.centres], batch.system[batch.neighbours])
    starts = np.cumsum([0, *(len(atoms) for atoms in many)])
    shifts = np.outer(starts, [1, 1, 0, 0, 0])
    expected = [both_directions(one) + shift for one, shift in zip(singles, shifts[:-1], strict=True)]
    np.testing.assert_allclose(both_directions(batch), sorted_rows(np.concatenate(expected)), atol=1e-12)
    assert len(batch.first) == sum(len(one.first) for one in singles)
    check_angles(batch)


def test_a_cell_much_smaller_than_the_cutoff():
    iron = bulk("Fe", "bcc", a=2.87)
    batch = batch_of(iron, cutoff=6.0, bond_cutoff=3.0)
    np.testing.assert_allclose(both_directions(batch), by_ase(iron, 6.0), atol=1e-9)
    assert batch.n_short == (8 + 6) // 2
    assert len(batch.first) == 14 * 13 // 2


def test_far_outside_the_cell_no_precision_is_lost():
    salt = bulk("NaCl", "rocksalt", a=5.64)
    salt.positions += [[0.11, 0.2, 0.3], [0, 0, 0]]
    away = salt.copy()
    away.positions[1] += np.array([1000, -2000, 500]) @ salt.cell.array
    np.testing.assert_allclose(both_directions(batch_of(away)), both_directions(batch_of(salt)), atol=1e-10)


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Fe", cell=np.eye(3) * 20, pbc=True),
        Atoms("Fe"),
        Atoms("FeO", [(0, 0, 0), (0, 0, 9)]),
        Atoms("FeO", [(0, 0, 0), (0, 0, 9)], cell=np.eye(3) * 40, pbc=(True, False, False)),
    ],
    ids=["boxed", "free", "two apart", "a wire of one"],
)
def test_no_neighbours(atoms):
    batch = batch_of(atoms)
    assert batch.vectors.shape == (0, 3)
    assert batch.n_short == len(batch.first) == len(batch.second) == len(batch.bond_system) == 0
    assert len(batch.numbers) == len(atoms)
    assert bool(torch.isfinite(batch.volumes).all()) == (atoms.cell.volume > 0)


def test_no_frames_and_frames_without_atoms():
    assert build_batch(Frames.empty(), GraphSpec(CUTOFF, BOND_CUTOFF)).n_systems == 0
    batch = batch_of(Atoms(cell=np.eye(3), pbc=True), Atoms("H2", [(0, 0, 0), (0, 0, 0.74)]))
    assert batch.n_systems == 2
    assert batch.bond_system.tolist() == [1]


def test_a_missing_cell_is_no_cell():
    ring = Atoms("H3", [(0, 0, 0), (0, 0, 1), (0, 0.8, 0.5)])
    batch = batch_of(ring)
    np.testing.assert_allclose(both_directions(batch), by_ase(ring), atol=1e-12)
    assert torch.isinf(batch.volumes).all()
    # one lattice vector, periodic along it
    chain = Atoms("C", cell=[(1.4, 0, 0), (0, 0, 0), (0, 0, 0)], pbc=(True, False, False))
    assert sorted(batch_of(chain).vectors.norm(dim=1).tolist()) == pytest.approx([1.4, 2.8])


def test_tensors_have_the_types_that_torch_indexes_with():
    batch = build_batch(Frames.from_ase([bulk("Si")]), GraphSpec(6.0, 3.0))
    whole = ("numbers", "system", "n_atoms", "centres", "neighbours", "bond_system", "first", "second")
    assert {getattr(batch, name).dtype for name in whole} == {torch.int64}
    moved = batch.to("cpu")
    assert moved.n_short == batch.n_short
    assert torch.equal(moved.vectors, batch.vectors)


GOOD = bulk("Si")


def _bad(**changes) -> Frames:
    frames = Frames.from_ase([GOOD, GOOD])
    for name, (row, value) in changes.items():
        column = getattr(frames, name).copy()
        column[row] = value
        frames = frames.replace(**{name: column})
    return frames


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (_bad(positions=(3, np.nan)), "frame frame-1: positions or cell are not finite"),
        (_bad(positions=(0, np.inf)), "frame frame-0: positions or cell are not finite"),
        (_bad(cells=(1, np.nan)), "frame frame-1: positions or cell are not finite"),
        (_bad(cells=(1, 0.0)), "frame frame-1: the cell is periodic but has no volume"),
        (_bad(positions=(3, GOOD.positions[0] + [0, 0, 0.01])), r"frame frame-1: two atoms \(Si-Si\) are 0\.010 Å apart"),
        (_bad(positions=(3, GOOD.positions[0] + GOOD.cell.array[1])), r"frame frame-1: two atoms \(Si-Si\) are 0\.000 Å apart"),
    ],
    ids=["NaN", "inf", "NaN cell", "no cell", "overlap", "overlap through the boundary"],
)
def test_bad_frames_are_named(frames, told):
    with pytest.raises(DataError, match=told):
        build_batch(frames, GraphSpec(CUTOFF, BOND_CUTOFF))


def scaled(atoms: Atoms, factor: float) -> Atoms:
    small = atoms.copy()
    small.set_cell(atoms.cell.array * factor)
    small.positions = atoms.positions * factor
    return small


SALT = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(3)
SLAB, CLUSTER = SALT.copy(), SALT.copy()
SLAB.pbc, CLUSTER.pbc = (True, True, False), False


@pytest.mark.parametrize("atoms", [SALT, SLAB, CLUSTER], ids=["crystal", "slab", "cluster"])
def test_lengths_in_nm_taken_for_angstrom_are_refused_before_they_fill_the_memory(atoms, monkeypatch):
    assert batch_of(atoms).close == ""
    monkeypatch.delattr("xclimb.graph.batch.find_angles")
    with pytest.raises(DataError, match=r"frame frame-0: .* Å\^3 an atom, at least 0\.5 expected; check .* units \(Å\)"):
        build_batch(Frames.from_ase([scaled(atoms, 0.1)]), GraphSpec(CUTOFF, BOND_CUTOFF), search=zip)


def test_atoms_that_are_close_for_what_they_are():
    def pair(distance: float, symbols: str) -> str:
        return batch_of(Atoms(symbols, [(0, 0, 0), (0, 0, distance)])).close

    assert pair(0.7, "H2") == ""
    assert pair(1.36, "NaCl") == ""
    assert "frame frame-0: Cl-Na atoms are closer than half the sum of their covalent radii (1.34 Å)" in pair(1.3, "NaCl")
    with pytest.raises(DataError, match=r"two atoms \(Cl-Na\) are 0\.500 Å apart, their covalent radii add up to 2\.68 Å"):
        pair(0.5, "NaCl")


def test_a_periodic_direction_needs_its_lattice_vector():
    slab = Atoms("Cu", cell=[(2.5, 0, 0), (0, 0, 0), (0, 0, 0)], pbc=(True, True, False))
    with pytest.raises(DataError, match="frame frame-0: the cell is periodic but has no volume"):
        batch_of(slab)


def test_a_flat_cell_has_no_volume_even_if_rounding_says_so():
    flat = np.array([[1.1, 2.2, 3.3], [2.2, 4.4, 6.6], [0.0, 0.1, 3.0]]) + 1e-16
    with pytest.raises(DataError, match="no volume"):
        batch_of(Atoms("Cu", cell=flat, pbc=True))
    batch = batch_of(Atoms("Cu2", [(0, 0, 0), (0, 0, 2)], cell=flat, pbc=(True, False, False)))
    assert torch.isinf(batch.volumes).all()
    expected = by_ase(Atoms("Cu2", [(0, 0, 0), (0, 0, 2)], cell=[flat[0], (0, 0, 0), (0, 0, 0)], pbc=(True, False, False)))
    np.testing.assert_allclose(both_directions(batch), expected, atol=1e-9)
