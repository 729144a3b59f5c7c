""":class:`LabelledPair`: the low and high labelled frames of a comparison; a potential stands for its predictions."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.references import AtomRef


@runtime_checkable
class LabellingPotential(Protocol):
    """Protocol of a potential for a comparison: predictions as labels, references, level of theory."""

    theory: LevelOfTheory
    references: AtomRef

    def label(self, frames: Frames) -> Frames:
        """The same structures with the potential's predictions as labels."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """Labelled frames at the low and the high level.

    Args:
        low: frames of the low level.
        high: frames of the high level.
        predicted: whether the low labels are predictions for the high frames.
        notes: remarks, a sentence each.
    """

    low: Frames
    high: Frames
    predicted: bool
    notes: tuple[str, ...]


def label_pair(low: Frames | LabellingPotential, high: Frames) -> LabelledPair:
    """Return low and high as labelled frames; a potential labels the high frames that carry an energy.

    Raises:
        DataError: if a potential is to be compared with frames without energies.
    """
    if isinstance(low, Frames):
        return LabelledPair(low, high, False, ())
    labelled = high[np.isfinite(high.energy) & (high.n_atoms > 0)]
    if not len(labelled):
        raise DataError(f"none of the {len(high)} frames has an energy to compare a potential with: read labelled frames")
    missing = len(high) - len(labelled)
    notes = (f"{missing} of {len(high)} frames of the second set carry no energy and were left out.",) if missing else ()
    name = getattr(low, "name", "the potential")
    note = f"The first side are predictions of {name}: what is left over holds its errors too."
    return LabelledPair(low.label(labelled), labelled, True, (*notes, note))
