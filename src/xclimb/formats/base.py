"""What readers give: some frames of a file, and what could not be made into frames."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.label_schema import LabelUse

if TYPE_CHECKING:
    Places = np.ndarray
else:
    Places = np.ndarray | None  # None when given, filled in after that


_DATABASES = ("db", "json", "aselmdb")


@dataclass(frozen=True)
class Source:
    """One file (or store) with structures.

    Args:
        path: where it is.
        kind: ``"records"`` (JSON), ``"parquet"``, ``"store"`` or the name of one of ASE's formats.
        stem: its name in frame ids: the path below the folder that was asked for, without suffixes.
        layout: of JSON records: depth and kind, see :func:`xclimb.formats.materials_project.spans.record_depth`.
        problem: why not even its format can be told, of a file that cannot be opened; its kind is ``"unreadable"``.
    """

    path: Path
    kind: str
    stem: str
    layout: tuple[int, str] | None = None
    problem: str | None = None

    @property
    def database(self) -> bool:
        """Whether the file is an ASE database."""
        return self.kind in _DATABASES


@dataclass(frozen=True)
class Reject:
    """A frame that cannot be used.

    Args:
        frame_id: its name.
        index: its number in the file (or set) it comes from; -1 for a whole file.
        reason: what is wrong, the same words for the same fault.
        detail: the figures.
        file: the file it comes from, if any.
        action: ``"reject"``, or ``"warn"`` for a frame that is kept.
    """

    frame_id: str
    index: int
    reason: str
    detail: str
    file: str = ""
    action: str = "reject"


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
