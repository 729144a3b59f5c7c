"""Bootstrap over materials: how far the numbers of a shift could have come out otherwise."""

import math
from collections.abc import Callable

import numpy as np

from xclimb.analysis.pair_sums import Sums
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
    return {name: ends for name, values in drawn.items() if (ends := _ends(values)) is not None}


def corrected_for_the_fit(
    found: dict[str, tuple[float, float]], centre: Sums, n_materials: int, n_elements: int
) -> dict[str, tuple[float, float]]:
    """Intervals with those of the left-over exchanged for the scatter's, wider by what the fit cost in degrees of freedom.

    What a fit leaves over of its own data is too little; the scatter is corrected for that. But drawing M materials anew does
    not know that a fit of K elements made their residuals depend on each other: on a logarithmic scale the ends are moved out
    by sqrt(M / (M - K)), times the quantile of Student's t over the normal one.

    Args:
        found: of :func:`bootstrap`.
        centre: the numbers of the pairs themselves ``[1]``.
        n_materials: M.
        n_elements: K, of these materials.
    """
    free = max(n_materials - n_elements, 1)
    wider = math.sqrt(n_materials / free) * float(student(np.array([free]))[0]) / float(student(np.array([math.inf]))[0])
    kept = {name: ends for name, ends in found.items() if not name.startswith(("left_over_", "scatter_"))}
    for kind in ("mae", "rmse"):
        middle = float(centre[f"scatter_{kind}"][0])
        if f"scatter_{kind}" in found and middle > 0.0:
            low, high = (middle * max(end / middle, 1e-9) ** wider for end in found[f"scatter_{kind}"])
            kept |= {f"scatter_{kind}": (low, high), f"left_over_{kind}": (low, high)}
    return kept


def _ends(values: np.ndarray) -> tuple[float, float] | None:
    stated = values[np.isfinite(values)]
    if len(stated) < 0.5 * len(values):
        return None
    low, high = np.quantile(stated, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)
