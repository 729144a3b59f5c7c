"""Matching of structures of two sets without common ids: pymatgen's StructureMatcher, formula by formula."""

from dataclasses import dataclass, field

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.same_crystal import matcher, primitive_cells, tracked

MOST = 20_000  # comparisons, of some ms each
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Matches:
    """Rows of two sets that hold the same structure.

    Args:
        low: rows of the first set ``[P]``.
        high: rows of the second set ``[P]``.
        notes: the method, ambiguous and unmatched structures, a sentence each.
    """

    low: np.ndarray
    high: np.ndarray
    notes: tuple[str, ...]


@dataclass
class _Tally:
    """Counts of a matching, for its notes."""

    comparisons: int = 0
    ambiguous: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def match_structures(
    low: Frames, high: Frames, rows_low: np.ndarray, rows_high: np.ndarray, most: int = MOST, progress: bool = False
) -> Matches:
    """Pair structures of equal reduced formula that are the same but for strain and small displacements.

    Volumes are scaled to each other, cells reduced to primitive ones. Where several match, the pairs with the smallest root
    mean square displacement are taken, every structure once. Formulas with few candidates go first; when ``most`` comparisons
    are used up, the rest is left and named.

    Args:
        low: the first set.
        high: the second set.
        rows_low: its rows to match ``[n]``; of each named material the one of lowest energy (see :func:`representatives`).
        rows_high: rows of the second set ``[m]``.
        most: comparisons of two structures at most.
        progress: show a bar on the terminal.
    """
    rows_low, rows_high = rows_low[low.pbc[rows_low].all(1)], rows_high[high.pbc[rows_high].all(1)]
    tally, matches = _Tally(), []
    for formula, mine, theirs in tracked(_by_formula(low, high, rows_low, rows_high), "matching structures", progress):
        if tally.comparisons + len(mine) * len(theirs) > most:
            tally.skipped.append(formula)
            continue
        tally.comparisons += len(mine) * len(theirs)
        matches += _one_formula(low, high, mine, theirs, tally)
    pairs = np.array(sorted(matches), dtype=np.int64).reshape(-1, 2)
    notes = _notes(tally, len(pairs), len(rows_low), len(rows_high))
    return Matches(pairs[:, 0], pairs[:, 1], tuple(notes))


def representatives(frames: Frames, rows: np.ndarray) -> np.ndarray:
    """Of each named material the row with the lowest energy per atom; every row where the material is but a formula."""
    unnamed = frames.material_id[rows] == frames[rows].formulas()
    named = rows[~unnamed]
    ordered = named[np.argsort(frames.energy_per_atom[named], kind="stable")]
    _, first = np.unique(frames.material_id[ordered], return_index=True)
    return np.sort(np.concatenate([ordered[first], rows[unnamed]]))


def _by_formula(low: Frames, high: Frames, rows_low: np.ndarray, rows_high: np.ndarray) -> list[tuple]:
    """Formulas that both levels have, with their rows, few candidates first."""
    mine, theirs = low[rows_low].formulas(), high[rows_high].formulas()
    shared = np.intersect1d(mine, theirs)
    groups = [(str(name), rows_low[mine == name], rows_high[theirs == name]) for name in shared]
    return sorted(groups, key=lambda group: len(group[1]) * len(group[2]))


def _one_formula(low: Frames, high: Frames, mine: np.ndarray, theirs: np.ndarray, tally: _Tally) -> list[tuple[int, int]]:
    """Pairs of one formula, nearest first."""
    compare = matcher()
    left, right = primitive_cells(low, mine), primitive_cells(high, theirs)
    near = []
    for i, first in enumerate(left):
        for j, second in enumerate(right):
            distance = compare.get_rms_dist(first, second) if len(first) == len(second) else None
            if distance is not None:
                near.append((float(distance[0]), i, j))
    taken: list[tuple[int, int]] = []
    used_low, used_high = set(), set()
    for _, i, j in sorted(near):
        if i not in used_low and j not in used_high:
            used_low.add(i)
            used_high.add(j)
            taken.append((int(mine[i]), int(theirs[j])))
    several = [i for i in used_low if sum(one == i for _, one, _ in near) > 1]
    tally.ambiguous += [str(low.frame_id[mine[i]]) for i in several]
    return taken


def _notes(tally: _Tally, n_pairs: int, n_low: int, n_high: int) -> list[str]:
    notes = [
        f"Paired by structure (pymatgen's StructureMatcher, {tally.comparisons} comparisons): {n_pairs} of {n_low} structures "
        f"of the first set, {n_pairs} of {n_high} of the second; the others have no partner."
    ]
    if tally.ambiguous:
        notes.append(f"{len(tally.ambiguous)} structures match several, the nearest was taken: {_first(tally.ambiguous)}.")
    if tally.skipped:
        notes.append(
            f"{len(tally.skipped)} formulas were not compared, as they have too many candidates: {_first(tally.skipped)}; "
            "give ids, or fewer frames."
        )
    return notes


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
