"""What readers give: some frames of a file, and what could not be made into frames."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.label_schema import LabelUse
from xclimb.ingest.audit import Reject

if TYPE_CHECKING:
    Places = np.ndarray
else:
    Places = np.ndarray | None  # None when given, filled in after that


@dataclass(frozen=True)
class Part:
    """Some frames of a file, and those in between that could not be made into frames.

    Args:
        frames: the frames.
        first: number of the first of them in the file.
        rejects: what could not be read.
        places: number of each frame in the file ``[S]``; by default from ``first`` on without gaps.
        use: which keys of the file were read as labels, and which were not.
    """

    frames: Frames
    first: int = 0
    rejects: list[Reject] = field(default_factory=list)
    places: Places = None  # type: ignore[assignment]
    use: LabelUse = field(default_factory=LabelUse)

    def __post_init__(self):
        if self.places is None:
            object.__setattr__(self, "places", self.first + np.arange(len(self.frames)))
