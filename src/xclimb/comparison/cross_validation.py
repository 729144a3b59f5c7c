"""Cross-validation of elemental references over materials: kinds of references, and linear against quadratic terms."""

import math

import numpy as np

from xclimb.references.linear import Design, fit_fractions, least_squares
from xclimb.units import MEV_PER_EV

FOLDS = 5
MOST = 1200  # materials: more make the kernel of the quadratic control slow and change its verdict little
_FEWEST = 10
_OUTSIDE = 1e-6
_PENALTIES = np.logspace(-8, 2, 21)  # of the largest eigenvalue


def held_out_errors(
    design: Design, low: np.ndarray, high: np.ndarray, network: np.ndarray | None = None, seed: int = 0
) -> dict:
    """Mean absolute errors of the kinds of references on materials held out, five-fold, side by side.

    Every kind predicts the same held-out frames; materials with an element, or a proportion of elements, that the other
    folds do not determine are counted and left out. Of large sets ``MOST`` materials are drawn.

    Args:
        design: compositions of the pairs.
        low: low energies, eV/atom ``[P]``.
        high: high energies, eV/atom ``[P]``.
        network: a potential's energies without references, eV/atom ``[P]``, if the low level is one.
        seed: of the folds.

    Returns:
        ``errors``: kind -> meV/atom; ``mean`` (one constant shift), ``raw`` (references alone, nothing of the low level),
        ``refit`` (the network with raw references; only with ``network``), ``residual`` (low level, references fitted to what
        leaves), ``robust`` (the same by Huber's loss), ``quadratic`` (the control: residual references and a ridge
        fit of products of fractions to their residuals). ``n_materials``, ``n_frames``: held out and predicted;
        ``n_skipped``: materials; ``quadratic_gain``: share of the residual error that the control takes away. Empty below
        ten materials.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(design.n_materials)[:MOST]
    if len(drawn) < _FEWEST:
        return {}
    fold = np.full(design.n_materials, -1)
    fold[drawn] = np.arange(len(drawn)) % FOLDS
    errors: dict[str, list[np.ndarray]] = {}
    skipped = predicted = 0
    for f in range(FOLDS):
        train, test = _part(design, (fold >= 0) & (fold != f)), _part(design, fold == f)
        known = _predictable(train[0], test[0])
        skipped += test[0].n_materials - len(np.unique(test[0].material[known]))
        predicted += len(np.unique(test[0].material[known]))
        result = _fold_errors(train, test, low, high, network)
        for kind, error in result.items():
            errors.setdefault(kind, []).append(error[known[test[0].row]])
    joined = {kind: np.concatenate(parts) for kind, parts in errors.items()}
    mae = {kind: MEV_PER_EV * float(np.abs(each).mean()) if len(each) else math.nan for kind, each in joined.items()}
    gain = 1.0 - mae["quadratic"] / mae["residual"] if mae["residual"] > 0.0 else math.nan
    frames = len(joined["residual"])
    return {"errors": mae, "n_materials": predicted, "n_frames": frames, "n_skipped": skipped, "quadratic_gain": gain}


def _part(design: Design, chosen: np.ndarray) -> tuple[Design, np.ndarray]:
    """The design of some materials ``[M]`` (mask), and the indices of their frames."""
    rows = np.flatnonzero(chosen[design.material])
    frames = np.flatnonzero(chosen[design.material[design.row]])
    new_row = np.full(len(design.fractions), -1)
    new_row[rows] = np.arange(len(rows))
    _, material = np.unique(design.material[rows], return_inverse=True)
    return Design(design.elements, design.fractions[rows], new_row[design.row[frames]], material), frames


def _predictable(train: Design, test: Design) -> np.ndarray:
    """Rows of the test design whose composition the training rows determine."""
    span, _ = train.determined
    outside = test.fractions - (test.fractions @ span) @ span.T
    return np.linalg.norm(outside, axis=1) < _OUTSIDE


def _fold_errors(
    train: tuple[Design, np.ndarray],
    test: tuple[Design, np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    network: np.ndarray | None,
) -> dict[str, np.ndarray]:
    (fitted, here), (asked, there) = train, test
    change, wanted = (high - low)[here], (high - low)[there]

    def predict(values: np.ndarray) -> np.ndarray:
        return (asked.fractions @ values)[asked.row]

    raw, _ = least_squares(fitted, high[here])
    residual, left = least_squares(fitted, change)
    result = {"mean": wanted - change.mean(), "raw": high[there] - predict(raw)}
    if network is not None:
        result["refit"] = high[there] - network[there] - predict(raw)
    result["residual"] = wanted - predict(residual)
    result["robust"] = wanted - predict(fit_fractions(fitted, change, robust=True).values)
    means = np.bincount(fitted.row, left) / fitted.counts
    result["quadratic"] = result["residual"] - quadratic_ridge(fitted.fractions, means, asked.fractions)[asked.row]
    return result


def quadratic_ridge(fractions: np.ndarray, target: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Ridge regression on all products of two fractions, its penalty by generalised cross-validation.

    The kernel (x . x')^2 is the product features' inner product; as fractions sum to one it contains the linear terms.

    Args:
        fractions: of the training rows ``[n, K]``.
        target: eV/atom ``[n]``.
        wanted: fractions to predict ``[t, K]``.

    Returns:
        eV/atom ``[t]``.
    """
    values, vectors = np.linalg.eigh((fractions @ fractions.T) ** 2)
    values, along = np.maximum(values, 0.0), vectors.T @ target
    shrink = values / (values + _PENALTIES[:, None] * values[-1])  # [penalties, n]
    misfit = (((1.0 - shrink) * along) ** 2).sum(1)
    score = misfit / np.maximum(len(target) - shrink.sum(1), 1e-3 * len(target)) ** 2
    if float(target @ target) / len(target) ** 2 <= score.min():
        return np.zeros(len(wanted))
    penalty = _PENALTIES[int(score.argmin())] * values[-1]
    return (wanted @ fractions.T) ** 2 @ (vectors @ (along / (values + penalty)))


def z_trend(elements: np.ndarray, values: np.ndarray, determined: np.ndarray) -> float:
    """Pearson correlation of the elements' shifts with Z^2 over the determined elements; NaN for fewer than three."""
    z, shown = elements[determined].astype(np.float64), values[determined]
    if len(z) < 3 or shown.std() == 0.0:
        return math.nan
    return float(np.corrcoef(shown, z**2)[0, 1])
