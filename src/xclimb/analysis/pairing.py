"""Which frame of one set belongs to which frame of another, and whether the two are the same structure."""

import math
from dataclasses import dataclass

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError

PAIRED_BY = ("frame_id", "material_id")
_SAME_WITHIN = 1e-2  # Å: files round positions; relaxations move atoms by more


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two sets, row by row the two sides of a pair.

    Args:
        low: frames of the first set ``[P]``.
        high: frames of the second set ``[P]``.
        by: ``"frame_id"`` or ``"material_id"``.
        same_structure: whether both sides have the same cell and positions, so that forces and stress can be compared ``[P]``.
        notes: what was left out, a sentence each.
    """

    low: Frames
    high: Frames
    by: str
    same_structure: np.ndarray
    notes: tuple[str, ...]


def pair_frames(low: Frames, high: Frames, by: str | None = None) -> Pairs:
    """Pair frames with energies by ``frame_id``, or materials by ``material_id``.

    By material, the frame with the lowest energy per atom stands for it on each side.

    Args:
        low: the first set.
        high: the second set.
        by: ``"frame_id"``, ``"material_id"``, or None for frame ids if any agree and material ids otherwise.

    Raises:
        DataError: if nothing pairs.
        ConfigError: on another ``by``.
    """
    if by not in (None, *PAIRED_BY):
        raise ConfigError(f"frames cannot be paired by {by!r}: choose {' or '.join(PAIRED_BY)}")
    left, right = _with_energy(low), _with_energy(high)
    if by is None:
        by = "frame_id" if len(np.intersect1d(left.frame_id, right.frame_id)) else "material_id"
    if by == "material_id":
        left, right = _most_stable(left), _most_stable(right)
    _, rows_left, rows_right = np.intersect1d(getattr(left, by), getattr(right, by), return_indices=True)
    order = np.argsort(rows_left)
    left, right = left[rows_left[order]], right[rows_right[order]]
    paired = len(left)
    alike = np.abs(_fractions(left) - _fractions(right)).max(axis=1, initial=0.0) < 1e-9
    left, right = left[alike], right[alike]
    if not len(left):
        reason = f"the {paired} pairs differ in composition" if paired else "no ids agree"
        raise DataError(
            f"no frame of the first set ({len(low)} frames) pairs with one of the second ({len(high)}) by {by}: {reason}; "
            "give both sets the same frame_id or material_id, and energies"
        )
    return Pairs(left, right, by, same_structure(left, right), tuple(_notes(low, high, by, paired, alike)))


def _with_energy(frames: Frames) -> Frames:
    return frames[np.isfinite(frames.energy) & (frames.n_atoms > 0)]


def _most_stable(frames: Frames) -> Frames:
    """Of each material the frame with the lowest energy per atom."""
    by_energy = np.argsort(frames.energy_per_atom, kind="stable")
    _, first = np.unique(frames.material_id[by_energy], return_index=True)
    return frames[by_energy[first]]


def _fractions(frames: Frames) -> np.ndarray:
    return frames.composition() / frames.n_atoms[:, None]


def same_structure(left: Frames, right: Frames) -> np.ndarray:
    """Whether both sides of each pair have the same atoms in the same places, up to lattice translations ``[P]``."""
    same = (left.n_atoms == right.n_atoms) & (np.abs(left.cells - right.cells).max(axis=(1, 2), initial=0.0) < _SAME_WITHIN)
    some, other = left[same], right[same]
    move = other.positions - some.positions
    # whole lattice vectors along periodic directions are no move (pinv: a molecule has a cell of zeros)
    fractional = np.einsum("ai,aij->aj", move, np.linalg.pinv(some.cells)[some.system])
    whole = np.rint(fractional) * some.pbc[some.system]
    move = move - np.einsum("ai,aij->aj", whole, some.cells[some.system])
    moved = (np.abs(move).max(axis=1, initial=0.0) > _SAME_WITHIN) | (some.numbers != other.numbers)
    same[same] = np.bincount(some.system, moved, len(some)) == 0
    return same


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
