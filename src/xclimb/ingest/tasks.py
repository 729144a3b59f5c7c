"""One file cut into tasks that do not depend on each other, and what a worker does with one: decode, then audit."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from xclimb.data.label_keys import LabelKeys
from xclimb.data.store import iter_store
from xclimb.errors import DataError, TheoryError
from xclimb.ingest.audit import Limits, Reject, audit
from xclimb.ingest.json_spans import Chunk
from xclimb.ingest.label_units import LabelUnits
from xclimb.ingest.names import fingerprints
from xclimb.ingest.parts import Part
from xclimb.ingest.sources import Source

_WHOLE = 16_000_000  # bytes of a file that a worker reads by itself, at most


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        functional: the functional the user names.
        keys: names of the labels, where the user gives them.
        energy: which energy a file of several gives: ``"uncorrected"`` or ``"corrected"``; of VASP ``"e_0"`` or ``"free"``.
        steps: ionic steps of a VASP run: ``"all"`` or ``"last"``.
        limits: what the audit believes.
        checks: check -> action, see :func:`xclimb.ingest.audit.audit`.
        units: units of the labels, where they are not the usual of a format.
    """

    functional: str | None = None
    keys: LabelKeys = field(default_factory=LabelKeys)
    energy: str | None = None
    steps: str = "all"
    limits: Limits = field(default_factory=Limits)
    checks: Mapping[str, str] = field(default_factory=dict)
    units: LabelUnits = field(default_factory=LabelUnits)

    def __post_init__(self):
        if self.energy not in (None, "uncorrected", "corrected", "e_0", "free"):
            raise DataError(f"energy={self.energy!r}: give uncorrected or corrected (JSON), e_0 or free (VASP)")
        if self.steps not in ("all", "last"):
            raise DataError(f"steps={self.steps!r}: give all or last")


@dataclass(frozen=True)
class Task:
    """Something to decode: a chunk of a file, frames that were read already, or (neither) a whole file."""

    source: Source
    reading: Reading
    chunk: Chunk | None = None
    part: Part | None = None
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """What became of a task: audited parts, a number telling each frame of each part, and why the file ends early, if so."""

    source: Source
    parts: list[Part]
    fingerprints: list[np.ndarray]
    error: str | None = None
    theory_error: str | None = None


def iter_tasks(source: Source, reading: Reading) -> Iterator[Task]:
    """The tasks of one file, in the order of its frames. An error in the middle is the last task.

    Args:
        source: the file.
        reading: how it is read.
    """
    plain = Task(source, reading)
    if source.problem is not None:
        yield replace(plain, error=source.problem)
        return
    if source.kind != "records" and source.path.is_file() and source.path.stat().st_size < _WHOLE:
        yield plain
        return
    try:
        if source.kind == "records":
            from xclimb.ingest.mp_json import iter_record_chunks

            for chunk in iter_record_chunks(source):
                yield replace(plain, chunk=chunk)
        else:
            for part in iter_parts(source, reading):
                yield replace(plain, part=part)
    except DataError as error:
        yield replace(plain, error=str(error))


def iter_parts(source: Source, reading: Reading) -> Iterator[Part]:
    """The parts of one file, not audited yet, at the level of theory that the file states."""
    if source.kind == "store":
        first = 0
        for frames in iter_store(source.path):
            for start in range(0, len(frames), 20_000):
                some = frames[start : start + 20_000]
                yield Part(some, first)
                first += len(some)
    elif source.kind == "parquet":
        from xclimb.ingest.parquet import iter_parquet

        yield from iter_parquet(source, reading.functional, reading.keys, reading.energy)
    elif source.kind == "records":
        from xclimb.ingest.mp_json import iter_records

        yield from iter_records(source, reading.energy)
    elif source.kind == "vasp-xml":
        from xclimb.ingest.vasp import iter_vasprun

        yield from iter_vasprun(source, reading.energy, reading.steps)
    else:
        from xclimb.ingest.ase_files import iter_ase

        yield from iter_ase(source, reading.keys)


def run_task(task: Task) -> Done:
    """Decode and audit; what a worker does. Bad input comes back as words, so that frames before it are kept."""
    collecting = gc.isenabled()
    gc.disable()  # parsed JSON holds very many objects and no cycles: the collector would double the time
    try:
        parts, error, theory_error = [], task.error, None
        try:
            for part in _decoded(task):
                parts.append(_audited(part, task))  # noqa: PERF401 (what came before an error is kept)
        except DataError as problem:
            error = str(problem)
        except TheoryError as problem:
            theory_error = str(problem)
        wanted = task.reading.checks.get("duplicate") != "off"
        numbers = [fingerprints(part.frames) if wanted else np.zeros(0, dtype=np.uint64) for part in parts]
        return Done(task.source, parts, numbers, error, theory_error)
    finally:
        if collecting:
            gc.enable()


def _decoded(task: Task) -> Iterator[Part]:
    if task.chunk is not None:
        from xclimb.ingest.mp_json import decode

        yield from decode(task.chunk, task.source, task.reading.energy)
    elif task.part is not None:
        yield task.part
    elif task.error is None:
        yield from iter_parts(task.source, task.reading)


def _audited(part: Part, task: Task) -> Part:
    """The sound frames of a part; those that are not join its rejects."""
    if task.source.kind != "store":
        part = replace(part, frames=task.reading.units.convert(part.frames, task.source.kind))
    found = audit(part.frames, task.reading.limits, file=str(task.source.path), checks=task.reading.checks)
    sound = np.ones(len(part.frames), dtype=bool)
    sound[[reject.index for reject in found if reject.action == "reject"]] = False
    told = [replace(reject, index=int(part.places[reject.index])) for reject in found]
    rejects: list[Reject] = sorted(part.rejects + told, key=lambda reject: reject.index)
    if sound.all():
        return replace(part, rejects=rejects)
    return Part(part.frames[sound], part.first, rejects, part.places[sound])
