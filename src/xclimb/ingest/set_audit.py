"""Audit of the whole set of an ingest, after the last frame and before the store appears: groups, findings, their effects.

The comparison itself needs a potential, and torch: :class:`xclimb.ingest.model_audit.ModelAudit`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xclimb.data.frames import Frames
from xclimb.formats.base import Reject
from xclimb.ingest.label_units import OPTIONS, LabelUnits, states_units

UNIT_CHECKS = {"energy": "energy_unit", "forces": "force_unit", "stress": "stress_unit"}
ZERO_CHECKS = {"forces": "zero_force", "stress": "zero_stress"}
ENOUGH = 8  # frames of a group for robust statistics
FEWEST = 3  # frames of a group that are compared at all
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
        evidence: the observation, with its numbers.
    """

    group: Group
    label: str
    factor: float
    per_atom: bool
    evidence: str


@dataclass(frozen=True)
class ZeroLabel:
    """A label of frames that is exactly zero and was not computed.

    Args:
        label: ``"forces"`` or ``"stress"``.
        rows: numbers of the frames in the store ``[N]``.
        evidence: the observation, with its numbers.
    """

    label: str
    rows: np.ndarray
    evidence: str


@dataclass(frozen=True)
class Findings:
    """Findings of an audit of a whole set.

    Args:
        units: labels in another unit.
        outliers: number of the frame in the store -> the evidence that its energy is wrong.
        zeros: zeros that are no labels.
        doubts: ``(group, sentence)`` about groups that are too small for a finding.
    """

    units: list[WrongUnit] = field(default_factory=list)
    outliers: dict[int, str] = field(default_factory=dict)
    zeros: list[ZeroLabel] = field(default_factory=list)
    doubts: list[tuple[Group, str]] = field(default_factory=list)


@dataclass
class Files:
    """Map of frames of the store to their files: lines ``[first frame, path, format]``."""

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
        groups = [Group(self.lines[n][1], self.lines[n][2], np.arange(starts[n], starts[n + 1])) for n in sorted(alone)]
        others = [n for n in range(len(sizes)) if n not in set(alone) and sizes[n]]
        for stated in (False, True):  # units are judged where the format leaves them open
            rest = [n for n in others if states_units(self.lines[n][2]) == stated]
            if not rest:
                continue
            name = self.lines[rest[0]][1] if len(rest) == 1 else f"{len(rest)} files ({self.lines[rest[0]][1]}, ...)"
            rows = np.concatenate([np.arange(starts[n], starts[n + 1]) for n in rest])
            groups.append(Group(name, self.lines[rest[0]][2], rows))
        return groups

    def of(self, row: int) -> str:
        """The file of a frame."""
        starts = [line[0] for line in self.lines]
        return str(self.lines[int(np.searchsorted(starts, row, side="right")) - 1][1])


def is_comparable(parts: Sequence[Frames], groups: Sequence[Group], checks: Mapping[str, str]) -> bool:
    """Whether a comparison with a potential can show anything: enough frames for one of the checks of the whole set."""
    if max((len(group.rows) for group in groups), default=0) < FEWEST:
        return False
    if any(checks[check] != "off" for check in UNIT_CHECKS.values()) and not all(states_units(one.kind) for one in groups):
        return True
    if checks["outlier"] != "off" and sum(map(len, parts)) >= 2 * ENOUGH:
        return True
    wanted = [label for label, check in ZERO_CHECKS.items() if checks[check] != "off"]
    return any(len(zero_rows(part)[label]) for part in parts for label in wanted)


def zero_rows(frames: Frames) -> dict[str, np.ndarray]:
    """Frames whose forces, and periodic ones whose stress, are exactly zero in every component: label -> rows ``[N]``."""
    moved = np.bincount(frames.system, (np.asarray(frames.forces) != 0.0).any(axis=1), len(frames))  # NaN is not zero
    strained = (np.asarray(frames.stress) != 0.0).any(axis=(1, 2)) | ~frames.pbc.all(axis=1)
    zero_frames = {"forces": (moved == 0) & (frames.n_atoms > 0), "stress": ~strained}
    return {label: np.flatnonzero(zero) for label, zero in zero_frames.items()}


def unit_sentence(wrong: WrongUnit, units: LabelUnits) -> str:
    """Write the evidence, and the way out, as one sentence."""
    option, check = OPTIONS[wrong.label], UNIT_CHECKS[wrong.label].replace("_", "-")
    way = f"give {option}='{units.mend(wrong.label, wrong.factor, wrong.per_atom, wrong.group.kind)}' if that is so"
    return f"{wrong.group.name}: {wrong.evidence}; {way}, or set the check {check} to warn to take the labels as they are"


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
    findings: Findings, files: Files, units: LabelUnits, ids: dict[int, str], checks: Mapping[str, str]
) -> list[Reject]:
    """The findings as entries of the tables; those of a whole file have no frame."""
    rejects = [
        Reject(
            "", -1, f"{one.label} in another unit", unit_sentence(one, units), one.group.name, checks[UNIT_CHECKS[one.label]]
        )
        for one in findings.units
    ]
    rejects += [
        Reject("", -1, "too few frames to judge the energies", text, group.name, "warn") for group, text in findings.doubts
    ]
    for zero in findings.zeros:  # the frame is kept, also where its label is not
        what = "taken as missing" if checks[ZERO_CHECKS[zero.label]] == "reject" else "taken as they are"
        reason = f"{zero.label} exactly zero, {what}"
        rejects += [Reject(ids[row], -1, reason, zero.evidence, files.of(row), "warn") for row in zero.rows.tolist()]
    action = checks["outlier"]
    return rejects + [
        Reject(ids[row], -1, "energy is an outlier", detail, files.of(row), action) for row, detail in findings.outliers.items()
    ]
