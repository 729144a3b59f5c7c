"""Labels of a set against a pre-trained potential, on a sample: wrong units and signs, and energies far from all others."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import XclimbWarning
from xclimb.ingest.audit import Limits
from xclimb.ingest.label_units import states_units
from xclimb.ingest.set_audit import ENOUGH, UNIT_CHECKS, ZERO_CHECKS, Findings, Group, WrongUnit, ZeroLabel, zero_rows
from xclimb.ingest.unit_evidence import incomparable, misfit, suspects, undecided
from xclimb.ingest.zero_labels import doubt
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.references.linear import design_of, fit_fractions
from xclimb.references.table import unknown_values

_FITTED = 20_000  # frames that elemental references are fitted to
_CANDIDATES, _FAR = 64, 6.0  # frames checked as outliers, at most; robust deviations from the references
_OUT = 12.0  # robust deviations from the prediction
_MAD_TO_SIGMA = 1.4826


@dataclass
class ModelAudit:
    """Comparison of the labels of a seeded sample with predictions of a potential, for :func:`xclimb.ingest.ingest`.

    Data at another functional than the potential's pass: forces and stress hardly differ, and energies are compared after
    elemental references are fitted.

    Args:
        potential: a name, a folder, or a potential; loaded when there is enough to check.
        frames: size of the sample.
        atoms: largest number of atoms of the sample in each group of frames.
        seed: of the sample.
    """

    potential: str | Potential = "chgnet-0.3.0"
    frames: int = 128
    atoms: int = 2500
    seed: int = 0

    def __call__(self, parts: Sequence[Frames], groups: Sequence[Group], checks: Mapping[str, str], limits: Limits) -> Findings:
        """Findings in the frames of all parts in a row, as far as a check is not off."""
        wanted = [label for label, check in UNIT_CHECKS.items() if checks[check] != "off"]
        zeros = _zeros(parts, [label for label, check in ZERO_CHECKS.items() if checks[check] != "off"])
        groups = [group for group in groups if len(group.rows)]
        if not groups or not (wanted or zeros or checks["outlier"] != "off"):
            return Findings()
        take = _frame_getter(parts)
        findings = Findings()
        potential = load(self.potential)
        sampled = [self._sample(take, group, len(groups), potential) for group in groups]
        for group, rows in zip(groups, sampled, strict=True):
            if wanted and len(rows) and not states_units(group.kind):
                self._units(findings, group, take(rows), potential, wanted)
            for label, of_all in zeros.items():
                own = np.intersect1d(of_all, group.rows, assume_unique=True)
                if len(own) and (evidence := doubt(label, own, take, potential, self.seed)):
                    findings.zeros.append(ZeroLabel(label, own, evidence))
        if checks["outlier"] != "off" and not any(one.label == "energy" for one in findings.units):
            findings.outliers.update(self._outliers(parts, take, np.concatenate(sampled), potential, limits))
        return findings

    def _units(self, findings: Findings, group: Group, frames: Frames, potential: Potential, wanted: list[str]) -> None:
        predicted, interaction = _predict(potential, frames)
        for one in suspects(frames, predicted, interaction, potential.name):
            if one.label in wanted:
                findings.units.append(WrongUnit(group, one.label, one.factor, one.per_atom, one.evidence))
        if "energy" not in wanted or any(one.label == "energy" for one in findings.units):
            return
        sentence = misfit(frames, interaction, potential.name)
        sentence = sentence or undecided(frames, predicted, interaction, potential.name) or incomparable(frames, interaction)
        if sentence:
            findings.doubts.append((group, sentence))

    def _sample(self, take: "Take", group: Group, n_groups: int, potential: Potential) -> np.ndarray:
        """Rows of a group in a seeded order, as many as fit, ascending."""
        rng = np.random.default_rng([self.seed, len(group.rows)])
        most = max(self.frames // n_groups, 4 * ENOUGH)
        rows = np.sort(rng.permutation(group.rows)[: 4 * most])
        frames = take(rows)
        order = rng.permutation(len(rows))
        fits = (potential.knows(frames) & (frames.n_atoms > 0) & _labelled(frames))[order]
        affordable = np.cumsum(np.where(fits, frames.n_atoms[order], 0)) <= max(
            self.atoms // n_groups, frames.n_atoms.min(initial=0)
        )
        return np.sort(rows[order[fits & affordable][:most]])

    def _outliers(
        self, parts: Sequence[Frames], take: "Take", sample: np.ndarray, potential: Potential, limits: Limits
    ) -> dict[int, str]:
        """Frames whose energy is far from all others by composition, and from the prediction."""
        rows = np.union1d(sample, self._candidates(parts, take))
        frames = take(rows)
        usable = potential.knows(frames) & (frames.n_atoms > 0) & np.isfinite(frames.energy)
        rows, frames = rows[usable], frames[usable]
        if len(frames) < 2 * ENOUGH:
            return {}
        interaction = potential.interaction_energy(frames)
        left = fit_fractions(design_of(frames), (frames.energy - interaction) / frames.n_atoms, robust=True).residuals
        bound = max(limits.outlier, _OUT * _spread(left))
        return {
            int(rows[s]): f"{abs(left[s]):.3g} eV/atom {'above' if left[s] > 0 else 'below'} what {potential.name} says once "
            f"elemental references are fitted, {bound:.2g} at most expected"
            for s in np.flatnonzero(np.abs(left) > bound)
        }

    def _candidates(self, parts: Sequence[Frames], take: "Take") -> np.ndarray:
        """The frames furthest from elemental references that were fitted to (a sample of) all, as many as fit."""
        total = sum(map(len, parts))
        chosen = np.sort(np.random.default_rng(self.seed).permutation(total)[:_FITTED])
        frames = take(chosen)
        labelled = np.isfinite(frames.energy)
        if labelled.sum() < 2 * ENOUGH:
            return np.zeros(0, dtype=np.int64)
        some = frames[labelled]
        fit = fit_fractions(design_of(some), some.energy_per_atom, robust=True)
        values = unknown_values()
        values[fit.elements] = fit.values
        left = np.concatenate([_residuals(part, values) for part in parts])  # NaN without an energy, or a reference
        size = np.nan_to_num(np.abs(left) / max(_spread(fit.residuals), 1e-6))
        worst = np.argsort(-size, kind="stable")[:_CANDIDATES]
        affordable = np.cumsum(np.concatenate([part.n_atoms for part in parts])[worst]) <= self.atoms
        return worst[(size[worst] > _FAR) & affordable]


Take = Callable[[np.ndarray], Frames]


def _zeros(parts: Sequence[Frames], labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Frames of all parts in a row whose label is exactly zero: label -> rows ``[N]``, of labels that have any."""
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    by_part = [zero_rows(part) for part in parts] if labels else []
    rows = {
        label: np.concatenate([start + zero[label] for start, zero in zip(starts, by_part, strict=True)] or [starts])
        for label in labels
    }
    return {label: some for label, some in rows.items() if len(some)}


def _frame_getter(parts: Sequence[Frames]) -> Take:
    """A function that gives frames by their numbers in all parts in a row, ascending."""
    starts = np.cumsum([0, *map(len, parts)])

    def take(rows: np.ndarray) -> Frames:
        inside = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(starts.tolist())]
        some = [part[own] for part, own in zip(parts, inside, strict=True) if len(own)]
        return Frames.concatenate(some) if some else Frames.empty()

    return take


def _labelled(frames: Frames) -> np.ndarray:
    stress = np.isfinite(frames.stress).all(axis=(1, 2))
    forces = np.bincount(frames.system, np.isfinite(frames.forces).all(axis=1), len(frames)) > 0
    return np.isfinite(frames.energy) | stress | forces


def _predict(potential: Potential, frames: Frames) -> tuple[Frames, np.ndarray]:
    """The frames with predicted labels, and the energies without references, eV ``[S]``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)  # references without data play no part
        predicted = potential.label(frames.with_theory(LevelOfTheory()))
    return predicted, predicted.energy - potential.references.energy(frames)


def _residuals(part: Frames, values: np.ndarray) -> np.ndarray:
    """Residuals of the energies per atom after elemental references ``[S]``."""
    return (part.energy - np.bincount(part.system, values[part.numbers], len(part))) / part.n_atoms


def _spread(residuals: np.ndarray) -> float:
    return _MAD_TO_SIGMA * float(np.median(np.abs(residuals)))
