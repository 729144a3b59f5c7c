"""Bootstrap over materials, and the 95 % intervals that follow from it."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from xclimb.comparison.paired_statistics import Sums
from xclimb.references.influence import student

LEVEL = 0.95
DRAWS = 1000
FEWEST = 5  # materials: fewer cannot be resampled in any useful way
_CELLS = 4_000_000  # counts held at a time


def bootstrap(
    sums: Sums, material: np.ndarray, numbers: Callable[[Sums], Sums], draws: int = DRAWS, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of numbers that follow from sums over materials.

    Materials are drawn with replacement, since frames of one material are no independent evidence. Each draw is a count a
    material, so that all its sums are one row of a matrix product; fits per element stay those of the full data.

    Args:
        sums: columns by pair ``[P]``.
        material: the material of each pair, 0 to M - 1 ``[P]``.
        numbers: totals of the columns ``[D]`` -> the numbers of each draw ``[D]``.
        draws: how many, D.
        seed: of the draws; the same seed gives the same intervals.

    Returns:
        Name -> lower and upper end; numbers that most draws cannot state are left out. Empty below five materials.
    """
    count = int(material.max()) + 1
    if count < FEWEST:
        return {}
    table = np.stack([np.bincount(material, column, count) for column in sums.values()], axis=1)  # [M, C]
    rng = np.random.default_rng(seed)
    step = max(1, _CELLS // count)
    totals = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        owner = np.arange(size)[:, None] * count + rng.integers(0, count, (size, count))
        chosen = np.bincount(owner.ravel(), minlength=size * count).reshape(size, count)  # [draws, M]
        totals.append(chosen.astype(np.float64) @ table)
    drawn = numbers(dict(zip(sums, np.concatenate(totals).T, strict=True)))
    return {name: bounds for name, values in drawn.items() if (bounds := _bounds(values)) is not None}


def widen_for_fit(
    result: dict[str, tuple[float, float]], centre: Sums, n_materials: int, n_elements: int
) -> dict[str, tuple[float, float]]:
    """Intervals with those of the residuals replaced by the scatter's, widened for the degrees of freedom of the fit.

    Residuals of the fitted data themselves are too small; the scatter is corrected for that. But drawing M materials anew does
    not know that a fit of K elements made their residuals depend on each other: on a logarithmic scale the bounds are moved out
    by sqrt(M / (M - K)), times the quantile of Student's t over the normal one.

    Args:
        result: of :func:`bootstrap`.
        centre: the numbers of the pairs themselves ``[1]``.
        n_materials: M.
        n_elements: K, of these materials.
    """
    free = max(n_materials - n_elements, 1)
    wider = math.sqrt(n_materials / free) * float(student(free) / student(math.inf))
    kept = {name: bounds for name, bounds in result.items() if not name.startswith(("left_over_", "scatter_"))}
    for kind in ("mae", "rmse"):
        middle = float(centre[f"scatter_{kind}"][0])
        if f"scatter_{kind}" in result and middle > 0.0:
            low, high = (middle * max(end / middle, 1e-9) ** wider for end in result[f"scatter_{kind}"])
            kept |= {f"scatter_{kind}": (low, high), f"left_over_{kind}": (low, high)}
    return kept


def _bounds(values: np.ndarray) -> tuple[float, float] | None:
    stated = values[np.isfinite(values)]
    if len(stated) < 0.5 * len(values):
        return None
    low, high = np.quantile(stated, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def material_interval(
    values: Float[np.ndarray, " F"], weights: Float[np.ndarray, " F"], groups: Int[np.ndarray, " F"]
) -> tuple[float, float]:
    """95 % interval of a weighted mean over frames of which the materials, not the frames, are independent.

    Materials are drawn with replacement (:func:`bootstrap`); since a percentile interval of few of
    them is too narrow, both bounds are widened by sqrt(M / (M - 1)) and by the quantile of Student's t over the normal one.
    NaN below five materials.

    Args:
        values: of each frame.
        weights: of each frame in the mean.
        groups: the material of each frame, 0 to M - 1.
    """
    drawn = bootstrap({"sum": weights * values, "weight": weights}, groups, lambda sums: {"mean": sums["sum"] / sums["weight"]})
    if "mean" not in drawn:
        return math.nan, math.nan
    count, centre = len(np.unique(groups)), float(weights @ values / weights.sum())
    wider = math.sqrt(count / (count - 1)) * float(student(count - 1) / student(math.inf))
    low, high = (centre + wider * (end - centre) for end in drawn["mean"])
    return low, high


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of independent values, by Student's t; NaN for fewer than two."""
    count = len(values)

    return float(student(count - 1)) * float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan


def paired_difference(
    before: Float[np.ndarray, " F"],
    after: Float[np.ndarray, " F"],
    weights: Float[np.ndarray, " F"],
    groups: Int[np.ndarray, " F"],
) -> tuple[float, float]:
    """95 % interval of the change of a mean absolute error on the same frames, after minus before, over materials.

    Args:
        before: mean absolute error of each frame.
        after: the same of the second potential.
        weights: components behind each of them.
        groups: the material of each frame, 0 to M - 1.
    """
    known = np.isfinite(before) & np.isfinite(after) & (weights > 0)
    if not known.any():
        return math.nan, math.nan
    change, weights = (after - before)[known], weights[known].astype(float)
    return material_interval(change, weights, np.unique(groups[known], return_inverse=True)[1])
