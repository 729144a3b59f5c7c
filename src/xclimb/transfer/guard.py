"""Guard of a transfer: each quantity compared with step 0 on the validation materials, and the weights that are handed over.

Candidates are the epoch of the lowest validation loss and the last one, and points on the straight lines from step 0 to these
(Wortsman et al., arXiv 2109.01903). A quantity is worse where the 95 % interval over materials of the change of its mean
absolute error excludes no change. Of the candidates where nothing is worse, that of the lowest mean ratio to step 0 is kept.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from xclimb.comparison.intervals import paired_difference
from xclimb.data.frames import Frames
from xclimb.evaluation.absolute_errors import UNITS, absolute_errors, errors_by_frame, mean_error
from xclimb.models.potential import Potential

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from step 0
NO_INTERVAL = 1.05  # ratio to step 0 that counts as worse where materials are too few for an interval
NEGLIGIBLE = {"energy": 1.0, "forces": 2.0, "stress": 0.05, "magmom": 0.005}  # below the precision of labels
_NAMES = {"energy": "energy", "forces": "forces", "stress": "stress", "magmom": "magnetic moments"}

ByFrame = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Change:
    """A mean absolute error at step 0 and of a candidate, with the 95 % interval of the difference; NaN where there is none."""

    quantity: str
    before: float
    after: float
    low: float
    high: float

    @property
    def is_worse(self) -> bool:
        """Whether the error rose beyond noise."""
        if self.after - self.before <= NEGLIGIBLE[self.quantity]:
            return False
        return self.low > 0 if math.isfinite(self.low) else self.after > NO_INTERVAL * self.before

    def __str__(self) -> str:
        digits = 1 if self.quantity in ("energy", "forces") else 3
        interval = f", 95 % {self.low:+.{digits}f} to {self.high:+.{digits}f}" if math.isfinite(self.low) else ""
        values = f"{self.before:.{digits}f} to {self.after:.{digits}f} {UNITS[self.quantity]}"
        return f"{_NAMES[self.quantity]} ({values}{interval})"


@dataclass(frozen=True)
class Choice:
    """The weights that are handed over.

    Args:
        potential: with these weights.
        epoch: of the weights at the end of the line; 0 where step 0 is kept.
        share: of the way from step 0 to these; 0 where step 0 is kept.
        changes: of each labelled quantity, against step 0.
        refused: changes for the worse at the end of the line of the best epoch, which is why it was not kept.
    """

    potential: Potential
    epoch: int
    share: float
    changes: tuple[Change, ...]
    refused: tuple[Change, ...] = ()

    @property
    def ratio(self) -> float:
        """Mean ratio of the errors to those of step 0."""
        return float(np.mean([change.after / change.before for change in self.changes if change.before > 0] or [1.0]))

    @property
    def notes(self) -> list[str]:
        """Sentences about quantities that got worse, and what was done about it."""
        worse = [change for change in self.changes if change.is_worse]
        sentences = []
        if self.refused:
            way = f"{100 * self.share:.0f} % of the way from step 0 to epoch {self.epoch} are kept"
            kept = way if self.share else "step 0 is kept"
            listed = ", ".join(map(str, self.refused))
            sentences.append(
                f"Worse than step 0 on the validation materials at the best epoch: {listed}; {kept} (guard 'each')."
            )
        if worse:
            sentences.append(f"Worse than step 0 on the validation materials: {', '.join(map(str, worse))}.")
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Record for run.json; NaN becomes null."""
        rows = [asdict(change) | {"is_worse": change.is_worse} for change in self.changes]
        finite = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        return {"epoch": self.epoch, "share": self.share, "changes": finite}


def choose(rule: Literal["each", "sum"], start: Potential, epochs: Sequence[tuple[int, Potential]], frames: Frames) -> Choice:
    """Choose the weights that are handed over.

    Args:
        rule: ``"sum"`` keeps the best epoch even where a quantity got worse; ``"each"`` a point where nothing is worse.
        start: the potential of step 0.
        epochs: number and potential, that of the lowest validation loss first.
        frames: validation frames.
    """
    zero = _errors(start, frames)
    step_zero = Choice(start, 0, 0.0, _changes(zero, zero, frames))

    def point(epoch: int, end: Potential, share: float) -> Choice:
        potential = interpolate(start, end, share)
        return Choice(potential, epoch, share, _changes(zero, _errors(potential, frames), frames))

    best_epoch, best = epochs[0]
    first = point(best_epoch, best, 1.0) if best_epoch else step_zero
    if rule == "sum":
        return first
    kept = step_zero
    for epoch, end in epochs:
        for share in SHARES if epoch else ():
            option = first if (epoch, share) == (best_epoch, 1.0) else point(epoch, end, share)
            if option.ratio < kept.ratio and not any(change.is_worse for change in option.changes):
                kept = option
    return replace(kept, refused=tuple(change for change in first.changes if change.is_worse))


def interpolate(start: Potential, end: Potential, share: float) -> Potential:
    """The potential on the straight line between two of one architecture: weights and references."""
    if share == 1.0:
        return end
    model, origin = copy.deepcopy(end.model), start.model.state_dict()
    line = {
        name: origin[name] + share * (value - origin[name]) if value.is_floating_point() else value
        for name, value in end.model.state_dict().items()
    }
    model.load_state_dict(line)
    values = start.references.values + share * (end.references.values - start.references.values)
    return Potential(model, replace(end.references, values=values), end.theory, end.name)


def _errors(potential: Potential, frames: Frames) -> ByFrame:
    return errors_by_frame(absolute_errors(potential.label(frames), frames), frames)


def _changes(before: ByFrame, after: ByFrame, frames: Frames) -> tuple[Change, ...]:
    """Changes of the quantities that are labelled."""
    material = np.unique(frames.material_id, return_inverse=True)[1]
    changed = []
    for quantity in before:
        (first, counts), (second, _) = before[quantity], after[quantity]
        if counts.any():
            low, high = paired_difference(first, second, counts.astype(float), material)
            changed.append(Change(quantity, mean_error(first, counts), mean_error(second, counts), low, high))
    return tuple(changed)
