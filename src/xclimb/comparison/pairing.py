""":class:`Pairs`: frames of two sets matched one to one, with a test whether the two are the same structure."""

import math
from dataclasses import dataclass

import numpy as np

from xclimb.comparison.matching import match_structures, representatives
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError
from xclimb.references.linear import blocks

PAIRED_BY = {
    "frame": "frame_id", "material": "material_id", "frame_id": "frame_id", "material_id": "material_id",
    "structure": "structure",
}  # fmt: skip
_SAME_WITHIN = 1e-2  # Å: files round positions; relaxations move atoms by more


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two sets of equal length; equal rows are a pair.

    Args:
        low: frames of the first set ``[P]``.
        high: frames of the second set ``[P]``.
        by: ``"frame_id"``, ``"material_id"`` or ``"structure"``.
        same_structure: whether both levels have the same cell and positions, so that forces and stress can be compared ``[P]``.
        notes: what was left out, a sentence each.
    """

    low: Frames
    high: Frames
    by: str
    same_structure: np.ndarray
    notes: tuple[str, ...]


def pair_frames(low: Frames, high: Frames, by: str | None = None, progress: bool = False) -> Pairs:
    """Pair frames with energies by ``frame_id``, materials by ``material_id``, or structures by their geometry.

    By material, the frame with the lowest energy per atom stands for it on each level.

    Args:
        low: the first set.
        high: the second set.
        by: ``"frame"``, ``"material"`` or ``"structure"`` (:func:`xclimb.comparison.matching.match_structures`); None for frame
            ids if any agree, else material ids if any agree that are more than formulas, else structures.
        progress: show a bar where that takes long.

    Raises:
        DataError: if nothing pairs.
        ConfigError: on another ``by``.
    """
    if by is not None and by not in PAIRED_BY:
        raise ConfigError(f"frames cannot be paired by {by!r}: choose frame, material or structure")
    rows_low, rows_high = _with_energy(low), _with_energy(high)
    by = _chosen(low, high, rows_low, rows_high) if by is None else PAIRED_BY[by]
    if by == "structure":
        return _by_structure(low, high, rows_low, rows_high, progress)
    if by == "material_id":
        rows_low, rows_high = _most_stable(low, rows_low), _most_stable(high, rows_high)
    at_low, at_high = _common(getattr(low, by)[rows_low], getattr(high, by)[rows_high])
    left, right = _taken(low, rows_low[at_low]), _taken(high, rows_high[at_high])
    paired = len(left)
    alike = _same_composition(left, right)
    left, right = _taken(left, np.flatnonzero(alike)), _taken(right, np.flatnonzero(alike))
    if not len(left):
        reason = f"the {paired} pairs differ in composition" if paired else "no ids agree"
        raise DataError(
            f"no frame of the first set ({len(low)} frames) pairs with one of the second ({len(high)}) by {by}: {reason}; "
            "give both sets the same frame_id or material_id, and energies, or pair them by structure"
        )
    return Pairs(left, right, by, same_structure(left, right), tuple(_notes(low, high, by, paired, alike)))


def _chosen(low: Frames, high: Frames, rows_low: np.ndarray, rows_high: np.ndarray) -> str:
    """Choose the way of pairing where none is given."""
    if len(_common(low.frame_id[rows_low], high.frame_id[rows_high])[0]):
        return "frame_id"
    at_low, _ = _common(low.material_id[rows_low], high.material_id[rows_high])
    shared = rows_low[at_low]
    named = bool((low.material_id[shared] != low[shared].formulas()).any())
    crystals = bool(low.pbc[rows_low].all(1).any() and high.pbc[rows_high].all(1).any())
    same = len(np.intersect1d(low[rows_low].formulas(), high[rows_high].formulas())) > 0
    return "material_id" if named or not (crystals and same) else "structure"


def _by_structure(low: Frames, high: Frames, rows_low: np.ndarray, rows_high: np.ndarray, progress: bool) -> Pairs:
    matches = match_structures(low, high, representatives(low, rows_low), representatives(high, rows_high), progress=progress)
    if not len(matches.low):
        raise DataError(
            f"no structure of the first set ({len(low)} frames) matches one of the second ({len(high)}): "
            "give both sets the same frame_id or material_id, and energies"
        )
    left, right = low[matches.low], high[matches.high]
    return Pairs(left, right, "structure", same_structure(left, right), matches.notes)


def _with_energy(frames: Frames) -> np.ndarray:
    """Rows of the frames that carry an energy and an atom."""
    return np.flatnonzero(np.isfinite(frames.energy) & (frames.n_atoms > 0))


def _common(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the ids that both levels have, the first of each, in the order of the first set."""
    _, at_left, at_right = np.intersect1d(left, right, return_indices=True)
    order = np.argsort(at_left)
    return at_left[order], at_right[order]


def _taken(frames: Frames, rows: np.ndarray) -> Frames:
    """The rows of a set; the set itself, uncopied, if these are all of them in order."""
    return frames if len(rows) == len(frames) and np.array_equal(rows, np.arange(len(frames))) else frames[rows]


def _most_stable(frames: Frames, rows: np.ndarray) -> np.ndarray:
    """Of each material among the rows the one with the lowest energy per atom."""
    by_energy = rows[np.argsort(frames.energy_per_atom[rows], kind="stable")]
    _, first = np.unique(frames.material_id[by_energy], return_index=True)
    return by_energy[first]


def _same_composition(left: Frames, right: Frames) -> np.ndarray:
    """Whether both levels of each pair have the same composition fractions ``[P]``."""
    if np.array_equal(left.offsets, right.offsets) and np.array_equal(left.numbers, right.numbers):
        return np.ones(len(left), dtype=bool)
    alike = [_fractions_agree(left[rows], right[rows]) for rows in blocks(len(left))]
    return np.concatenate([*alike, np.zeros(0, dtype=bool)])


def _fractions_agree(left: Frames, right: Frames) -> np.ndarray:
    first, second = left.composition() / left.n_atoms[:, None], right.composition() / right.n_atoms[:, None]
    return np.abs(first - second).max(axis=1, initial=0.0) < 1e-9


def same_structure(left: Frames, right: Frames) -> np.ndarray:
    """Whether both levels of each pair have the same atoms in the same places, up to lattice translations ``[P]``."""
    same = (left.n_atoms == right.n_atoms) & (np.abs(left.cells - right.cells).max(axis=(1, 2), initial=0.0) < _SAME_WITHIN)
    for rows in blocks(len(left)):
        chosen = rows.start + np.flatnonzero(same[rows])
        same[chosen] = _unmoved(left[chosen], right[chosen])
    return same


def _unmoved(some: Frames, other: Frames) -> np.ndarray:
    move, system = other.positions - some.positions, some.system
    # whole lattice vectors along periodic directions are no move (pinv: a molecule has a cell of zeros)
    fractional = np.einsum("ai,aij->aj", move, np.linalg.pinv(some.cells)[system])
    whole = np.rint(fractional) * some.pbc[system]
    move = move - np.einsum("ai,aij->aj", whole, some.cells[system])
    moved = (np.abs(move).max(axis=1, initial=0.0) > _SAME_WITHIN) | (some.numbers != other.numbers)
    return np.bincount(system, moved, len(some)) == 0


def _notes(low: Frames, high: Frames, by: str, paired: int, alike: np.ndarray) -> list[str]:
    notes = []
    for name, frames in (("first", low), ("second", high)):
        if missing := int((~np.isfinite(frames.energy)).sum()):
            notes.append(f"{missing} of {len(frames)} frames of the {name} set carry no energy and were left out.")
        ids = getattr(frames[np.isfinite(frames.energy)], by)
        if alone := len(np.unique(ids)) - paired:
            notes.append(f"{alone} ids ({by}) of the {name} set have no partner.")
        if by == "frame_id" and len(np.unique(ids)) < len(ids):
            notes.append(f"Frame ids of the {name} set repeat; the first of each was taken.")
    if not math.isclose(alike.mean(), 1.0):
        notes.append(f"{int((~alike).sum())} of {paired} pairs differ in composition and were left out: check the ids.")
    return notes
