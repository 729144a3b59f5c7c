"""Bayesian regression of element shifts on compositions: evidence over tables and widths, noise with heavy tails.

y = X (table + smooth + block + deviation) + noise, y the mean residual of each material (eV/atom), X its composition fractions.
With the prior covariance S = L L^T and the precision W of the noise, the evidence and the posterior need only the matrices
X^T W X [94, 94] and X^T W r [94] (Rasmussen and Williams, Gaussian Processes for Machine Learning, eq. 2.11 and 2.30), so a fit
to 240,000 frames costs as much as one to a hundred. Noise is Student's t with four degrees of freedom, by expectation
maximisation (Lange, Little and Taylor, J. Am. Stat. Assoc. 84, 881 (1989)): wrong energies lose their weight.
"""

from dataclasses import dataclass

import numpy as np

from xclimb.references.linear import Design, quadratic
from xclimb.references.prior import N_ELEMENTS, PriorMean, covariances, width_probability, widths

NU = 4.0  # degrees of freedom of the noise
TAIL = NU / (NU - 2.0)  # variance over squared scale
_NOISE = 0.01 * 1.6 ** np.arange(13)  # eV/atom, scale of the noise of materials: 0.01 to 2.8
_USUAL, _FACTOR = 0.06, 3.0  # its prior, log-normal: what is left between two functionals; one material tells nothing of it
_ITERATIONS = 20
_CONVERGED = 0.03  # largest change of a weight
_NEGLIGIBLE = 1e-3  # of the most probable model
_MAD_TO_SIGMA = 1.4826
_MEDIAN_VARIANCE = np.pi / 2.0  # of the median over that of the mean, normal errors


@dataclass(frozen=True, eq=False)
class Posterior:
    """Shifts of the elements given the data, averaged over tables, widths and noise by their probability.

    Args:
        mean: eV ``[94]``.
        covariance: eV^2 ``[94, 94]``.
        prior_variance: of each element before the data, under the same models, eV^2 ``[94]``.
        noise: standard deviation of a material's residual beyond its elements, eV/atom.
        tables: probability of each candidate.
        widths: posterior mean of the standard deviations of smooth part, blocks and deviations, eV.
        weights: weight of each row of the design, 1 for an ordinary one ``[R]``.
        held_out: residual of each row if it had not been in the fit of the most probable model, eV/atom ``[R]``.
    """

    mean: np.ndarray
    covariance: np.ndarray
    prior_variance: np.ndarray
    noise: float
    tables: dict[str, float]
    widths: tuple[float, float, float]
    weights: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True, eq=False)
class _Rows:
    """Data of the regression: a row a material and composition."""

    fractions: np.ndarray  # [R, 94]
    target: np.ndarray  # [R] eV/atom
    inside: np.ndarray  # [R] variance of the target by the spread of a material's frames


@dataclass(frozen=True, eq=False)
class _Family:
    """Candidates that share their covariances: all tables, or none."""

    means: list[PriorMean]
    covariances: np.ndarray  # [W, 94, 94]
    roots: np.ndarray  # [W, K, K] Cholesky factors, elements of the data only


@dataclass(frozen=True, eq=False)
class _Model:
    """One choice of table, widths and noise."""

    family: _Family
    mean: PriorMean
    width: int
    noise: float
    evidence: float


def posterior_shifts(design: Design, target: np.ndarray, means: list[PriorMean]) -> Posterior:
    """Posterior of the element shifts.

    Args:
        design: composition of each frame; a design of no frames gives the prior.
        target: eV/atom ``[N]``, of each frame.
        means: candidates of the prior mean, see :func:`xclimb.references.prior.prior_means`.
    """
    rows = _rows(design, target)
    families = [_family([one for one in means if one.is_table is table], design.elements) for table in (True, False)]
    weights, precision = np.ones(len(rows.target)), np.ones(len(rows.target))
    for _ in range(_ITERATIONS):
        average = _average(_models(rows, precision, families, design.elements), rows, weights, precision)
        if not len(weights):
            break
        residual = rows.target - rows.fractions @ average.mean
        scale = average.noise**2 / TAIL
        distance = (residual**2 + quadratic(rows.fractions, average.covariance)) / (scale + rows.inside)
        previous, weights = weights, (NU + 1.0) / (NU + distance)
        precision = weights / (1.0 + rows.inside / scale)
        if np.abs(weights - previous).max() < _CONVERGED:
            break
    return average


def _family(means: list[PriorMean], elements: np.ndarray) -> _Family:
    gaps = np.any([one.gaps for one in means], axis=0) if means else np.zeros(N_ELEMENTS, dtype=bool)
    prior = covariances(bool(means) and means[0].is_table, gaps)
    present = elements - 1
    return _Family(means, prior, np.linalg.cholesky(prior[:, present[:, None], present]))


def _rows(design: Design, target: np.ndarray) -> _Rows:
    """Median residual of each row, and the variance that frames of one material leave it."""
    n_rows = len(design.fractions)
    fractions = np.zeros((n_rows, N_ELEMENTS))
    fractions[:, design.elements - 1] = design.fractions
    if not n_rows:
        return _Rows(fractions, np.zeros(0), np.zeros(0))
    order, counts = np.lexsort((target, design.row)), design.counts.astype(np.int64)
    start = np.cumsum(counts) - counts
    median = (target[order[start + (counts - 1) // 2]] + target[order[start + counts // 2]]) / 2.0
    several = counts[design.row] > 2
    spread = np.abs(target - median[design.row])[several]
    sigma = _MAD_TO_SIGMA * float(np.median(spread)) if len(spread) else 0.0
    return _Rows(fractions, median, _MEDIAN_VARIANCE * sigma**2 / counts)


def _models(rows: _Rows, precision: np.ndarray, families: list[_Family], elements: np.ndarray) -> list[_Model]:
    """Log evidence of every combination of table, widths and noise.

    ``precision``: of each row, in units of 1 / noise^2 ``[R]``, so that one diagonalisation serves every noise.
    """
    models: list[_Model] = []
    fractions, noise = rows.fractions[:, elements - 1], _NOISE**2  # [R, K], [S]
    weighted = fractions * precision[:, None]  # [R, K]
    gram = weighted.T @ fractions  # [K, K]
    log_noise = float(np.log(precision).sum()) - len(precision) * np.log(noise)  # [S]
    log_noise = log_noise - (np.log(_NOISE / _USUAL) / np.log(_FACTOR)) ** 2  # twice the log of the prior
    for family in families:
        spectrum, vectors = np.linalg.eigh(family.roots.mT @ gram @ family.roots)  # [W, K], [W, K, K]
        spread = 1.0 + np.maximum(spectrum, 0.0)[..., None] / noise  # [W, K, S]
        log_det = np.log(spread).sum(1)  # [W, S]
        for mean in family.means:
            residual = rows.target - rows.fractions @ mean.values
            moment = vectors.mT @ (family.roots.mT @ (weighted.T @ residual))[..., None]  # [W, K, 1]
            fitted = (moment**2 / spread).sum(1) / noise**2  # [W, S]
            constant = log_noise - float(precision @ residual**2) / noise + 2.0 * np.log(mean.probability)
            evidence = 0.5 * (constant + fitted - log_det) + np.log(width_probability(mean.is_table))[:, None]  # [W, S]
            models += [
                _Model(family, mean, w, scale, value)
                for w, line in enumerate(evidence.tolist())
                for scale, value in zip(_NOISE.tolist(), line, strict=True)
            ]
    return models


def _average(models: list[_Model], rows: _Rows, weights: np.ndarray, precision: np.ndarray) -> Posterior:
    """Mean over the models by their probability; the covariance contains what they differ in."""
    evidence = np.array([model.evidence for model in models])
    probability = np.exp(evidence - evidence.max())
    tables: dict[str, float] = {}
    for model, share in zip(models, (probability / probability.sum()).tolist(), strict=True):
        tables[model.mean.name] = tables.get(model.mean.name, 0.0) + share
    chosen = np.flatnonzero(probability > _NEGLIGIBLE)
    likely, shares = [models[k] for k in chosen.tolist()], probability[chosen] / probability[chosen].sum()
    gram = (rows.fractions * precision[:, None]).T @ rows.fractions  # [94, 94]
    moments = {model.mean.name: _moment(model.mean, rows, precision) for model in likely}
    solved = [_solve(model, gram, moments[model.mean.name]) for model in likely]
    centres, spreads = (np.stack(values) for values in zip(*solved, strict=True))
    mean = shares @ centres  # [94]
    covariance = np.tensordot(shares, spreads, 1) + (shares[:, None] * (centres - mean)).T @ (centres - mean)
    scale = float(shares @ np.array([model.noise**2 for model in likely]))
    width = shares @ np.array([widths(model.mean.is_table)[model.width] for model in likely])
    prior = shares @ np.array([np.diag(model.family.covariances[model.width]) for model in likely])
    best = int(shares.argmax())
    leverage = quadratic(rows.fractions, spreads[best]) * precision / likely[best].noise ** 2
    held_out = (rows.target - rows.fractions @ centres[best]) / (1.0 - leverage)
    return Posterior(mean, covariance, prior, float(np.sqrt(TAIL * scale)), tables, tuple(width.tolist()), weights, held_out)


def _moment(mean: PriorMean, rows: _Rows, precision: np.ndarray) -> np.ndarray:
    """X^T W (y - X table) ``[94]``."""
    return rows.fractions.T @ (precision * (rows.target - rows.fractions @ mean.values))


def _solve(model: _Model, gram: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean ``[94]`` and covariance ``[94, 94]`` of one model."""
    prior = model.family.covariances[model.width]
    covariance = prior @ np.linalg.inv(np.eye(N_ELEMENTS) + (gram / model.noise**2) @ prior)
    return model.mean.values + covariance @ moment / model.noise**2, covariance
