"""Guard of a transfer: each quantity compared with step 0 on the validation materials, and the weights that are handed over.

Candidates are the last epoch and that of the lowest validation loss, and points on the straight lines from step 0 to these
(Wortsman et al., arXiv 2109.01903). A quantity is worse where the 95 % interval over materials of the change of its mean
absolute error excludes no change. The first candidate where nothing is worse is kept, unless a later one is better beyond
noise: the lowest of many errors on few materials is mostly luck. Where the average of networks is handed over, the first is
kept in any case: errors of the single networks have the noise of each in them, which a shorter way lowers, as averaging does.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Literal, TypeVar, cast

import numpy as np

from xclimb.comparison.intervals import paired_difference
from xclimb.data.frames import Frames
from xclimb.evaluation.absolute_errors import UNITS, absolute_errors, errors_by_frame, mean_error
from xclimb.evaluation.metrics import HasLabels
from xclimb.transfer.weights import interpolate

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from step 0
NO_INTERVAL = 1.05  # ratio to step 0 that counts as worse where materials are too few for an interval
NEGLIGIBLE = {"energy": 1.0, "forces": 2.0, "stress": 0.05, "magmom": 0.005}  # below the precision of labels
_NAMES = {"energy": "energy", "forces": "forces", "stress": "stress", "magmom": "magnetic moments"}

P = TypeVar("P", bound=HasLabels)  # a potential, or the members of a cross-fitted transfer
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

    @property
    def is_better(self) -> bool:
        """Whether the error fell beyond noise; never where materials are too few for an interval."""
        return self.high < 0

    def __str__(self) -> str:
        digits = 1 if self.quantity in ("energy", "forces") else 3
        interval = f", 95 % {self.low:+.{digits}f} to {self.high:+.{digits}f}" if math.isfinite(self.low) else ""
        values = f"{self.before:.{digits}f} to {self.after:.{digits}f} {UNITS[self.quantity]}"
        return f"{_NAMES[self.quantity]} ({values}{interval})"


@dataclass(frozen=True)
class Choice(Generic[P]):
    """The weights that are handed over.

    Args:
        potential: with these weights.
        epoch: of the weights at the end of the line; 0 where step 0 is kept.
        share: of the way from step 0 to these; 0 where step 0 is kept.
        changes: of each labelled quantity, against step 0.
        refused: changes for the worse at the last epoch, which is why it was not kept.
    """

    potential: P
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
                f"Worse than step 0 on the validation materials at the last epoch: {listed}; {kept} (guard 'each')."
            )
        if worse:
            sentences.append(f"Worse than step 0 on the validation materials: {', '.join(map(str, worse))}.")
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Record for run.json; NaN becomes null."""
        rows = [asdict(change) | {"is_worse": change.is_worse} for change in self.changes]
        finite = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        return {"epoch": self.epoch, "share": self.share, "changes": finite}


def choose(
    rule: Literal["each", "first", "sum"],
    start: P,
    last: tuple[int, P],
    best: tuple[int, P],
    frames: Frames,
    line: Callable[[P, P, float], P] | None = None,
) -> Choice[P]:
    """Choose the weights that are handed over.

    Args:
        rule: ``"each"`` keeps a point where nothing is worse, ``"first"`` the first of these, ``"sum"`` the best epoch even
            where a quantity got worse.
        start: the potential of step 0.
        last: number and potential of the last epoch.
        best: the same of the epoch of the lowest validation loss.
        frames: validation frames.
        line: the potential at a share of the way between two; :func:`interpolate` by default.
    """
    line = line or cast(Callable[[P, P, float], P], interpolate)
    zero = _errors(start, frames)
    step_zero = Choice(start, 0, 0.0, _changes(zero, zero, frames))
    if rule == "sum" or last[0] == 0:
        if best[0] == 0:
            return step_zero
        return Choice(best[1], best[0], 1.0, _changes(zero, _errors(best[1], frames), frames))
    kept, errors = step_zero, zero
    refused: tuple[Change, ...] = ()
    for epoch, end in dict([last, best]).items():
        for share in SHARES if epoch else ():
            potential = line(start, end, share)
            after = _errors(potential, frames)
            option = Choice(potential, epoch, share, _changes(zero, after, frames))
            worse = tuple(change for change in option.changes if change.is_worse)
            if (epoch, share) == (last[0], 1.0):
                refused = worse
            if worse or option.ratio >= kept.ratio:
                continue
            better = rule == "each" and any(change.is_better for change in _changes(errors, after, frames))
            if kept is step_zero or better:
                kept, errors = option, after
    return replace(kept, refused=refused)


def compare(before: HasLabels, after: HasLabels, frames: Frames) -> tuple[Change, ...]:
    """Changes of the mean absolute errors of each labelled quantity between two potentials."""
    return _changes(_errors(before, frames), _errors(after, frames), frames)


def _errors(potential: HasLabels, frames: Frames) -> ByFrame:
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
