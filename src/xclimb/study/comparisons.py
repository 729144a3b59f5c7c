"""Whether one model of a study is better than another: intervals of the difference, over test materials and seeds."""

import math
from collections.abc import Sequence

import numpy as np

from xclimb.comparison.intervals import half_width, material_interval
from xclimb.runs.schema import StudyPredictions
from xclimb.study.summary import ModelErrors, best_of

_COLUMNS = {"energy": ("energy_per_atom", 1000.0), "forces": ("forces", 1000.0), "stress": ("stress", 1.0)}
Interval = tuple[float, float]


def difference(
    model: ModelErrors, other: ModelErrors, metric: str, predictions: StudyPredictions | None
) -> tuple[float, Interval]:
    """Error of one model minus that of another, means over seeds, and its 95 % interval; NaN where that is not known.

    Half-widths add in quadrature: that of the seeds, paired where both models have the same number, and, on either side, that
    of the test materials (:func:`xclimb.comparison.intervals.material_interval`), paired frame by frame for one seed.

    Args:
        model: the first.
        other: the second.
        metric: ``"energy_mae"``, ``"forces_rmse"``, ...
        predictions: predictions.json, of the same split; None leaves the test materials out.
    """
    centre = model.mean.get(metric, math.nan) - other.mean.get(metric, math.nan)
    widths = [half_width(values) for values in _over_seeds(model, other, metric)]
    below, above = _over_frames(model.model, other.model, metric, predictions)
    sides = [[width for width in (*widths, side) if math.isfinite(width)] for side in (below, above)]
    if not all(sides):
        return centre, (math.nan, math.nan)
    return centre, (centre - math.hypot(*sides[0]), centre + math.hypot(*sides[1]))


def is_supported(interval: Interval) -> bool:
    """Whether an interval excludes no difference."""
    return interval[0] > 0.0 or interval[1] < 0.0


def leading(models: Sequence[ModelErrors], metric: str, predictions: StudyPredictions | None) -> set[str]:
    """The model with the smallest error and those that do not differ significantly; empty where no interval is known."""
    best = best_of(models, metric)
    if best is None:
        return set()
    known = [model for model in models if model is not best and math.isfinite(model.mean.get(metric, math.nan))]
    intervals = {model.model: difference(model, best, metric, predictions)[1] for model in known}
    if not any(math.isfinite(low) for low, _ in intervals.values()):
        return set()
    return {best.model, *(name for name, pair in intervals.items() if not is_supported(pair))}


def _over_seeds(model: ModelErrors, other: ModelErrors, metric: str) -> list[list[float]]:
    """Spread over seeds: of the differences of paired seeds, or of the errors of either model."""
    first, second = (one.each.get(metric, []) for one in (model, other))
    paired = len(first) == len(second)
    return [[a - b for a, b in zip(first, second, strict=True)]] if paired else [first, second]


def _over_frames(model: str, other: str, metric: str, predictions: StudyPredictions | None) -> tuple[float, float]:
    """Distances of the interval below and above the difference for one seed, over test materials; NaN without predictions."""
    quantity, kind = metric.rsplit("_", 1)
    if predictions is None or quantity not in _COLUMNS or not {model, other} <= predictions.models.keys():
        return math.nan, math.nan
    column, factor = _COLUMNS[quantity]
    compared = (predictions.models[model], predictions.models[other], predictions.reference)
    columns = [np.array(getattr(labels, column), dtype=float) for labels in compared]
    frame = _frame_of(quantity, predictions)
    if any(len(values) != len(frame) for values in columns) or not len(frame):
        return math.nan, math.nan
    power = 2 if kind == "rmse" else 1
    errors = [(factor * np.abs(values - columns[2])) ** power for values in columns[:2]]
    known = np.isfinite(errors[0]) & np.isfinite(errors[1])
    # a root mean square changes by half the change of the mean square over itself
    scales = [1.0 if power == 1 else 0.5 / max(math.sqrt(float(error[known].mean())), 1e-12) for error in errors]
    change = (scales[0] * errors[0] - scales[1] * errors[1])[known]
    count = len(predictions.frame_id)
    weights = np.bincount(frame[known], minlength=count).astype(float)
    values = np.divide(np.bincount(frame[known], change, count), weights, out=np.zeros(count), where=weights > 0)
    _, groups = np.unique(np.array(predictions.material_id or predictions.formula), return_inverse=True)
    low, high = material_interval(values, weights, groups)
    mean = float(weights @ values / weights.sum()) if weights.any() else math.nan
    return mean - low, high - mean


def _frame_of(quantity: str, predictions: StudyPredictions) -> np.ndarray:
    """The frame of each component."""
    atoms = np.array(predictions.n_atoms, dtype=int)
    components = {"energy": np.ones(len(atoms), dtype=int), "forces": 3 * atoms, "stress": np.full(len(atoms), 9)}
    return np.repeat(np.arange(len(atoms)), components[quantity])
