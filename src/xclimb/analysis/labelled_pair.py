"""The two sides of a comparison: labelled frames, or a potential whose predictions stand for them."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.references import AtomRef


@runtime_checkable
class CanLabel(Protocol):
    """What a comparison needs of a potential: its predictions as labels, its references, its level of theory."""

    theory: LevelOfTheory
    references: AtomRef

    def label(self, frames: Frames) -> Frames:
        """The same structures with the potential's predictions as labels."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Labelled frames on both sides.

    Args:
        low: frames of the first side.
        high: frames of the second side.
        predicted: whether the first side are predictions for the frames of the second.
        notes: what a reader should know, a sentence each.
    """

    low: Frames
    high: Frames
    predicted: bool
    notes: tuple[str, ...]


def two_sides(low: Frames | CanLabel, high: Frames) -> Sides:
    """Both sides as labelled frames; a potential labels the frames of the other side that carry an energy.

    Raises:
        DataError: if a potential is to be compared with frames without energies.
    """
    if isinstance(low, Frames):
        return Sides(low, high, False, ())
    labelled = high[np.isfinite(high.energy) & (high.n_atoms > 0)]
    if not len(labelled):
        raise DataError(f"none of the {len(high)} frames has an energy to compare a potential with: read labelled frames")
    missing = len(high) - len(labelled)
    told = (f"{missing} of {len(high)} frames of the second set carry no energy and were left out.",) if missing else ()
    name = getattr(low, "name", "the potential")
    note = f"The first side are predictions of {name}: what is left over holds its errors too."
    return Sides(low.label(labelled), labelled, True, (*told, note))
