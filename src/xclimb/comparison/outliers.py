"""Structures of the pairs furthest from a sum over elements, small enough for a report."""

import numpy as np

from xclimb.comparison.pairing import Pairs
from xclimb.data.frames import Frames

MOST = 50  # structures
MOST_ATOMS = 400  # of one of them; larger cells are named, not kept
_DIGITS = 3  # of an Å


def outlier_structures(pairs: Pairs, left_over: np.ndarray) -> list[dict]:
    """The structures of at most :data:`MOST` pairs, largest absolute residual first.

    Args:
        pairs: paired frames.
        left_over: the shift of each pair without its per-element fit ``[P]``, in any unit.

    Returns:
        A dictionary a pair: ``frame_id``, ``n_atoms``, ``low``, and ``high`` where the two are not the same structure;
        each holds ``numbers``, ``positions`` (Å, flat), ``cell`` (Å, rows flat) and ``pbc``, or is None above
        :data:`MOST_ATOMS` atoms.
    """
    rows = np.argsort(-np.abs(left_over), kind="stable")[:MOST]
    return [
        {
            "frame_id": str(pairs.low.frame_id[row]),
            "n_atoms": int(pairs.low.n_atoms[row]),
            "low": structure_of(pairs.low, row),
            "high": None if pairs.same_structure[row] else structure_of(pairs.high, row),
        }
        for row in rows.tolist()
    ]


def structure_of(frames: Frames, row: int) -> dict | None:
    """Numbers, positions (Å, flat), cell (Å, rows flat) and pbc of a frame; None above :data:`MOST_ATOMS` atoms."""
    atoms = slice(int(frames.offsets[row]), int(frames.offsets[row + 1]))
    if atoms.stop - atoms.start > MOST_ATOMS:
        return None
    return {
        "numbers": frames.numbers[atoms].tolist(),
        "positions": np.round(frames.positions[atoms].ravel(), _DIGITS).tolist(),
        "cell": np.round(frames.cells[row].ravel(), _DIGITS).tolist(),
        "pbc": frames.pbc[row].tolist(),
    }
