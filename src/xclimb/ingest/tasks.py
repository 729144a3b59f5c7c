"""Independent tasks of one file, and their execution by a worker: decode, then audit."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from xclimb.data.frames import LABELS
from xclimb.data.theory import check_functional, functional_name
from xclimb.errors import DataError, TheoryError
from xclimb.formats import energy_names, format_of
from xclimb.formats.base import Part, ReadOptions, Reject, Source
from xclimb.ingest.audit import NO_LABEL, Limits, audit
from xclimb.ingest.label_units import LabelUnits, states_units
from xclimb.ingest.levels import FAMILIES, is_other_level, resolve_theory, wanted_parts
from xclimb.ingest.names import fingerprints

_WHOLE = 16_000_000  # bytes of a file that a worker reads by itself, at most
_HELD = 512_000_000  # bytes of frames that it holds then: a compressed file may be larger than it seems


@dataclass(frozen=True)
class Reading(ReadOptions):
    """Options of reading and audit: those of readers, and these.

    Args:
        limits: beyond which the audit does not believe a frame.
        checks: check -> action, see :func:`xclimb.ingest.audit.audit`.
        units: units of the labels, where they are not the usual of a format.
    """

    limits: Limits = field(default_factory=Limits)
    checks: Mapping[str, str] = field(default_factory=dict)
    units: LabelUnits = field(default_factory=LabelUnits)

    def __post_init__(self):
        if self.functional is not None:
            check_functional(self.functional)
        if self.labels not in ("required", "optional", "ignored"):
            raise DataError(f"labels={self.labels!r}: give required, optional or ignored")
        known = energy_names()
        if self.energy is not None and self.energy not in chain(*known.values()):
            listed = ", ".join(f"{' or '.join(names)} ({program})" for program, names in known.items())
            raise DataError(f"energy={self.energy!r}: give {listed}")
        if self.steps not in ("all", "last"):
            raise DataError(f"steps={self.steps!r}: give all or last")
        if self.only is not None and functional_name(self.only) in FAMILIES:  # of the frames that are left
            object.__setattr__(self, "functional", self.functional or self.only)


@dataclass(frozen=True)
class Task:
    """Something to decode: a chunk of a file, frames that were read already, or (neither) a whole file."""

    source: Source
    reading: Reading
    chunk: Any = None
    part: Part | None = None
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """Result of a task.

    Args:
        source: the file.
        parts: audited frames and rejects.
        fingerprints: a hash of each frame of each part.
        error: why the file breaks off, if it does.
        theory_error: why its level of theory cannot be used, if so.
        others: levels of theory that were passed over.
    """

    source: Source
    parts: list[Part]
    fingerprints: list[np.ndarray]
    error: str | None = None
    theory_error: str | None = None
    others: frozenset[str] = frozenset()


def iter_tasks(source: Source, reading: Reading) -> Iterator[Task]:
    """The tasks of one file, in the order of its frames. An error in the middle is the last task.

    Args:
        source: the file.
        reading: how it is read.
    """
    whole = Task(source, reading)
    if source.problem is not None:
        yield replace(whole, error=source.problem)
        return
    chunks = format_of(source.kind).chunks(source)
    small = chunks is None and source.path.is_file() and source.path.stat().st_size < _WHOLE
    if small or is_other_level(source, reading.only, reading.functional):
        yield whole
        return
    try:
        if chunks is not None:
            for chunk in chunks:
                yield replace(whole, chunk=chunk)
        else:
            for part in iter_parts(source, reading):
                yield replace(whole, part=part)
    except DataError as error:
        yield replace(whole, error=str(error))


def iter_parts(source: Source, reading: Reading) -> Iterator[Part]:
    """The parts of one file, not audited yet, at the level of theory that the file states."""
    return format_of(source.kind).iter(source, reading)


def run_task(task: Task) -> Done:
    """Decode and audit. Errors of the input come back as text, so that frames before them are kept."""
    collecting = gc.isenabled()
    gc.disable()  # parsed JSON holds very many objects and no cycles: the collector would double the time
    try:
        parts, error, theory_error, others = [], task.error, None, set[str]()
        only, functional = task.reading.only, task.reading.functional
        try:
            for part in wanted_parts(_decoded(task), task.source, only, functional, others):
                if len(part.frames):  # of another functional than the one given: not worth an audit
                    resolve_theory(part.frames.theory, functional, None, str(task.source.path))
                parts.append(_audited(part, task))  # what came before an error is kept
        except DataError as problem:
            error = str(problem)
        except TheoryError as problem:
            theory_error = str(problem)
        wanted = task.reading.checks.get("duplicate") != "off"
        numbers = [fingerprints(part.frames) if wanted else np.zeros(0, dtype=np.uint64) for part in parts]
        return Done(task.source, parts, numbers, error, theory_error, frozenset(others))
    finally:
        if collecting:
            gc.enable()


def _bounded(parts: Iterator[Part], source: Source) -> Iterator[Part]:
    """The parts of a file that a worker holds as a whole, up to a bound of memory."""
    size = 0
    for part in parts:
        size += sum(
            column.nbytes for column in (part.frames.positions, part.frames.forces, part.frames.cells, part.frames.stress)
        )
        yield part
        if size > _HELD:
            raise DataError(
                f"{source.path} unpacks to more than {_HELD:,} bytes of frames: unpack it first, it is streamed then"
            )


def _decoded(task: Task) -> Iterator[Part]:
    if task.chunk is not None:
        yield from format_of(task.source.kind).decode(task.chunk, task.source, task.reading)
    elif task.part is not None:
        yield task.part
    elif task.error is None:
        yield from _bounded(iter_parts(task.source, task.reading), task.source)


def _audited(part: Part, task: Task) -> Part:
    """The sound frames of a part; those that are not join its rejects."""
    if not task.source.is_store:
        part = replace(part, frames=task.reading.units.convert(part.frames, task.source.kind))
    checks = dict(task.reading.checks)
    if task.reading.labels != "required" or task.source.is_store:  # of a store it was decided when it was made
        checks.setdefault("unlabelled", "off")
    if task.reading.labels == "ignored":
        checks |= {"converged": "off"}
        part = replace(part, frames=part.frames.replace(**dict.fromkeys(LABELS)))
    stated = states_units(task.source.kind)
    failures = audit(part.frames, task.reading.limits, file=str(task.source.path), checks=checks, units_stated=stated)
    why = part.use.describe_unused()
    failures = [replace(one, detail=why) if why and one.reason == NO_LABEL else one for one in failures]
    sound = np.ones(len(part.frames), dtype=bool)
    sound[[reject.index for reject in failures if reject.action == "reject"]] = False
    numbered = [replace(reject, index=int(part.places[reject.index])) for reject in failures]
    rejects: list[Reject] = sorted(part.rejects + numbered, key=lambda reject: reject.index)
    if sound.all():
        return replace(part, rejects=rejects)
    return replace(part, frames=part.frames[sound], rejects=rejects, places=part.places[sound])
