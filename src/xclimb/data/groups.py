"""Frames that must not stand on two sides of a split: groups by material, composition or chemical system."""

import re
from dataclasses import dataclass

import numpy as np

from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.same_crystal import SameCrystals, same_crystals
from xclimb.errors import DataError, counted

GROUPS = ("structure", "ids", "composition", "chemical-system")
_NAMED = 3
_GLANCE_STRUCTURES, _GLANCE_SITES = 1000, 200  # of a first look


@dataclass(frozen=True, eq=False)
class Groups:
    """Frames by group.

    Args:
        names: sorted names of the groups ``[G]``.
        group: number of the group of each frame ``[S]``.
        noun: one group in words, for messages.
        notes: ids that were joined, and formulas that were not compared, a sentence each.
    """

    names: np.ndarray
    group: np.ndarray
    noun: str
    notes: tuple[str, ...] = ()


def group_frames(frames: Frames, by: str, progress: bool = False) -> Groups:
    """Group frames.

    Args:
        frames: what to group.
        by: ``"ids"`` (``material_id``); ``"structure"``: the same, and ids of the same crystal are one group, see
            :func:`xclimb.data.same_crystal.same_crystals`; ``"composition"`` (reduced formula); ``"chemical-system"`` (Li-O).
        progress: show a bar on the terminal where it takes time.

    Raises:
        DataError: on another ``by``.
    """
    if by not in GROUPS:
        raise DataError(f"group={by!r} is no way to group frames: use {', '.join(map(repr, GROUPS))}")
    if by == "structure":
        crystals = same_crystals(frames, progress=progress)
        ids, material = np.unique(frames.material_id, return_inverse=True)
        first = np.full(crystals.crystal.max(initial=-1) + 1, len(ids), dtype=np.int64)
        np.minimum.at(first, crystals.crystal, np.arange(len(ids)))  # a crystal has the name of its first id
        names, group = np.unique(ids[first[crystals.crystal]][material], return_inverse=True)
        return Groups(names, group, "material", crystal_notes(crystals))
    if by == "ids":
        return Groups(*np.unique(frames.material_id, return_inverse=True), "material")
    formulas, formula = np.unique(frames.formulas(), return_inverse=True)
    if by == "composition":
        return Groups(formulas, formula, "composition")
    systems = np.array(["-".join(sorted(set(re.findall("[A-Z][a-z]?", name)))) for name in formulas.tolist()], dtype=np.str_)
    return Groups(*np.unique(systems[formula] if len(systems) else systems, return_inverse=True), "chemical system")


def elements_of(frames: Frames, groups: Groups) -> np.ndarray:
    """Whether each group holds each element ``[G, 119]``."""
    holds = np.zeros((len(groups.names), MAX_Z + 1), dtype=bool)
    holds[groups.group[frames.system], frames.numbers] = True
    return holds


def sole_holders(holds: np.ndarray) -> np.ndarray:
    """Whether each group holds an element that no other group holds ``[G]``; ``holds`` is that of :func:`elements_of`."""
    return np.any(holds[:, holds.sum(axis=0) == 1], axis=1)


def crystal_notes(crystals: SameCrystals) -> tuple[str, ...]:
    """Notes on joined ids: their number, the first pair by name, and formulas not compared for their cost."""
    notes = []
    if crystals.pairs:
        one, other = crystals.pairs[0]
        joined = len(crystals.ids) - len(np.unique(crystals.crystal))
        notes.append(
            f"{counted(joined, 'material id')} joined to another of the same crystal ({one} and {other}, the first), so that "
            "they stay in one part; group='ids' keeps ids apart."
        )
    if crystals.skipped:
        named = ", ".join(crystals.skipped[:_NAMED]) + (", ..." if len(crystals.skipped) > _NAMED else "")
        notes.append(
            f"The ids of {counted(len(crystals.skipped), 'formula')} have too many similar structures to compare them all "
            f"({named}): some of them may be the same crystal; group='composition' keeps each formula in one part."
        )
    return tuple(notes)


def repeated_crystals(frames: Frames) -> list[str]:
    """A sentence where material ids are those of a crystal that has another id as well; a look of seconds, not a search."""
    crystals = same_crystals(frames, structures=_GLANCE_STRUCTURES, sites=_GLANCE_SITES)
    if not crystals.pairs:
        return []
    one, other = crystals.pairs[0]
    joined = len(crystals.ids) - len(np.unique(crystals.crystal))
    return [
        f"{counted(joined, 'material id')} of a crystal that has another id as well, but for strain and small displacements "
        f"({one} and {other}, the first): splits keep them in one part."
    ]
