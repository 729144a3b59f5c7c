"""A second look at all frames of an ingest, when the last has arrived and before the store appears.

Here stands what is done about what such a look finds; what looks is given from outside, for
:class:`xclimb.ingest.model_audit.ModelAudit` needs a potential.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xclimb.data.frames import Frames
from xclimb.formats.base import Reject
from xclimb.ingest.audit import Limits
from xclimb.ingest.label_units import OPTIONS, LabelUnits, states_units

UNIT_CHECKS = {"energy": "energy_unit", "forces": "force_unit", "stress": "stress_unit"}
ZERO_CHECKS = {"forces": "zero_force", "stress": "zero_stress"}
ENOUGH = 8  # frames of a group that tell anything
_LARGE = 32  # frames of a file that is judged by itself
_MOST = 6  # such files; the others are judged together


@dataclass(frozen=True)
class Group:
    """Frames that have their units from one place.

    Args:
        name: the file, or how many.
        kind: format of the file (of the first of them).
        rows: numbers of the frames in the store, ascending ``[N]``.
    """

    name: str
    kind: str
    rows: np.ndarray


@dataclass(frozen=True)
class WrongUnit:
    """A label of a group of frames that is in another unit than it was read in.

    Args:
        group: the frames.
        label: ``"energy"``, ``"forces"`` or ``"stress"``.
        factor: what labels are too large by.
        per_atom: energies per atom, read as total ones.
        told: what was seen.
    """

    group: Group
    label: str
    factor: float
    per_atom: bool
    told: str


@dataclass(frozen=True)
class ZeroLabel:
    """A label of frames that is exactly zero and was not computed.

    Args:
        label: ``"forces"`` or ``"stress"``.
        rows: numbers of the frames in the store ``[N]``.
        told: the evidence, in words.
    """

    label: str
    rows: np.ndarray
    told: str


@dataclass(frozen=True)
class Findings:
    """Findings of a look: wrong units, frame -> what is wrong with its energy, zeros that are no labels, and doubts.

    Doubts are sentences about groups of frames that are too small for a finding: ``(group, sentence)``.
    """

    units: list[WrongUnit] = field(default_factory=list)
    outliers: dict[int, str] = field(default_factory=dict)
    zeros: list[ZeroLabel] = field(default_factory=list)
    doubts: list[tuple[Group, str]] = field(default_factory=list)


# what looks: (frames of the store in parts, groups of them, check -> action, limits) -> findings
Look = Callable[[Sequence[Frames], Sequence[Group], Mapping[str, str], Limits], Findings]


@dataclass
class Files:
    """Which frames of the store come from which file: lines ``[first frame, path, format]``."""

    lines: list[list]
    total: int

    @classmethod
    def read(cls, path: Path, total: int) -> "Files":
        """From the lines that an ingest wrote."""
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return cls([json.loads(line) for line in text.splitlines()], total)

    def groups(self) -> list[Group]:
        """The largest files one by one, the others together: those of formats that state units, and those of the rest."""
        starts = np.array([line[0] for line in self.lines] + [self.total])
        sizes = np.diff(starts)
        alone = [int(n) for n in np.argsort(-sizes, kind="stable")[:_MOST] if sizes[n] >= _LARGE]
        found = [Group(self.lines[n][1], self.lines[n][2], np.arange(starts[n], starts[n + 1])) for n in sorted(alone)]
        others = [n for n in range(len(sizes)) if n not in set(alone) and sizes[n]]
        for stated in (False, True):  # a wrong unit is looked for where the format leaves units open
            rest = [n for n in others if states_units(self.lines[n][2]) == stated]
            if not rest:
                continue
            name = self.lines[rest[0]][1] if len(rest) == 1 else f"{len(rest)} files ({self.lines[rest[0]][1]}, ...)"
            rows = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in rest])
            found.append(Group(name, self.lines[rest[0]][2], rows))
        return found

    def of(self, row: int) -> str:
        """The file of a frame."""
        starts = [line[0] for line in self.lines]
        return str(self.lines[int(np.searchsorted(starts, row, side="right")) - 1][1])


def unit_sentence(wrong: WrongUnit, units: LabelUnits) -> str:
    """What was seen, and the way out."""
    option, check = OPTIONS[wrong.label], UNIT_CHECKS[wrong.label].replace("_", "-")
    way = f"give {option}='{units.mend(wrong.label, wrong.factor, wrong.per_atom, wrong.group.kind)}' if that is so"
    return f"{wrong.group.name}: {wrong.told}; {way}, or set the check {check} to warn to take the labels as they are"


def without_labels(frames: Frames, zeros: Sequence[ZeroLabel], first: int = 0) -> Frames:
    """The frames, number ``first`` onwards of a set, with labels that are zeros taken for missing."""
    columns: dict[str, np.ndarray] = {}
    for zero in zeros:
        values = np.array(columns.get(zero.label, getattr(frames, zero.label)))
        flagged = np.isin(np.arange(first, first + len(frames)), zero.rows)
        values[flagged[frames.system] if zero.label == "forces" else flagged] = np.nan
        columns[zero.label] = values
    return frames.replace(**columns) if columns else frames


def rejects_of(
    found: Findings, files: Files, units: LabelUnits, ids: dict[int, str], checks: Mapping[str, str]
) -> list[Reject]:
    """The findings as entries of the tables; those of a whole file have no frame."""
    told = [
        Reject(
            "", -1, f"{one.label} in another unit", unit_sentence(one, units), one.group.name, checks[UNIT_CHECKS[one.label]]
        )
        for one in found.units
    ]
    told += [Reject("", -1, "too few frames to judge the energies", text, group.name, "warn") for group, text in found.doubts]
    for zero in found.zeros:  # the frame is kept, whatever becomes of its label
        what = "taken as missing" if checks[ZERO_CHECKS[zero.label]] == "reject" else "taken as they are"
        reason = f"{zero.label} exactly zero, {what}"
        told += [Reject(ids[row], -1, reason, zero.told, files.of(row), "warn") for row in zero.rows.tolist()]
    action = checks["outlier"]
    return told + [
        Reject(ids[row], -1, "energy is an outlier", detail, files.of(row), action) for row, detail in found.outliers.items()
    ]
