"""Scaling laws: planted ones are recovered, intervals cover them, and what is not reached is not claimed."""

import math

import numpy as np
import pytest

from xclimb.errors import DataError
from xclimb.evaluation.scaling import efficiency, fit_law

SIZES = np.array([64, 128, 256, 512, 1024, 2048, 4096, 8192])


def planted(a, b, c, noise=0.05, seed=0, sizes=SIZES, seeds=3):
    """Errors of ``seeds`` trials at each size."""
    n = np.repeat(sizes, seeds)
    return n, (a * n**-b + c) * np.exp(np.random.default_rng(seed).normal(0, noise, len(n)))


@pytest.mark.parametrize(("a", "b", "c", "kind"), [(200.0, 0.35, 0.0, "power"), (300.0, 0.6, 9.0, "offset")])
def test_a_planted_law_is_recovered_and_chosen(a, b, c, kind):
    law = fit_law(*planted(a, b, c, noise=0.02, seed=2))
    assert law.kind == kind
    assert law.aicc[kind] == min(law.aicc.values())
    assert law.slope[0] < b < law.slope[1]
    assert law.offset[0] <= c <= law.offset[1]
    assert law.b == pytest.approx(b, rel=0.1)
    assert law.r2 > 0.98
    assert law.error(1000) == pytest.approx(a * 1000**-b + c, rel=0.03)
    assert law.size(law.error(700)) == pytest.approx(700)
    exact = fit_law(*planted(a, b, c, noise=0.0), (kind,))
    assert (exact.a, exact.b, exact.c) == pytest.approx((a, b, c), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("kinds", "c"), [(("power",), 0.0), (("offset",), 9.0)])
def test_intervals_of_the_slope_cover_it_as_often_as_they_say(kinds, c):
    b, hits, studies = 0.45, 0, 60
    for seed in range(studies):
        low, high = fit_law(*planted(250.0, b, c, seed=seed, sizes=SIZES[::2]), kinds, draws=200).slope
        hits += low < b < high
    assert 0.86 <= hits / studies <= 1.0  # three standard errors; 500 studies: benchmarks/scaling_coverage.py


def test_a_size_of_wide_spread_counts_less():
    n, errors = planted(100.0, 0.5, 0.0, noise=0.01)
    errors[:3] *= [0.5, 1.1, 4.0]
    weighted = fit_law(n, errors, ("power",))
    line = -np.polyfit(np.log(n), np.log(errors), 1)[0]
    assert abs(weighted.b - 0.5) < 0.8 * abs(line - 0.5)


def test_data_efficiency_is_the_ratio_of_sizes():
    transfer = fit_law(*planted(60.0, 0.4, 0.0, noise=0.01, seed=1), ("power",))
    scratch = fit_law(*planted(240.0, 0.4, 0.0, noise=0.01, seed=2), ("power",))
    one = efficiency(transfer, scratch, 128)
    assert one.reached
    assert one.ratio == pytest.approx(4 ** (1 / 0.4), rel=0.1)
    assert one.interval[0] < 32 < one.interval[1]
    far = efficiency(transfer, scratch, 4096)
    assert not far.reached  # 131,072 structures
    assert far.least == 2
    level = fit_law(*planted(240.0, 0.6, 30.0, noise=0.01, seed=3))
    never = efficiency(transfer, level, 4096)
    assert math.isinf(never.ratio)
    assert not never.reached


def test_a_prediction_is_wider_than_the_law_and_far_ones_are_marked():
    law = fit_law(*planted(200.0, 0.35, 0.0))
    band, predicted = law.band(20000), law.predict(20000)
    assert predicted[0] < band[0] < law.error(20000) < band[1] < predicted[1]
    assert not law.is_far(80000)
    assert law.is_far(90000)


def test_one_seed_is_enough_and_two_sizes_are_not():
    law = fit_law(*planted(200.0, 0.35, 0.0, seeds=1))
    assert law.slope[0] < 0.35 < law.slope[1]
    with pytest.raises(DataError, match="3 or more numbers of structures, got 2"):
        fit_law([64, 64, 128], [3.0, 3.1, 2.0])
    with pytest.raises(DataError, match="got 2"):
        fit_law([0, 64, 128], [3.0, 3.1, 2.0])  # 0 is not on a logarithmic axis
