"""From files to Frames (:func:`read`) or to a store (:func:`ingest`): the same stream of audited parts behind both."""

import glob
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.store import MANIFEST, is_store, open_store, read_manifest
from xclimb.data.store_writer import StoreWriter
from xclimb.data.stored_split import named_part
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.ingest.audit import Limits, Reject, resolve_checks
from xclimb.ingest.executor import run_tasks, workers_of
from xclimb.ingest.label_units import LabelUnits
from xclimb.ingest.names import Names
from xclimb.ingest.progress import bar
from xclimb.ingest.receiver import REJECTS, Receiver
from xclimb.ingest.retried import only_rejected, rejected_files
from xclimb.ingest.second_look import Look
from xclimb.ingest.sources import Source, check_readable, find_sources
from xclimb.ingest.tasks import Reading, Task, iter_tasks, run_task

# a name for data that mix two kinds of calculations on purpose -> the kinds
_FAMILIES = {"GGA/GGA+U": ("PBE", "PBE+U")}


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


def _every_task(sources: Sequence[Source], reading: Reading) -> Iterator[Task]:
    for source in sources:
        if source.kind != "store" and source.problem is None:
            reading.units.check(source)
        yield from iter_tasks(source, reading)


# -- read -----------------------------------------------------------------------------------------------------------------


def read(
    path: str | os.PathLike,
    functional: str | None = None,
    *,
    theory: LevelOfTheory | None = None,
    strict: bool = True,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    magmom_key: str | None = None,
    energy: str | None = None,
    steps: str = "all",
    energy_unit: str | None = None,
    force_unit: str | None = None,
    stress_unit: str | None = None,
) -> Frames:
    """Read labelled structures: JSON of the Materials Project, every format that ASE reads, Parquet, a store, or a folder.

    Energies are taken in eV, forces in eV/Å, stress in eV/Å^3 with ASE's sign. A frame without a ``material_id`` gets its
    reduced formula, so that splits keep frames of one composition together; one without a ``frame_id`` is called
    ``"<file>#<n>"``. Structures without labels are welcome.

    Args:
        path: file or folder, or a part of a store's split (``"STORE:train"``).
        functional: the functional of the labels (``"PBE"``, ``"r2SCAN"``, ...); for a Parquet file with several, which to
            read. Left out, it is what the file states, or unknown; never guessed.
        theory: the whole level of theory, where more than the functional is known.
        strict: refuse a file with a bad frame; False drops bad frames with a warning.
        energy_key: name of the energy, if it is not recognised; for a key like ``"REF_energy"`` forces, stress and magmoms are
            looked for under the same prefix, unless their keys are given too.
        forces_key: name of the forces.
        stress_key: name of the stress.
        virial_key: name of the virial, eV; stress is -virial/V.
        magmom_key: name of the magnetic moments of the atoms.
        energy: which energy: ``"uncorrected"`` or ``"corrected"`` of JSON records, ``"e_0"`` or ``"free"`` of VASP.
        steps: ionic steps of VASP runs: ``"all"`` or ``"last"``.
        energy_unit: unit of the energies, where it is not the format's usual: ``"Ha"``, ``"eV/atom"``, ..., or its size as a
            number; see :func:`xclimb.units.label_unit`.
        force_unit: the same of the forces: ``"Ha/Bohr"``; ``"-eV/A"`` for gradients.
        stress_unit: the same of the stress: ``"GPa"``; ``"-kbar"`` for VASP's sign.

    Raises:
        DataError: if there is nothing to read, a file is damaged, or frames are bad (naming the first, and how many).
        TheoryError: if the file states another functional than the one given.
    """
    if named_part(path) is not None:
        frames = open_store(path)
        return frames.with_theory(resolve_theory(frames.theory, functional, theory, os.fspath(path)))
    sources, _ = find_sources(Path(path))
    check_readable(sources)
    units = LabelUnits(energy_unit, force_unit, stress_unit)
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, magmom_key)
    reading = Reading(functional, keys, energy, steps, checks={"duplicate": "off", "element": "off"}, units=units)
    names, previous = Names(), sources[0]
    sets: list[Frames] = []
    rejects: list[Reject] = []
    for done in map(run_task, _every_task(sources, reading)):
        if done.source is not previous:
            names.next_file()
            previous = done.source
        for part in done.parts:
            rejects += part.rejects
            if len(part.frames):
                resolved = resolve_theory(part.frames.theory, functional, theory, str(done.source.path))
                sets.append(names.unique(part.frames, done.source.stem).with_theory(resolved))
        if done.theory_error:
            raise TheoryError(done.theory_error)
        if done.error and strict:
            raise DataError(done.error)
        if done.error:
            rejects.append(Reject("", -1, "file cannot be read", done.error, str(done.source.path)))
    names.warn()
    if rejects:
        _tell(rejects, sum(map(len, sets)), strict, str(path))
    if not sets:
        raise DataError(
            f"{path} has no frames that can be used" + (f": {rejects[0].reason} ({rejects[0].detail})" if rejects else "")
        )
    return sets[0] if len(sets) == 1 else Frames.concatenate(sets)


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
        warned: reason -> how many frames were kept with a warning; ``warnings.csv`` in the store names them.
        resumed: tasks that an interrupted ingest had done already.
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
    warned: dict[str, int] = field(default_factory=dict)
    resumed: int = 0


def ingest(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    functional: str | None = None,
    *,
    theory: LevelOfTheory | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    virial_key: str | None = None,
    magmom_key: str | None = None,
    energy: str | None = None,
    steps: str = "all",
    energy_unit: str | None = None,
    force_unit: str | None = None,
    stress_unit: str | None = None,
    limits: Limits | None = None,
    checks: Mapping[str, str] | None = None,
    overwrite: bool = False,
    append: bool = False,
    progress: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    look: Look | None = None,
    mix: str = "",
) -> IngestSummary:
    """Stream files into a store; frames that cannot be used are listed, by name and reason, in its ``rejects.csv``.

    Memory holds some parts of files (and the store's ids), not the data. The store appears when it is complete; after an
    interruption (or a kill) the same call goes on where it was, and the store is the one it would have been.

    Args:
        paths: files, folders, stores and patterns (``"runs/*.json.gz"``).
        out: the store to make.
        functional: as for :func:`read`.
        theory: as for :func:`read`.
        energy_key: as for :func:`read`.
        forces_key: as for :func:`read`.
        stress_key: as for :func:`read`.
        virial_key: as for :func:`read`.
        magmom_key: as for :func:`read`.
        energy: as for :func:`read`.
        steps: as for :func:`read`.
        energy_unit: as for :func:`read`.
        force_unit: as for :func:`read`.
        stress_unit: as for :func:`read`.
        limits: what the audit still believes.
        checks: check -> ``"reject"``, ``"warn"`` or ``"off"``, see :func:`xclimb.ingest.audit.audit`.
        overwrite: replace an existing store.
        append: add to the store that is at ``out``.
        progress: show a progress bar.
        workers: processes that decode; 1 for this one alone.
        scheduler: address of a Dask scheduler whose workers decode instead (they must see the same paths).
        mix: what files may differ in, with commas: ``"cutoff"``, ``"potcar"``, ``"pseudopotentials"``, ``"code"``,
            ``"energy_flavour"``; the store then does not state it.
        look: what looks at all frames before the store appears, such as :class:`xclimb.analysis.model_audit.ModelAudit`.

    Raises:
        DataError: if there is nothing to read, no frame can be used (the rejects then lie beside ``out``), or ``out`` exists;
            if labels cannot be in the unit they were read in.
        TheoryError: if files state different levels of theory, or another than the one given.
    """
    out = Path(out)
    if append and not is_store(out):
        raise DataError(f"{out} is no store to append to: make it first, without append")
    found = [find_sources(path) for path in _expanded(paths)]
    sources = [source for files, _ in found for source in files]
    check_readable(sources)
    passed = tuple(path for _, others in found for path in others)
    if append:
        sources = [Source(out, "store", out.name), *sources]
    units = LabelUnits(energy_unit, force_unit, stress_unit)
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, magmom_key)
    reading = Reading(functional, keys, energy, steps, limits or Limits(), dict(checks or {}), units)
    job = _Job(sources, out, reading, theory, overwrite or append, passed, carry=out / REJECTS if append else None, look=look)
    job.mix = tuple(name for name in mix.split(",") if name)
    return job.run(workers, scheduler, progress)


def retry(
    rejects: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    limits: Limits | None = None,
    checks: Mapping[str, str] | None = None,
    progress: bool = False,
    workers: int = 1,
) -> IngestSummary:
    """Try the rejected frames of a store again, after files were mended or with other limits, and add those that pass.

    Args:
        rejects: the ``rejects.csv`` of a store.
        out: the store to add to, if it is not the one that the file lies in.
        limits: what the audit still believes.
        checks: as for :func:`ingest`.
        progress: show a progress bar.
        workers: processes that decode.

    Returns:
        the summary of the frames that were tried again.

    Raises:
        DataError: if there is no such table, or its files are gone.
    """
    table = Path(rejects)
    store = Path(out) if out is not None else table.parent
    wanted = rejected_files(table)
    manifest = read_manifest(store)
    how = manifest["provenance"].get("reading", {})
    how["units"] = LabelUnits(**how.get("units", {}))
    how["keys"] = LabelKeys(**how.get("keys", {}))
    files = [source for path in wanted for source in find_sources(Path(path))[0]]
    reading = Reading(limits=limits or Limits(), checks=dict(checks or {}), **how)
    theory = LevelOfTheory.from_dict(manifest["theory"])
    job = _Job([Source(store, "store", store.name), *files], store, reading, theory, True, (), only=wanted)
    return job.run(workers, None, progress)


def _expanded(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Files and folders; a pattern becomes what fits it, in the order of names."""
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    out = []
    for path in many:
        text = os.fspath(path)
        fitting = sorted(glob.glob(text, recursive=True)) if not Path(text).exists() and glob.has_magic(text) else [text]
        if not fitting:
            raise DataError(f"no file fits the pattern {text}: check the spelling")
        out += [Path(one) for one in fitting]
    return out


@dataclass
class _Job:
    """One ingest: what is read, how, and where it goes."""

    sources: list[Source]
    out: Path
    reading: Reading
    theory: LevelOfTheory | None
    overwrite: bool
    passed: tuple[Path, ...]
    carry: Path | None = None  # rejects of the store that is appended to
    only: dict[str, set[int] | None] | None = None  # file -> frames that are wanted, None: all that are new
    look: Look | None = None
    mix: tuple[str, ...] = ()

    def run(self, workers: int, scheduler: str | None, progress: bool) -> IngestSummary:
        with StoreWriter(self.out, self.overwrite, job=self.description()) as writer:
            duplicate = resolve_checks(self.reading.checks)["duplicate"]
            receiver = Receiver(writer, self.resolve, self.carry, self.only is not None, duplicate)
            begin = receiver.tasks
            with workers_of(workers, scheduler) as (executor, n), bar(progress) as advance:
                tasks = islice(_every_task(self.sources, self.reading), begin, None)
                for done in run_tasks(tasks, executor, n):
                    receiver.take(done if self.only is None else only_rejected(done, self.only, self.out))
                    advance(receiver.n_out, receiver.n_rejected, done.source.path.name)
            if receiver.n_out == 0:
                beside = self.out.with_name(f"{self.out.name}.{REJECTS}")
                receiver.flush()
                shutil.copyfile(writer.work / REJECTS, beside)
                raise DataError(f"none of the {receiver.n_rejected} frames can be used, see {beside} for the reasons")
            if self.look is not None:
                receiver.look_again(self.look, self.reading)
            writer.provenance = self.provenance(receiver)
        receiver.names.warn()
        n_out = receiver.n_out - (receiver.first_source if self.only is not None else 0)
        rejected = receiver.n_rejected
        stored = writer.theory or LevelOfTheory()
        return IngestSummary(
            n_out + rejected, n_out, rejected, self.out / REJECTS, self.out, dict(receiver.reasons), len(self.sources),
            self.passed, stored, dict(receiver.warned), begin,
        )  # fmt: skip

    def resolve(self, stated: LevelOfTheory, source: Source) -> LevelOfTheory:
        return resolve_theory(stated, self.reading.functional, self.theory, str(source.path)).without(self.mix)

    def description(self) -> dict:
        """What tells this job from another: inputs as they are now, and every setting."""
        files = [[str(source.path.resolve()), source.kind, *_stamp(source)] for source in self.sources]
        only = None if self.only is None else {name: sorted(rows) if rows else None for name, rows in self.only.items()}
        theory = None if self.theory is None else self.theory.to_dict()
        return {"schema": 1, "files": files, "reading": asdict(self.reading), "theory": theory, "only": only, "mix": self.mix}

    def provenance(self, receiver: Receiver) -> dict:
        read_from: list[dict] = []
        for source in self.sources:
            if source.kind == "store":
                before = read_manifest(source.path)["provenance"]
                read_from += before.get("sources", []) or [{"name": source.path.name, "format": "store"}]
            elif source.problem is None:
                read_from.append({"name": source.path.name, "format": source.kind, "bytes": source.path.stat().st_size})
        how: dict = {"energy": self.reading.energy, "steps": self.reading.steps}
        how |= {"keys": self.reading.keys.given or None, "units": self.reading.units.given or None}
        return {
            "sources": read_from,
            "reading": {name: value for name, value in how.items() if value is not None},
            "frames_rejected": receiver.n_rejected,
            "rejects": dict(receiver.reasons),
            "warnings": dict(receiver.warned),
        }


def _stamp(source: Source) -> list[int]:
    path = source.path
    state = path.lstat() if source.problem else (path if path.is_file() else path / MANIFEST).stat()
    return [state.st_size, state.st_mtime_ns]
