"""From files, folders, patterns or ASE atoms to audited frames: :func:`read`."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.label_schema import LabelUse
from xclimb.data.store import open_store
from xclimb.data.stored_split import named_part
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.formats.base import Reject, Source
from xclimb.formats.detect import check_stores, files_of
from xclimb.ingest.label_units import LabelUnits
from xclimb.ingest.levels import check_wanted, count_levels, listed, resolve_theory, several_levels
from xclimb.ingest.names import Names
from xclimb.ingest.tasks import Reading, Task, iter_parts, iter_tasks, run_task

_ONLY_SOUND = {"duplicate": "off", "element": "off"}  # checks of a read, where nothing can be kept with a warning


def read(
    path: str | os.PathLike | Sequence[Any],
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
    only: str | None = None,
    labels: str = "required",
) -> Frames:
    """Read labelled structures: JSON of the Materials Project, every format that ASE reads, Parquet, a store, or a folder.

    Energies are taken in eV, forces in eV/Å, stress in eV/Å^3 with ASE's sign. A frame without a ``material_id`` gets its
    reduced formula, so that splits keep frames of one composition together; one without a ``frame_id`` is called
    ``"<file>#<n>"``.

    Args:
        path: file, folder or pattern (``"runs/*.extxyz"``), a part of a store's split (``"STORE:train"``), or a list of ASE
            atoms with labels.
        functional: the functional of the labels (``"PBE"``, ``"r2SCAN"``, ...); for a Parquet file with several, which to
            read. Left out, it is what the file states, or unknown; never guessed.
        theory: the whole level of theory, where more than the functional is known.
        strict: refuse a file with a bad frame; False drops bad frames with a warning.
        energy_key: name of the energy, if it is not recognised; for a key like ``"REF_energy"`` forces, stress and magmoms are
            expected under the same prefix, unless their keys are given too.
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
        only: the one level of theory that is read where there are several: functional and dispersion, ``"r2SCAN"``,
            ``"PBE-D3(BJ)"``.
        labels: ``"required"``: a frame without any label is a bad one; ``"optional"``; or ``"ignored"``: only the structures
            are read, whatever their labels are.

    Raises:
        DataError: if there is nothing to read, a file is damaged, or frames are bad (naming the first, and how many).
        TheoryError: if files state several levels of theory (naming all), or another functional than the one given.
    """
    if isinstance(path, str | os.PathLike) and named_part(path) is not None:
        frames = open_store(path)
        check_wanted(frames.theory, only, functional, os.fspath(path))
        return frames.with_theory(resolve_theory(frames.theory, functional, theory, os.fspath(path)))
    units = LabelUnits(energy_unit, force_unit, stress_unit)
    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key, magmom_key)
    reading = Reading(functional, keys, energy, steps, only, labels, checks=_ONLY_SOUND, units=units)
    name, sources, tasks = _tasks_of(path, reading)
    try:
        sets, rejects, use = _collected(tasks, theory, strict)
        whole = Frames.concatenate(sets) if len(sets) > 1 else None
    except TheoryError as error:
        if only is not None or not sources:
            raise
        levels = levels_there(sources, reading)
        most = levels.most_common(1)[0][0] if levels else ""
        way = f"read one with only={most!r}, or make a store of each with xclimb ingest --by-theory"
        raise several_levels(error, levels, f"{name} holds", way) from None
    if use.left and sets:
        warnings.warn(f"{name}: {use.describe_unused()}", XclimbWarning, stacklevel=2)
    if rejects:
        _report(rejects, sum(map(len, sets)), strict, name)
    if not sets:
        why = f": {rejects[0].reason} ({rejects[0].detail})" if rejects else ""
        there = f" at {only}: there are {listed(levels_there(sources, reading))}" if only and not rejects else ""
        raise DataError(f"{name} has no frames that can be used{there or why}")
    return sets[0] if whole is None else whole


def _tasks_of(path: str | os.PathLike | Sequence[Any], reading: Reading) -> tuple[str, list[Source], Iterator[Task]]:
    """A name for what is read, its files, and the tasks: of files, or one of atoms."""
    if isinstance(path, str | os.PathLike):
        sources, _ = files_of(path)
        check_stores(sources)
        return os.fspath(path), sources, every_task(sources, reading)
    from ase import Atoms

    from xclimb.formats.ase import part_of_atoms

    many = [path] if isinstance(path, Atoms) else list(path)
    if not many or not all(isinstance(one, Atoms) for one in many):
        raise DataError("there is nothing to read: give a file, a folder, a pattern or a list of ASE atoms")
    source = Source(Path("atoms"), "traj", "atoms")
    part = part_of_atoms(many, source, reading.keys, reading.functional)
    return "atoms", [], iter([Task(source, reading, part=part)])


def _collected(
    tasks: Iterator[Task], theory: LevelOfTheory | None, strict: bool
) -> tuple[list[Frames], list[Reject], LabelUse]:
    """The sound frames of files, those that are bad, and the use of their keys; see :func:`read`."""
    names, previous, use = Names(), None, LabelUse()
    sets: list[Frames] = []
    rejects: list[Reject] = []
    for task in tasks:
        done = run_task(task)
        if previous is not None and done.source is not previous:
            names.next_file()
        previous = done.source
        for part in done.parts:
            use.add(part.use)
            rejects += part.rejects
            if len(part.frames):
                resolved = resolve_theory(part.frames.theory, task.reading.functional, theory, str(done.source.path))
                sets.append(names.unique(part.frames, done.source.stem).with_theory(resolved))
        if done.theory_error:
            raise TheoryError(done.theory_error)
        if done.error and strict:
            raise DataError(done.error)
        if done.error:
            rejects.append(Reject("", -1, "file cannot be read", done.error, str(done.source.path)))
    names.warn()
    return sets, rejects, use


def _report(rejects: list[Reject], kept: int, strict: bool, path: str) -> None:
    """Report bad frames: as an error if strict, else as a warning."""
    if strict:
        bad = rejects[0]
        raise DataError(
            f"{bad.file or path}: frame {bad.frame_id} (number {bad.index}) is bad: {bad.reason}, {bad.detail}; "
            f"{len(rejects)} of {len(rejects) + kept} frames are: keep the others in a store with xclimb ingest, "
            "which lists the bad ones (in Python also: strict=False)"
        )
    why = ", ".join(f"{count} {reason}" for reason, count in Counter(reject.reason for reject in rejects).most_common())
    bad = rejects[0]
    first = f"{bad.frame_id} the first" if bad.frame_id else f"the first: {bad.detail}"
    text = f"{path}: {len(rejects)} of {len(rejects) + kept} frames dropped ({why}), {first}"
    warnings.warn(text, XclimbWarning, stacklevel=3)


def every_task(sources: Sequence[Source], reading: Reading) -> Iterator[Task]:
    """The tasks of all sources, one after the other."""
    for source in sources:
        if not source.is_store and source.problem is None:
            reading.units.check(source)
        yield from iter_tasks(source, reading)


def levels_there(sources: Sequence[Source], reading: Reading, whole: bool = False) -> Counter[str]:
    """Count the files that hold each level of theory; see :func:`xclimb.ingest.levels.count_levels`."""
    return count_levels(sources, reading.functional, partial(iter_parts, reading=reading), whole)
