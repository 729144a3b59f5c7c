"""The interface of a format of files, the registry, and what readers take and give: sources, options, parts and rejects."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.label_schema import LabelUse
from xclimb.data.theory import LevelOfTheory

if TYPE_CHECKING:
    Places = np.ndarray
else:
    Places = np.ndarray | None  # None when given, filled in after that

EV_UNITS = {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"}
STORE = "store"  # the format of xclimb's own output, which an ingest also writes


@dataclass(frozen=True)
class Source:
    """One file (or store) with structures.

    Args:
        path: where it is.
        kind: name of its format, one of :attr:`Format.kinds`.
        stem: its name in frame ids: the path below the folder that was asked for, without suffixes.
        problem: why the file cannot be opened, so that its format is unknown; its kind is then ``"unreadable"``.
    """

    path: Path
    kind: str
    stem: str
    problem: str | None = None

    @property
    def is_store(self) -> bool:
        """Whether the source is a store of xclimb, audited when it was made."""
        return self.kind == STORE


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


@dataclass(frozen=True)
class ReadOptions:
    """Options of the user that concern readers; each format uses those that mean something for it.

    Args:
        functional: the functional the user names; it chooses where a file has labels of several.
        keys: names of the labels, where the user gives them.
        energy: one of :attr:`Format.energies`, of a file that has several; None for the first.
        steps: ionic steps of a run: ``"all"`` or ``"last"``.
        only: name of the one level of theory that is read; None for all.
        labels: ``"required"`` (a frame without any is a reject), ``"optional"``, or ``"ignored"`` (only structures are read).
    """

    functional: str | None = None
    keys: LabelKeys = field(default_factory=LabelKeys)
    energy: str | None = None
    steps: str = "all"
    only: str | None = None
    labels: str = "required"


def _no_kind(*arguments: object) -> None:
    """Recognise no file."""


def _one_task(source: Source) -> None:
    """Leave a file whole."""


def _no_level(source: Source) -> None:
    """State no level of theory in the head of a file."""


def _no_chunks(chunk: Any, source: Source, options: ReadOptions) -> Iterable[Part]:
    raise NotImplementedError(f"{source.kind} is not cut into chunks")


@dataclass(frozen=True)
class Format:
    """A format of files with structures and labels. Only ``name``, ``reads`` and ``iter`` must be given.

    Args:
        name: as it stands in the provenance of a store.
        reads: kind of file -> what is taken of it: the rows of this format in the table of docs/data.md.
        iter: reads a source: frames in parts, at the level of theory that the file states, labels in ``units`` (eV, eV/Å,
            eV/Å^3 with tension positive where the format states its units). Frames before a damaged place are given before the
            DataError that names the file and the place.
        sniff: first bytes of a file (decompressed) and its path -> its kind, or None.
        sniff_name: path of a file that no format recognised by content -> its kind, or None.
        units: label -> unit that its numbers have by convention, after ``iter`` has read them as such; the user may state
            another. None if the format states its units.
        energies: names of the energies that a file may hold, the first by default; ``--energy`` chooses.
        program: who has these energies, for messages.
        level: level of theory of a source from its head alone; None if each frame has its own, or nobody knows.
        chunks: cuts a source into chunks that worker processes decode; None if it cannot be cut.
        decode: a chunk, its source, options -> its parts.
        kinds: the names that its files go by, where they are several; by default ``(name,)``.
        repeats: kinds of files that repeat the calculation of such a file in the same folder: they are passed over.
        priority: formats of a low number are tried first.
    """

    name: str
    reads: Mapping[str, str]
    iter: Callable[[Source, ReadOptions], Iterator[Part]]
    sniff: Callable[[bytes, Path], str | None] = _no_kind
    sniff_name: Callable[[Path], str | None] = _no_kind
    units: Mapping[str, str] | None = None
    energies: tuple[str, ...] = ()
    program: str = ""
    level: Callable[[Source], LevelOfTheory | None] = _no_level
    chunks: Callable[[Source], Iterator[Any] | None] = _one_task
    decode: Callable[[Any, Source, ReadOptions], Iterable[Part]] = _no_chunks
    kinds: tuple[str, ...] = ()
    repeats: tuple[str, ...] = ()
    priority: int = 0

    def __post_init__(self):
        if not self.kinds:
            object.__setattr__(self, "kinds", (self.name,))


FORMATS: dict[str, Format] = {}  # by name


def register(new: Format) -> Format:
    """Add a format to the registry.

    Raises:
        ValueError: if its name, or one of its kinds, is taken.
    """
    for other in FORMATS.values():
        if taken := {new.name, *new.kinds} & {other.name, *other.kinds}:
            raise ValueError(f"the format {other.name!r} has the name {min(taken)!r} already: give the new one another")
    FORMATS[new.name] = new
    return new


def first_line(error: BaseException) -> str:
    """The first line of another library's message, short enough to stand in a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
