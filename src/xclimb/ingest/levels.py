"""Levels of theory in an ingest: what the user says of them, the levels that are there, and those that are wanted."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from xclimb.data.theory import LevelOfTheory, check_functional, functional_name
from xclimb.errors import DataError, TheoryError
from xclimb.formats import format_of
from xclimb.formats.base import Part, Source

# a name for data that mix two kinds of calculations on purpose -> the kinds
FAMILIES = {"GGA/GGA+U": ("PBE", "PBE+U")}
UNKNOWN = "unknown"
_FIRST_PARTS = 16  # of a file, for an error message

PartsOf = Callable[[Source], Iterator[Part]]


def resolve_theory(stated: LevelOfTheory, functional: str | None, theory: LevelOfTheory | None, name: str) -> LevelOfTheory:
    """The level of theory of a file: what it states itself, completed by what the user says.

    Args:
        stated: what the file states; functional None where it says nothing.
        functional: the functional that the user names.
        theory: the whole level of theory that the user gives; it stands for ``stated``.
        name: the file, for messages.

    Raises:
        TheoryError: if the two name different functionals, or the user one that is unknown. ``"GGA/GGA+U"`` may be said of PBE
            and of PBE+U data.
    """
    given = functional_name(functional) if functional else None
    if theory is not None:
        if given and theory.functional and theory.functional != given:
            raise TheoryError(f"functional={given!r} and theory={theory} disagree: give one of them")
        given = given or theory.functional
    known = stated.functional
    if given and known and given != known and known not in FAMILIES.get(given, ()):
        raise TheoryError(f"{name} states {known} but {given} was given: leave functional out, or check the file")
    if functional and given != known:
        check_functional(functional)
    if theory is not None:
        return replace(theory, functional=given or known)
    if given in FAMILIES:  # U differs from frame to frame there
        return replace(stated, functional=given, hubbard_u={})
    return replace(stated, functional=given or known)


def level_name(stated: LevelOfTheory, functional: str | None = None) -> str:
    """Name of a level: functional and dispersion, ``"PBE-D3(BJ)"``.

    Args:
        stated: what a file states.
        functional: the functional that the user names: of files that state none, or both members of a family.
    """
    given = functional_name(functional) if functional else None
    known = stated.functional
    if given and (known is None or known in FAMILIES.get(given, ())):
        known = given
    return "-".join(part for part in (known or UNKNOWN, stated.dispersion) if part)


def is_wanted(stated: LevelOfTheory, only: str, functional: str | None = None) -> bool:
    """Whether a level is the one that is to be read, by the name of :func:`level_name` in any spelling."""
    wanted = functional_name(only)
    return level_name(stated, wanted if wanted in FAMILIES else functional).lower() == wanted.lower()


def check_wanted(stated: LevelOfTheory, only: str | None, functional: str | None, name: str) -> None:
    """Refuse data of one level where another one is wanted.

    Raises:
        DataError: naming the level that is there.
    """
    if only is not None and not is_wanted(stated, only, functional):
        raise DataError(f"{name} has no frames at {only}: all are at {level_name(stated, functional)}")


def folder_name(level: str) -> str:
    """Name of a level that every file system takes: ``"PBE-D3(BJ)"`` -> ``"PBE-D3-BJ"``."""
    return re.sub(r"[^A-Za-z0-9.+]+", "-", level).strip("-.") or UNKNOWN


def stated_level(source: Source) -> LevelOfTheory | None:
    """The level of theory of a file that has one for all its frames and states it in its head; None for other formats."""
    return format_of(source.kind).level(source)


def is_other_level(source: Source, only: str | None, functional: str | None) -> bool:
    """Whether the head of a file says that none of its frames is wanted."""
    stated = None if only is None or source.problem is not None else stated_level(source)
    return stated is not None and only is not None and not is_wanted(stated, only, functional)


def wanted_parts(
    parts: Iterator[Part], source: Source, only: str | None, functional: str | None, others: set[str]
) -> Iterator[Part]:
    """The parts of a file at the wanted level, and all rejects that are at none; names of other levels go to ``others``."""
    if only is None:
        yield from parts
        return
    if is_other_level(source, only, functional):
        others.add(level_name(stated_level(source) or LevelOfTheory(), functional))
        return
    for part in parts:
        if not len(part.frames) or is_wanted(part.frames.theory, only, functional):
            yield part
            continue
        others.add(level_name(part.frames.theory, functional))
        if part.rejects:
            yield replace(part, frames=part.frames[:0], places=part.places[:0])


def count_levels(sources: Sequence[Source], functional: str | None, parts_of: PartsOf, whole: bool) -> Counter[str]:
    """Count the files that hold each level of theory.

    Args:
        sources: the files.
        functional: the functional that the user names.
        parts_of: reads a file that does not state its level in its head.
        whole: read such files to their end; else some parts at their beginning.
    """
    counts: Counter[str] = Counter()
    for source in sources:
        if source.problem is not None:
            continue
        stated = stated_level(source)
        if stated is not None:
            counts[level_name(stated, functional)] += 1
            continue
        levels: dict[str, None] = {}  # in the order of the file
        with suppress(DataError, TheoryError):  # such errors are raised when the file is read
            for part in islice(parts_of(source), None if whole else _FIRST_PARTS):
                if len(part.frames):
                    levels[level_name(part.frames.theory, functional)] = None
        counts.update(list(levels))
    return counts


def listed(counts: Mapping[str, int]) -> str:
    """Counts in words: ``"PBE 34 files, r2SCAN 12, HSE06 1"``."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    if not ordered:
        return "none"
    words = [f"{level} {n:,}" for level, n in ordered]
    first = ordered[0][1]
    return ", ".join([f"{words[0]} file{'s' if first != 1 else ''}", *words[1:]])


def several_levels(error: TheoryError, counts: Counter[str], name: str, way: str) -> TheoryError:
    """An error about two levels as one about all that are there, with the ways out.

    Args:
        error: the error.
        counts: from :func:`count_levels`.
        name: what was read, and the verb.
        way: how to get the levels apart.
    """
    family, members = next(iter(FAMILIES.items()))
    mixed = set(members) <= counts.keys() or "hubbard_u" in str(error)
    also = f"; PBE and PBE+U as the Materials Project mixes them are one with functional={family!r}" if mixed else ""
    if len(counts) < 2:
        return TheoryError(f"{error}{also}") if also else error
    return TheoryError(f"{name} several levels of theory: {listed(counts)}; {way}{also}")
