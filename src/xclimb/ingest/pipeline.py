"""From files to Frames (:func:`read`) or to a store (:func:`ingest`): the same stream of audited parts behind both."""

import csv
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.store import MANIFEST, StoreWriter, iter_store
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest.ase_files import Part, iter_ase
from xclimb.ingest.audit import Limits, Reject, audit
from xclimb.ingest.parquet import iter_parquet
from xclimb.ingest.sources import Source, find_sources

REJECTS = "rejects.csv"
# a name for data that mix two kinds of calculations on purpose -> the kinds
_FAMILIES = {"GGA/GGA+U": ("PBE", "PBE+U")}


# -- one stream behind both -----------------------------------------------------------------------------------------------


@dataclass
class _Names:
    """Makes frame ids unique: a name of an earlier file gets this file's stem before it, one of the same file ``#n`` behind."""

    seen: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    renamed: list[str] = field(default_factory=list)

    def next_file(self) -> None:
        self.seen |= self.own
        self.own = set()

    def unique(self, frames: Frames, stem: str) -> Frames:
        names = frames.frame_id.tolist()
        if len(set(names)) == len(names) and self.seen.isdisjoint(names) and self.own.isdisjoint(names):
            self.own.update(names)
            return frames
        out = [self._free(name, stem) for name in names]
        self.renamed += [old for old, new in zip(names, out, strict=True) if old != new]
        return frames.replace(frame_id=np.array(out, dtype=np.str_))

    def _free(self, name: str, stem: str) -> str:
        candidate = f"{stem}/{name}" if name in self.seen else name
        tried, n = candidate, 0
        while tried in self.own or tried in self.seen:
            n += 1
            tried = f"{candidate}#{n}"
        self.own.add(tried)
        return tried

    def warn(self) -> None:
        if self.renamed:
            text = f"{len(self.renamed)} frame id(s) stood for another frame already: renamed, {self.renamed[0]!r} the first"
            warnings.warn(text, XclimbWarning, stacklevel=3)


def _parts(source: Source, functional: str | None, energy_key: str | None) -> Iterator[Part]:
    """The parts of one file, not audited yet, at the level of theory that the file states."""
    if source.kind == "store":
        yield from _counted(iter_store(source.path))
    elif source.kind == "parquet":
        yield from _counted(iter_parquet(source.path, functional, energy_key, source.stem))
    else:
        yield from iter_ase(source, energy_key)


def _counted(sets: Iterable[Frames]) -> Iterator[Part]:
    first = 0
    for frames in sets:
        yield Part(frames, first)
        first += len(frames)


@dataclass
class _Reader:
    """Reads, names, declares and audits the parts of files."""

    functional: str | None
    theory: LevelOfTheory | None
    energy_key: str | None
    limits: Limits
    names: _Names = field(default_factory=_Names)

    def parts(self, source: Source) -> Iterator[Part]:
        """Sound frames of a file with the rejects among them; raises DataError where it cannot be read on."""
        for part in _parts(source, self.functional, self.energy_key):
            rejects = list(part.rejects)
            if len(part.frames) == 0:
                yield replace(part, rejects=rejects)
                continue
            theory = resolve_theory(part.frames.theory, self.functional, self.theory, str(source.path))
            frames = self.names.unique(part.frames, source.stem).with_theory(theory)
            found = audit(frames, self.limits, first=part.first, file=str(source.path))
            if found:
                sound = np.ones(len(frames), dtype=bool)
                sound[[reject.index - part.first for reject in found]] = False
                frames = frames[sound]
            yield Part(frames, part.first, rejects + found)
        self.names.next_file()


def resolve_theory(stated: LevelOfTheory, functional: str | None, theory: LevelOfTheory | None, name: str) -> LevelOfTheory:
    """The level of theory of a file: what it states itself, completed by what the user says.

    Args:
        stated: what the file states; functional None where it says nothing.
        functional: the functional that the user names.
        theory: the whole level of theory that the user gives; it stands for ``stated``.
        name: the file, for messages.

    Raises:
        TheoryError: if the two name different functionals. ``"GGA/GGA+U"`` may be said of PBE and of PBE+U data.
    """
    given = functional_name(functional) if functional else None
    if theory is not None:
        if given and theory.functional and theory.functional != given:
            raise TheoryError(f"functional={given!r} and theory={theory} disagree: give one of them")
        given = given or theory.functional
    known = stated.functional
    if given and known and given != known and known not in _FAMILIES.get(given, ()):
        raise TheoryError(f"{name} states {known} but {given} was given: leave functional out, or check the file")
    if theory is not None:
        return replace(theory, functional=given or known)
    if given in _FAMILIES:  # U differs from frame to frame there
        return replace(stated, functional=given, hubbard_u={})
    return replace(stated, functional=given or known)


# -- read -----------------------------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike,
    functional: str | None = None,
    *,
    theory: LevelOfTheory | None = None,
    strict: bool = True,
    energy_key: str | None = None,
) -> Frames:
    """Read labelled structures: every format that ASE reads, Parquet, a store, or a folder of such files.

    Energies are taken in eV, forces in eV/Å, stress in eV/Å^3 with ASE's sign. A frame without a ``material_id`` gets its
    reduced formula, so that splits keep frames of one composition together; one without a ``frame_id`` is called
    ``"<file>#<n>"``. Structures without labels are welcome.

    Args:
        path: file or folder.
        functional: the functional of the labels (``"PBE"``, ``"r2SCAN"``, ...); for a Parquet file with several, which to
            read. Left out, it is what the file states, or unknown; never guessed.
        theory: the whole level of theory, where more than the functional is known.
        strict: refuse a file with a bad frame; False drops bad frames with a warning.
        energy_key: where the energy is, if not under ``energy``; for a key like ``"REF_energy"`` forces, stress and magmoms
            are looked for under the same prefix.

    Raises:
        DataError: if there is nothing to read, a file is damaged, or frames are bad (naming the first, and how many).
        TheoryError: if the file states another functional than the one given.
    """
    sources, _ = find_sources(Path(path))
    reader = _Reader(functional, theory, energy_key, Limits())
    sets: list[Frames] = []
    rejects: list[Reject] = []
    for source in sources:
        for part in _surely(reader.parts(source), source, strict, rejects):
            rejects += part.rejects
            if len(part.frames):
                sets.append(part.frames)
    reader.names.warn()
    if rejects:
        _tell(rejects, sum(map(len, sets)), strict, str(path))
    if not sets:
        raise DataError(
            f"{path} has no frames that can be used" + (f": {rejects[0].reason} ({rejects[0].detail})" if rejects else "")
        )
    return sets[0] if len(sets) == 1 else Frames.concatenate(sets)


def _surely(parts: Iterator[Part], source: Source, strict: bool, rejects: list[Reject]) -> Iterator[Part]:
    """The parts; unless strict, a file that cannot be read on becomes one reject instead of an error."""
    try:
        yield from parts
    except DataError as error:
        if strict:
            raise
        rejects.append(Reject("", -1, "file cannot be read", str(error), str(source.path)))


def _tell(rejects: list[Reject], kept: int, strict: bool, path: str) -> None:
    """Say what was wrong: as an error if strict, else as a warning."""
    if strict:
        bad = rejects[0]
        raise DataError(
            f"{bad.file or path}: frame {bad.frame_id} (number {bad.index}) is bad: {bad.reason}, {bad.detail}; "
            f"{len(rejects)} of {len(rejects) + kept} frames are: drop them with strict=False, or list them with xclimb ingest"
        )
    why = ", ".join(f"{count} {reason}" for reason, count in Counter(reject.reason for reject in rejects).most_common())
    first = rejects[0].frame_id or rejects[0].file
    text = f"{path}: {len(rejects)} of {len(rejects) + kept} frames dropped ({why}), {first} the first"
    warnings.warn(text, XclimbWarning, stacklevel=3)


# -- ingest ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IngestSummary:
    """What became of the frames: ``n_in == n_out + n_rejected``.

    Args:
        n_in: frames found; a file that cannot be read (on) counts as one.
        n_out: frames in the store.
        n_rejected: frames rejected.
        rejects_path: table of the rejected, by file, name and reason (CSV).
        path: the store.
        reasons: reason -> how many.
        files: files read.
        passed: files of the folders that were passed over: hidden, of no known format, or repeating a VASP calculation.
        theory: level of theory of the store.
    """

    n_in: int
    n_out: int
    n_rejected: int
    rejects_path: Path
    path: Path
    reasons: dict[str, int] = field(default_factory=dict)
    files: int = 0
    passed: tuple[Path, ...] = ()
    theory: LevelOfTheory = field(default_factory=LevelOfTheory)


def ingest(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    functional: str | None = None,
    *,
    theory: LevelOfTheory | None = None,
    energy_key: str | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> IngestSummary:
    """Stream files into a store; frames that cannot be used are listed, by name and reason, in its ``rejects.csv``.

    Memory holds one part of a file (and the store's ids), not the data. The store appears when it is complete.

    Args:
        paths: files and folders.
        out: the store to make.
        functional: as for :func:`read`.
        theory: as for :func:`read`.
        energy_key: as for :func:`read`.
        limits: what the audit still believes.
        overwrite: replace an existing store.
        progress: show a progress bar.

    Raises:
        DataError: if there is nothing to read, no frame can be used (the rejects then lie beside ``out``), or ``out`` exists.
        TheoryError: if files state different levels of theory, or another than the one given.
    """
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found = [find_sources(Path(path)) for path in many]
    sources = [source for files, _ in found for source in files]
    out = Path(out)
    reader = _Reader(functional, theory, energy_key, limits or Limits())
    n_out, reasons = 0, Counter[str]()
    with StoreWriter(out, overwrite) as writer:
        with _Rejects(writer.folder / REJECTS) as listed, _bar(progress) as advance:
            for source in sources:
                late: list[Reject] = []
                for part in _surely(reader.parts(source), source, False, late):
                    if len(part.frames):
                        writer.append(part.frames)
                    listed.write(part.rejects)
                    reasons.update(reject.reason for reject in part.rejects)
                    n_out += len(part.frames)
                    advance(n_out, sum(reasons.values()), source.path.name)
                listed.write(late)
                reasons.update(reject.reason for reject in late)
        if n_out == 0:
            beside = out.with_name(f"{out.name}.{REJECTS}")
            shutil.copyfile(writer.folder / REJECTS, beside)
            raise DataError(f"none of the {sum(reasons.values())} frames can be used, see {beside} for the reasons")
        read_from = [{"name": source.path.name, "format": source.kind, "bytes": _bytes(source.path)} for source in sources]
        writer.provenance = {"sources": read_from, "frames_rejected": sum(reasons.values()), "rejects": dict(reasons)}
        stored = writer.theory or LevelOfTheory()
    reader.names.warn()
    rejected, passed = sum(reasons.values()), tuple(path for _, others in found for path in others)
    return IngestSummary(n_out + rejected, n_out, rejected, out / REJECTS, out, dict(reasons), len(sources), passed, stored)


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else (path / MANIFEST).stat().st_size


class _Rejects:
    """The table of the rejected, written as they come."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> "_Rejects":
        self.file = self.path.open("w", encoding="utf-8", newline="")
        self.table = csv.writer(self.file)
        self.table.writerow(["file", "frame_id", "index", "reason", "detail"])
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.file.close()

    def write(self, rejects: Sequence[Reject]) -> None:
        self.table.writerows([r.file, r.frame_id, r.index, r.reason, r.detail] for r in rejects)


class _bar:
    """A progress bar, or nothing."""

    def __init__(self, show: bool):
        self.show = show

    def __enter__(self):
        if not self.show:
            return lambda kept, rejected, name: None
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.progress.start()
        task = self.progress.add_task("reading", total=None)
        return lambda kept, rejected, name: self.progress.update(
            task, description=f"{name}: {kept} frames, {rejected} rejected"
        )

    def __exit__(self, kind, error, traceback) -> None:
        if self.show:
            self.progress.stop()
