"""The compiled search against vesin's on cells of every kind, and the list of pairs that is kept while atoms move."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xclimb.graph import neighbours
from xclimb.graph.neighbours import Bonds, VerletList, find_angles, find_bonds

pytest.importorskip("numba", reason="numba is not installed")
CUTOFF, BOND_CUTOFF = 5.0, 2.5
EDGE = 1e-7  # Å; a bond this near to a cutoff may be on either side of it


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(neighbours, "_compiled", lambda: None)


def lattice(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """A cell for n atoms with at least 8 Å^3 each, except where it is tiny."""
    skew = {"skewed": 0.9, "tiny": 0.6}.get(kind, 0.2)
    cell = np.zeros((3, 3))
    while abs(np.linalg.det(cell)) < 0.1:
        cell = np.diag(rng.uniform(0.8, 1.25, 3)) @ (np.eye(3) + rng.uniform(-skew, skew, (3, 3)))
    if kind == "thin":
        cell[2] *= 0.15
    if kind == "sheared":  # many lattice vectors over
        cell[1] += rng.integers(-9, 10) * cell[0]
        cell[2] += rng.integers(-9, 10) * cell[0] + rng.integers(-9, 10) * cell[1]
    volume = 4.0 if kind == "tiny" else rng.uniform(8, 30) * n
    cell *= np.cbrt(volume / abs(np.linalg.det(cell)))
    return cell[[1, 0, 2]] if rng.random() < 0.5 else cell  # left-handed or right-handed, whatever it was


@st.composite
def crystals(draw, most: int = 40):
    """Positions, cells, periodicity and offsets of 1 to 4 crystals, atoms inside and far outside of their cells."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cells, pbc, positions, counts = [], [], [], []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["plain", "skewed", "tiny", "thin", "sheared"]))
        n = draw(st.integers(1, 3)) if kind == "tiny" else draw(st.integers(0, most))
        cells.append(lattice(rng, kind, max(n, 1)))
        pbc.append(draw(st.tuples(st.booleans(), st.booleans(), st.booleans())))
        scaled = rng.uniform(0, 1, (n, 3))
        if draw(st.booleans()):
            scaled = scaled + rng.integers(-30, 31, (n, 3)) * np.array(pbc[-1])
        positions.append(scaled @ cells[-1])
        counts.append(n)
    return np.concatenate(positions), np.stack(cells), np.array(pbc), np.cumsum([0, *counts])


def by_vesin(arrays, cutoff: float = CUTOFF, bond_cutoff: float = BOND_CUTOFF) -> Bonds:
    return neighbours._by_vesin(*arrays, cutoff, bond_cutoff)


def rows(bonds: Bonds, part: slice = slice(None)) -> np.ndarray:
    """Both directions of each bond as (centre, neighbour, vector), sorted ``[2 B, 5]``."""
    i, j, vectors = bonds.centres[part], bonds.neighbours[part], bonds.vectors[part]
    both = np.concatenate([np.column_stack([i, j, vectors]), np.column_stack([j, i, -vectors])])
    return both[np.lexsort((both.round(6) + 0.0).T[::-1])]


def require_same(found: Bonds, expected: Bonds, atol: float = 1e-9) -> None:
    assert found.n_short == expected.n_short
    assert len(found.centres) == len(expected.centres)
    for part in (slice(found.n_short), slice(found.n_short, None)):
        np.testing.assert_allclose(rows(found, part), rows(expected, part), atol=atol)
    np.testing.assert_allclose(found.closest, expected.closest, atol=atol)


def angles(bonds: Bonds, n_atoms: int) -> set:
    """Each angle as its two outward vectors, rounded, and its centre."""
    short = bonds.n_short
    first, second = find_angles(bonds.centres[:short], bonds.neighbours[:short], n_atoms)
    at = np.concatenate([bonds.centres[:short], bonds.neighbours[:short]])
    outward = np.concatenate([bonds.vectors[:short], -bonds.vectors[:short]]).round(5) + 0.0
    assert (at[first] == at[second]).all()
    return {(int(at[a]), frozenset([tuple(outward[a]), tuple(outward[b])])) for a, b in zip(first, second, strict=True)}


def clear_of_the_cutoffs(bonds: Bonds) -> bool:
    """Whether rounding cannot decide, given the bonds up to a little more than the cutoff."""
    lengths = np.linalg.norm(bonds.vectors, axis=1)
    return not (np.abs(lengths[:, None] - [CUTOFF, BOND_CUTOFF]) < EDGE).any()


@settings(max_examples=150)
@given(crystals())
def test_both_searches_find_the_same(arrays):
    assume(clear_of_the_cutoffs(by_vesin(arrays, CUTOFF + 2 * EDGE)))
    found, expected = find_bonds(*arrays, CUTOFF, BOND_CUTOFF), by_vesin(arrays)
    require_same(found, expected)
    assert angles(found, len(arrays[0])) == angles(expected, len(arrays[0]))


@settings(max_examples=8)
@given(crystals(most=300))
def test_both_searches_find_the_same_in_larger_cells(arrays):
    assume(clear_of_the_cutoffs(by_vesin(arrays, CUTOFF + 2 * EDGE)))
    require_same(find_bonds(*arrays, CUTOFF, BOND_CUTOFF), by_vesin(arrays))


@settings(max_examples=50)
@given(crystals())
def test_angles_are_the_same_in_the_same_order(arrays):
    bonds = by_vesin(arrays)
    short = bonds.centres[: bonds.n_short], bonds.neighbours[: bonds.n_short]
    compiled = find_angles(*short, len(arrays[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_compiled", lambda: None)
        written = find_angles(*short, len(arrays[0]))
    for one, other in zip(compiled, written, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("search", [find_bonds, neighbours._by_vesin])
def test_a_thin_open_crystal_with_atoms_far_away_along_it(search):
    # a grid over all that lies between the atoms as they are given would have billions of cells
    cell = np.array([[6.5, 0, 0], [20.0, 25.0, 0], [60.0, 70.0, 4.0]])
    inside = np.array([[0.1, 0.2, 0.3], [0.2, 0.21, 0.31], [0.9, 0.2, 0.3]])
    shift = np.array([[0, 25, 0], [0, -30, 0], [0, 7, 0]])
    others = cell[None], np.array([[False, True, False]]), np.array([0, 3])
    expected = search(inside @ cell, *others, CUTOFF, BOND_CUTOFF)
    assert len(expected.centres)
    require_same(search((inside + shift) @ cell, *others, CUTOFF, BOND_CUTOFF), expected)


def one_crystal(seed: int = 0, n: int = 30) -> tuple:
    rng = np.random.default_rng(seed)
    cell = lattice(rng, "skewed", n)
    return rng.uniform(0, 1, (n, 3)) @ cell, cell[None], np.ones((1, 3), dtype=bool), np.array([0, n])


def test_the_order_is_that_of_centres_and_neighbours_and_always_the_same():
    arrays = one_crystal()
    first, again = find_bonds(*arrays, CUTOFF, BOND_CUTOFF), find_bonds(*arrays, CUTOFF, BOND_CUTOFF)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for part in (slice(first.n_short), slice(first.n_short, None)):
        ends = np.column_stack([first.centres[part], first.neighbours[part]]).tolist()
        assert ends == sorted(ends)


def test_a_large_crystal_goes_to_vesin(monkeypatch):
    arrays = one_crystal()
    compiled = find_bonds(*arrays, CUTOFF, BOND_CUTOFF)
    monkeypatch.setattr(neighbours, "LARGE", 29)
    monkeypatch.setattr(neighbours._compiled(), "list_bonds", None)
    require_same(find_bonds(*arrays, CUTOFF, BOND_CUTOFF), compiled)


def test_more_bonds_than_expected_are_no_trouble():
    arrays = one_crystal(n=2)
    many = find_bonds(*arrays, 25.0, BOND_CUTOFF)  # thousands an atom
    require_same(many, by_vesin(arrays, 25.0))
    require_same(find_bonds(*arrays, CUTOFF, BOND_CUTOFF), by_vesin(arrays))


def test_arrays_that_may_not_be_written_to_or_are_not_contiguous():
    positions, cells, pbc, offsets = one_crystal()
    expected = find_bonds(positions, cells, pbc, offsets, CUTOFF, BOND_CUTOFF)
    signatures = len(neighbours._compiled().list_bonds.signatures)
    fixed = positions.copy()
    fixed.setflags(write=False)
    require_same(find_bonds(fixed, np.asfortranarray(cells), pbc, offsets, CUTOFF, BOND_CUTOFF), expected, atol=0)
    assert len(neighbours._compiled().list_bonds.signatures) == signatures  # nothing was compiled for them


# -- the list that is kept ------------------------------------------------------------------------------


def require_fresh(kept: VerletList, arrays) -> None:
    require_same(kept(*arrays, CUTOFF, BOND_CUTOFF), find_bonds(*arrays, CUTOFF, BOND_CUTOFF), atol=1e-11)


@pytest.mark.parametrize("numba", ["compiled", "written"])
def test_a_kept_list_gives_the_bonds_of_a_new_search(numba, request):
    if numba == "written":
        request.getfixturevalue("without_numba")
    rng = np.random.default_rng(1)
    positions, *others = one_crystal()
    kept, changed = VerletList(skin=0.6), 0
    before = len(find_bonds(positions, *others, CUTOFF, BOND_CUTOFF).centres)
    for _ in range(60):
        require_fresh(kept, (positions, *others))
        positions = positions + rng.normal(0, 0.03, positions.shape)
        now = len(find_bonds(positions, *others, CUTOFF, BOND_CUTOFF).centres)
        changed, before = changed + (now != before), now
    assert changed > 40  # bonds came and went, so a list that is only kept would be wrong
    assert 3 <= kept.n_searches <= 20


def test_a_new_list_once_an_atom_has_moved_by_half_the_skin():
    positions, *others = one_crystal()
    kept = VerletList(skin=0.5)
    for step, searches in [(0.0, 1), (0.2499, 1), (0.2501, 2), (0.0, 3), (40.0, 4)]:
        moved = positions.copy()
        moved[7, 1] += step
        require_fresh(kept, (moved, *others))
        assert kept.n_searches == searches


def test_two_atoms_that_approach_each_other_are_seen_in_time():
    cell, pbc, offsets = np.eye(3)[None] * 40, np.ones((1, 3), dtype=bool), np.array([0, 2])
    kept = VerletList(skin=0.5)
    for way in np.linspace(0, 1.5, 31):  # from beyond cutoff and skin to well within the cutoff
        positions = np.array([[way, 0, 0], [CUTOFF + 0.6 - way, 0, 0]])
        require_fresh(kept, (positions, cell, pbc, offsets))
    assert kept.n_searches < 10


def test_a_new_list_for_another_cell_periodicity_number_of_atoms_or_cutoff():
    positions, cells, pbc, offsets = one_crystal()
    kept = VerletList()
    require_fresh(kept, (positions, cells, pbc, offsets))
    strained = cells + np.array([[1e-9, 0, 0], [0, 0, 0], [0, 0, 0]])
    open_above = np.array([[True, True, False]])
    fewer = np.array([0, 29])
    changes = [
        (positions, strained, pbc, offsets),
        (positions, strained, open_above, offsets),
        (positions[:29], strained, open_above, fewer),
    ]
    for searches, arrays in enumerate(changes, start=2):
        require_fresh(kept, arrays)
        require_fresh(kept, arrays)
        assert kept.n_searches == searches
    require_same(kept(*changes[-1], 6.0, 3.0), find_bonds(*changes[-1], 6.0, 3.0), atol=1e-11)
    assert kept.n_searches == 5


def test_a_changed_array_is_not_mistaken_for_the_one_the_list_was_made_for():
    arrays = one_crystal()
    kept = VerletList()
    require_fresh(kept, arrays)
    arrays[0][3] += 1.0  # in place
    require_fresh(kept, arrays)
    assert kept.n_searches == 2
