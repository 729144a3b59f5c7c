"""Scaling laws: the error of a potential as a function of the number of training structures, and what follows from it.

Two laws are fitted, ``a N^-b`` and ``a N^-b + c``, to logarithms of errors, each trial one point. Points are weighted by the
spread over the seeds of their size; a spread of few seeds is itself uncertain and is drawn towards the one of all sizes. The
law is chosen by Akaike's criterion for small samples (AICc). Intervals are of a bootstrap of the standardised residuals,
corrected for the degrees of freedom of the fit and widened by Student's t; both laws share in the draws by their Akaike
weights, so that an interval knows that the choice of the law is uncertain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.stats import t as student_t

from xclimb.errors import DataError

LEVEL = 0.95
DRAWS = 1000
FEWEST = 3  # sizes: two always lie on a line
FAR = 10.0  # times the largest size: beyond, an extrapolation comes with a warning
_PRIOR = 20.0  # degrees of freedom of the spread of all sizes within that of one
_SLOPES = np.geomspace(0.02, 3.0, 120)  # of the search for a law with offset
_OFFSETS = np.concatenate([np.geomspace(1e-3, 0.5, 20), np.linspace(0.52, 0.99, 30)])  # shares of the law at the largest size
Interval = tuple[float, float]
Real = float | int
Kind = Literal["power", "offset"]


@dataclass(frozen=True, eq=False)
class Law:
    """A fitted law ``a N^-b + c``.

    Args:
        a: factor, in the unit of the errors.
        b: slope in a log-log plot, positive where more structures help.
        c: error that no number of structures undercuts; 0 for a pure power law.
        smallest: fewest training structures of the fit.
        largest: most of them.
        points: number of trials.
        r2: share of the variance of log errors between the trials that the law explains.
        aicc: Akaike's criterion of each law that was fitted; the lower is chosen.
        spread: standard deviation of the log error of a trial about the law.
        draws: parameters (a, b, c) of the bootstrap ``[D, 3]``.
    """

    a: float
    b: float
    c: float
    smallest: int
    largest: int
    points: int
    r2: float
    aicc: dict[Kind, float]
    spread: float
    draws: Float[np.ndarray, "draws 3"] = field(repr=False)

    @property
    def kind(self) -> Kind:
        """``"power"`` or ``"offset"``."""
        return "offset" if self.c else "power"

    def error(self, size: Real) -> float:
        """Error at a number of structures."""
        return float(_errors(np.array([[self.a, self.b, self.c]]), size)[0])

    def size(self, error: Real) -> float:
        """Number of structures that reach an error; infinite where the law never does."""
        return float(_sizes(np.array([[self.a, self.b, self.c]]), error)[0])

    @cached_property
    def slope(self) -> Interval:
        """95 % interval of b."""
        return self._interval(self.draws[:, 1], self.b)

    @cached_property
    def offset(self) -> Interval:
        """95 % interval of c."""
        low, high = self._interval(self.draws[:, 2], self.c)
        return max(low, 0.0), high

    def band(self, size: Real) -> Interval:
        """95 % interval of the law at a number of structures."""
        return self._on_logs(_errors(self.draws, size), self.error(size))

    def predict(self, size: Real, seed: int = 0) -> Interval:
        """95 % prediction interval of the error of one more trial at a number of structures."""
        noise = np.random.default_rng(seed).normal(0.0, self.spread, len(self.draws))
        return self._on_logs(_errors(self.draws, size) * np.exp(noise), self.error(size))

    def is_far(self, size: Real) -> bool:
        """Whether a number of structures is more than ten-fold outside those of the fit."""
        return size > FAR * self.largest or size < self.smallest / FAR

    def _on_logs(self, drawn: np.ndarray, centre: float) -> Interval:
        low, high = self._interval(np.log(drawn), math.log(centre))
        return math.exp(low), math.exp(high)

    def _interval(self, drawn: np.ndarray, centre: float) -> Interval:
        """Percentile interval, widened about the centre for the few degrees of freedom of the spread."""
        tail, free = 0.5 - LEVEL / 2, max(self.points - (3 if self.c else 2), 1)
        wider = float(student_t.ppf(tail, free) / student_t.ppf(tail, math.inf))
        low, high = np.quantile(drawn, [tail, 1.0 - tail], method="weibull")
        return centre + wider * float(low - centre), centre + wider * float(high - centre)


def _errors(laws: np.ndarray, size: Real) -> np.ndarray:
    """Errors of several laws at a number of structures."""
    return laws[:, 0] * size ** -laws[:, 1] + laws[:, 2]


def _sizes(laws: np.ndarray, errors: np.ndarray | float) -> np.ndarray:
    """Numbers of structures at which several laws reach an error; infinite where they never do."""
    a, b, c = laws.T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        sizes = (a / np.maximum(errors - c, 0.0)) ** (1.0 / b)
    return np.where((errors > c) & (b > 0), sizes, np.inf)


# -- fits ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Points:
    """Sizes, log errors and standard deviations of these ``[P]``."""

    n: np.ndarray
    log: np.ndarray
    spread: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Weights of the points; their sum is 1."""
        return self.spread**-2.0 / (self.spread**-2.0).sum()


def fit_law(
    sizes: Sequence[Real] | np.ndarray,
    errors: Sequence[Real] | np.ndarray,
    kinds: Sequence[Kind] = ("power", "offset"),
    draws: int = DRAWS,
    seed: int = 0,
) -> Law:
    """Fit a scaling law; of several kinds, that of the lowest AICc.

    Args:
        sizes: training structures of each trial.
        errors: its error, in any unit.
        kinds: ``"power"``: a N^-b; ``"offset"``: a N^-b + c with c above 0.
        draws: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same intervals.

    Raises:
        DataError: if fewer than three different sizes have an error above 0.
    """
    points = _points(sizes, errors)
    laws = {kind: _solve(kind, points, points.log[None]) for kind in kinds}
    if "offset" in laws:
        laws["offset"] = _polish(points, laws["offset"][0])[None]
    aicc = {kind: float(_criterion(points, law, points.log[None])[0]) for kind, law in laws.items()}
    kind = min(aicc, key=lambda name: aicc[name])
    weights = {name: math.exp((aicc[kind] - value) / 2) for name, value in aicc.items()}
    rng = np.random.default_rng(seed)
    drawn = [_draw(name, points, law, _share(name, weights, draws), rng) for name, law in laws.items()]
    a, b, c = laws[kind][0].tolist()
    residuals = points.log - _logs(laws[kind], points.n)[0]
    about = points.log - points.weights @ points.log
    unexplained, total = (float(points.weights @ values**2) for values in (residuals, about))
    return Law(
        a=a,
        b=b,
        c=c,
        smallest=int(points.n.min()),
        largest=int(points.n.max()),
        points=len(points.n),
        r2=1.0 - unexplained / total if total else math.nan,
        aicc=aicc,
        spread=math.sqrt(float(residuals @ residuals) / _free(kind, points)),
        draws=rng.permutation(np.concatenate(drawn)),
    )


def _share(kind: Kind, weights: dict[Kind, float], draws: int) -> int:
    """Number of draws of a law, by its Akaike weight."""
    return round(draws * weights[kind] / sum(weights.values()))


def _free(kind: Kind, points: "_Points") -> int:
    return max(len(points.n) - (2 if kind == "power" else 3), 1)


def _draw(kind: Kind, points: "_Points", law: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Parameters ``[draws, 3]`` of fits to the law with residuals drawn anew."""
    fitted = _logs(law, points.n)[0]
    residuals = (points.log - fitted) / points.spread
    corrected = (residuals - residuals.mean()) * math.sqrt(len(residuals) / _free(kind, points))  # those of a fit are too small
    return _solve(kind, points, fitted + points.spread * rng.choice(corrected, (draws, len(residuals))))


def _points(sizes: Sequence[Real] | np.ndarray, errors: Sequence[Real] | np.ndarray) -> _Points:
    n, values = np.asarray(sizes, dtype=float), np.asarray(errors, dtype=float)
    known = (n > 0) & np.isfinite(values) & (values > 0)
    n, log = n[known], np.log(values[known])
    if len(np.unique(n)) < FEWEST:
        raise DataError(f"a scaling law needs errors at {FEWEST} or more numbers of structures, got {len(np.unique(n))}")
    place = np.unique(n, return_inverse=True)[1]
    counts = np.bincount(place)
    squares = np.bincount(place, (log - (np.bincount(place, log) / counts)[place]) ** 2)
    free = counts - 1
    if squares.sum() < 1e-20:
        return _Points(n, log, np.ones(len(n)))
    pooled = squares.sum() / free.sum()
    return _Points(n, log, np.sqrt((_PRIOR * pooled + squares) / (_PRIOR + free))[place])


def _solve(kind: Kind, points: _Points, logs: np.ndarray) -> np.ndarray:
    """Parameters (a, b, c) ``[D, 3]`` that fit rows of log errors ``[D, P]`` by weighted least squares."""
    return _solve_power(points, logs) if kind == "power" else _solve_offset(points, logs)


def _solve_power(points: _Points, logs: np.ndarray) -> np.ndarray:
    """Solve weighted linear least squares in log N."""
    x = np.log(points.n) - points.weights @ np.log(points.n)
    slope = logs @ (points.weights * x) / (points.weights @ x**2)
    level = logs @ points.weights - slope * (points.weights @ np.log(points.n))
    return np.stack([np.exp(level), -slope, np.zeros(len(logs))], axis=1)


def _solve_offset(points: _Points, logs: np.ndarray) -> np.ndarray:
    """Search slope and relative offset on a grid; the factor of each follows in closed form. One product of matrices."""
    b, share = (axis.ravel() for axis in np.meshgrid(_SLOPES, _OFFSETS))
    power = points.n.max() ** -b
    ratio = power * share / (1.0 - share)  # c / a
    shapes = np.log(points.n[None] ** -b[:, None] + ratio[:, None])  # [G, P]
    centred = shapes - (shapes @ points.weights)[:, None]
    squares = centred**2 @ points.weights - 2.0 * (logs * points.weights) @ centred.T  # [D, G], without that of the logs
    best = np.argmin(squares, axis=1)
    a = np.exp((logs - shapes[best]) @ points.weights)
    return np.stack([a, b[best], a * ratio[best]], axis=1)


def _polish(points: _Points, law: np.ndarray) -> np.ndarray:
    """Minimise from the best place of the grid."""

    def residuals(theta: np.ndarray) -> np.ndarray:
        fitted = np.logaddexp(theta[0] - theta[1] * np.log(points.n), theta[2])
        return (fitted - points.log) / points.spread

    theta = least_squares(residuals, [math.log(law[0]), law[1], math.log(law[2])], method="lm").x
    return np.array([math.exp(theta[0]), theta[1], math.exp(theta[2])])


def _logs(laws: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Log errors ``[D, P]`` of laws ``[D, 3]``."""
    return np.log(laws[:, :1] * n ** -laws[:, 1:2] + laws[:, 2:])


def _criterion(points: _Points, laws: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """AICc of laws ``[D]``, each for its row of log errors; the variance is a parameter too."""
    count, k = len(points.n), 3 + int(laws[0, 2] > 0)
    if count <= k + 1:
        return np.full(len(laws), np.inf if k > 3 else 0.0)
    squares = (((logs - _logs(laws, points.n)) / points.spread) ** 2).mean(axis=1)
    return count * np.log(np.maximum(squares, 1e-300)) + 2 * k + 2 * k * (k + 1) / (count - k - 1)


# -- data efficiency -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Efficiency:
    """Structures that another method needs for the same error.

    Args:
        size: training structures of the method.
        error: of its law there.
        other: structures that the other method needs; infinite where its law never gets there.
        ratio: ``other / size``.
        interval: 95 % interval of the ratio.
        reached: whether the other method has as low an error within the sizes that it was trained with.
        least: ratio that the largest of these sizes would be; where it is not reached, the ratio is above that.
    """

    size: int
    error: float
    other: float
    ratio: float
    interval: Interval
    reached: bool
    least: float


def efficiency(law: Law, other: Law, size: int) -> Efficiency:
    """Compare two laws: structures that the other needs for the error of the first at a number of structures.

    Args:
        law: of the method, such as a transfer.
        other: of the one it is compared with, such as training from scratch.
        size: training structures of the first.
    """
    error = law.error(size)
    needed = other.size(error)
    count = min(len(law.draws), len(other.draws))
    drawn = _sizes(other.draws[:count], _errors(law.draws[:count], size)) / size
    tail = 0.5 - LEVEL / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail], method="nearest")
    return Efficiency(
        size=size,
        error=error,
        other=needed,
        ratio=needed / size,
        interval=(float(low), float(high)),
        reached=needed <= other.largest,
        least=other.largest / size,
    )
