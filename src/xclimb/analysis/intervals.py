"""Bootstrap over materials: how far the numbers of a shift could have come out otherwise."""

from collections.abc import Callable

import numpy as np

from xclimb.analysis.pair_sums import Sums

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
        chosen = [np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(min(step, draws - start))]
        totals.append(np.stack(chosen).astype(np.float64) @ table)
    drawn = numbers(dict(zip(sums, np.concatenate(totals).T, strict=True)))
    return {name: ends for name, values in drawn.items() if (ends := _ends(values)) is not None}


def _ends(values: np.ndarray) -> tuple[float, float] | None:
    stated = values[np.isfinite(values)]
    if len(stated) < 0.5 * len(values):
        return None
    low, high = np.quantile(stated, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)
