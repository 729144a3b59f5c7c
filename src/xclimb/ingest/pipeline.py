"""From files to a store (:func:`ingest`): a stream of audited parts, as behind :func:`xclimb.read`."""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.data.groups import repeated_crystals
from xclimb.data.label_keys import LabelKeys
from xclimb.data.store import MANIFEST, is_store, open_store, read_manifest
from xclimb.data.store_writer import StoreWriter, disk_full, finish_commit
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError, TheoryError
from xclimb.formats.base import STORE, Source
from xclimb.formats.detect import check_stores, files_of, find_sources
from xclimb.ingest.audit import Limits, resolve_checks
from xclimb.ingest.executor import run_tasks, workers_of
from xclimb.ingest.label_units import LabelUnits
from xclimb.ingest.levels import listed, resolve_theory, several_levels
from xclimb.ingest.progress import bar
from xclimb.ingest.reading import every_task, levels_there
from xclimb.ingest.receiver import REJECTS, Receiver
from xclimb.ingest.retried import only_rejected, rejected_files
from xclimb.ingest.summary import IngestSummary
from xclimb.ingest.tasks import Reading

if TYPE_CHECKING:
    import xclimb.models.potential


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
    potential: "str | xclimb.models.potential.Potential | None" = None,
    mix: str = "",
    only: str | None = None,
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
        limits: beyond which the audit does not believe a frame.
        checks: check -> ``"reject"``, ``"warn"`` or ``"off"``, see :func:`xclimb.ingest.audit.audit`.
        overwrite: replace an existing store.
        append: add to the store that is at ``out``.
        progress: show a progress bar.
        workers: processes that decode; 1 for this one alone.
        scheduler: address of a Dask scheduler whose workers decode instead (they must see the same paths).
        mix: what files may differ in, with commas: ``"cutoff"``, ``"potcar"``, ``"pseudopotentials"``, ``"code"``,
            ``"energy_flavour"``; the store then does not state it.
        only: as for :func:`read`; files and records at other levels are passed over, and counted.
        potential: the potential (a name of the zoo, a folder, or loaded) that labels of a sample are compared with before the
            store appears, see :class:`xclimb.ingest.model_audit.ModelAudit`; None or ``"none"``: no comparison.

    Raises:
        DataError: if there is nothing to read, no frame can be used (the rejects then lie beside ``out``), or ``out`` exists;
            if labels cannot be in the unit they were read in; if a store that is read is damaged, or appended to itself; if
            the disk is full.
        ConfigError: on a number of workers below 1.
        TheoryError: if files state several levels of theory (naming all), or another functional than the one given.
    """
    out = Path(out)
    if append and not is_store(out):
        raise DataError(f"{out} is no store to append to: make it first, without append")
    sources, passed = files_of(paths)
    if append and any(source.is_store and source.path.resolve() == out.resolve() for source in sources):
        raise DataError(f"{out} cannot be appended to itself: leave it out of what is read")
    if append:
        sources = [Source(out, STORE, out.name), *sources]
    units = LabelUnits(energy_unit, force_unit, stress_unit)
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, magmom_key)
    reading = Reading(functional, keys, energy, steps, only, limits=limits or Limits(), checks=dict(checks or {}), units=units)
    job = _Job(sources, out, reading, theory, overwrite or append, passed, carry=out / REJECTS if append else None)
    job.potential, job.mix = potential, tuple(name for name in mix.split(",") if name)
    try:
        return job.run(workers, scheduler, progress)
    except TheoryError as error:
        if only is not None:
            raise
        there = levels_there(sources, reading)
        most = there.most_common(1)[0][0] if there else ""
        way = f"keep one with only={most!r}, or make a store of each with --by-theory (in Python: ingest_by_theory)"
        raise several_levels(error, there, f"these {len(sources)} files hold", way) from None


def retry(
    rejects: str | os.PathLike,
    out: str | os.PathLike | None = None,
    *,
    limits: Limits | None = None,
    checks: Mapping[str, str] | None = None,
    progress: bool = False,
    workers: int = 1,
    potential: "str | xclimb.models.potential.Potential | None" = None,
) -> IngestSummary:
    """Try the rejected frames of a store again, after files were mended or with other limits, and add those that pass.

    Args:
        rejects: the ``rejects.csv`` of a store.
        out: the store to add to, if it is not the one that the file lies in.
        limits: beyond which the audit does not believe a frame.
        checks: as for :func:`ingest`.
        progress: show a progress bar.
        workers: processes that decode.
        potential: as for :func:`ingest`.

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
    job = _Job([Source(store, STORE, store.name), *files], store, reading, theory, True, (), only=wanted, potential=potential)
    return job.run(workers, None, progress)


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
    potential: "str | xclimb.models.potential.Potential | None" = None
    mix: tuple[str, ...] = ()
    resumed: int = 0  # tasks that an interrupted ingest had done

    def run(self, workers: int, scheduler: str | None, progress: bool) -> IngestSummary:
        if workers < 1:
            raise ConfigError(f"workers={workers}: give 1 or more processes")
        committed = finish_commit(self.out, self.description())
        if committed is not None:  # this very job was killed when all that was left was to clean up
            theory = LevelOfTheory.from_dict(read_manifest(self.out)["theory"])
            return IngestSummary(**committed, rejects_path=self.out / REJECTS, path=self.out, passed=self.passed, theory=theory)
        check_stores(self.sources)
        try:
            with StoreWriter(self.out, self.overwrite, job=self.description()) as writer:
                receiver = self.fill(writer, workers, scheduler, progress)
                counted = self.counts(receiver)
                writer.provenance, writer.summary = self.provenance(receiver), counted
        except OSError as error:
            raise (disk_full(self.out) if error.errno in (errno.ENOSPC, errno.EDQUOT) else error) from None
        receiver.names.warn()
        theory = writer.theory or LevelOfTheory()
        notes = tuple(repeated_crystals(open_store(self.out)))
        where: dict[str, Any] = {"rejects_path": self.out / REJECTS, "path": self.out, "passed": self.passed}
        return IngestSummary(**counted, **where, theory=theory, labels=receiver.use, notes=notes)

    def fill(self, writer: StoreWriter, workers: int, scheduler: str | None, progress: bool) -> Receiver:
        """Read everything into a store; give what counted it."""
        duplicate = resolve_checks(self.reading.checks)["duplicate"]
        receiver = Receiver(writer, self.resolve, self.carry, self.only is not None, duplicate)
        self.resumed = receiver.tasks
        with workers_of(workers, scheduler) as (executor, n), bar(progress) as advance:
            tasks = islice(every_task(self.sources, self.reading), self.resumed, None)
            for done in run_tasks(tasks, executor, n):
                receiver.take(done if self.only is None else only_rejected(done, self.only, self.out))
                advance(receiver.n_out, receiver.n_rejected, done.source.path.name)
        if receiver.n_out == 0:
            if receiver.others and not receiver.n_rejected:
                raise DataError(f"no file is at {self.reading.only}: there are {listed(receiver.others)}")
            beside = self.out.with_name(f"{self.out.name}.{REJECTS}")
            receiver.flush()
            shutil.copyfile(writer.work / REJECTS, beside)
            left = f"; {unread}" if (unread := receiver.use.describe_unused()) else ""
            raise DataError(f"none of the {receiver.n_rejected} frames can be used ({receiver.why()}{left}), see {beside}")
        if self.potential is not None and self.potential != "none":
            receiver.audit_set(self.potential, self.reading)
        return receiver

    def counts(self, receiver: Receiver) -> dict:
        """The numbers of the summary, as built-in types."""
        n_out = receiver.n_out - (receiver.first_source if self.only is not None else 0)
        return {
            "n_in": n_out + receiver.n_rejected,
            "n_out": n_out,
            "n_rejected": receiver.n_rejected,
            "reasons": dict(receiver.reasons),
            "files": len(self.sources),
            "warned": dict(receiver.warned),
            "resumed": self.resumed,
            "others": dict(receiver.others),
            "isolated": receiver.isolated,
        }

    def resolve(self, stated: LevelOfTheory, source: Source) -> LevelOfTheory:
        return resolve_theory(stated, self.reading.functional, self.theory, str(source.path)).without(self.mix)

    def description(self) -> dict:
        """Identity of this job: inputs as they are now, and every setting."""
        out = self.out.resolve()  # of which the writer itself knows whether it has changed
        places = [(source, source.path.resolve()) for source in self.sources]
        files = [[str(place), source.kind, *([] if place == out else _stamp(source))] for source, place in places]
        only = None if self.only is None else {name: sorted(rows) if rows else None for name, rows in self.only.items()}
        theory = None if self.theory is None else self.theory.to_dict()
        return {"schema": 1, "files": files, "reading": asdict(self.reading), "theory": theory, "only": only, "mix": self.mix}

    def provenance(self, receiver: Receiver) -> dict:
        read_from: list[dict] = []
        for source in self.sources:
            if source.is_store:
                before = read_manifest(source.path)["provenance"]
                read_from += before.get("sources", []) or [{"name": source.path.name, "format": STORE}]
            elif source.problem is None:
                read_from.append({"name": source.path.name, "format": source.kind, "bytes": source.path.stat().st_size})
        how: dict = {"energy": self.reading.energy, "steps": self.reading.steps, "only": self.reading.only}
        how |= {"keys": self.reading.keys.given or None, "units": self.reading.units.given or None}
        return {
            "sources": read_from,
            "reading": {name: value for name, value in how.items() if value is not None},
            "frames_rejected": receiver.n_rejected,
            "rejects": dict(receiver.reasons),
            "warnings": dict(receiver.warned),
            "other_levels": dict(receiver.others),
            **({"labels": receiver.use.taken} if receiver.use.taken else {}),
        }


def _stamp(source: Source) -> list[int]:
    path = source.path
    state = path.lstat() if source.problem else (path if path.is_file() else path / MANIFEST).stat()
    return [state.st_size, state.st_mtime_ns]
