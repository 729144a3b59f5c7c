"""Importance of elements for the difference of two functionals: a forest over compositions, checked by Shapley values.

Figure 1c-d of Huang et al., arXiv 2504.05565: importance of each element for the difference of formation energies, with and
without the Materials Project's corrections. Where elemental references are missing, references fitted to the difference stand
for them.
"""

from collections.abc import Callable

import numpy as np

from xclimb.comparison.corrections import NAME, inapplicable_reason, mp2020_corrections
from xclimb.comparison.elemental_references import ElementalReferences
from xclimb.comparison.paired_statistics import ranks
from xclimb.comparison.pairing import Pairs
from xclimb.comparison.stability import Compounds, compounds_of
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV

FEWEST = 30  # compounds
MOST = 1500  # more are drawn from: a correction takes some 3 ms, and a forest of these is as good a judge of elements
WORTH = 0.1  # R² on compounds held out, below which a ranking means little
_TREES = 100
_HELD_OUT = 0.2
_EXPLAINED = 200  # held-out compounds whose predictions are shared out
_DRAWS = 24


def element_importance(pairs: Pairs, elemental: ElementalReferences, seed: int = 0) -> dict:
    """Importance of each element for the difference of formation energies between the two levels, high minus low.

    Args:
        pairs: the pairs; every compound counts once.
        elemental: energies of the elements. Where fewer than 30 compounds have all of theirs, least-squares references of the
            difference stand for them, and ``target`` says so.
        seed: of the forest and of what is drawn.

    Returns:
        ``{"target", "plain", "corrected"}``: what is explained; the result without corrections, and with them: a dictionary of
        :func:`explain_difference`, or ``{"absent": reason}``. ``{"absent": reason}`` alone if there are too few compounds.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return {"absent": "element importance needs scikit-learn: pip install 'xclimb[analysis]'"}
    compounds = compounds_of(pairs)
    if len(compounds.first) < FEWEST:
        return {"absent": f"element importance needs {FEWEST} compounds; the pairs hold {len(compounds.first)}"}
    whole = ~((compounds.fractions > 0.0) & ~elemental.known[compounds.elements]).any(1)
    by_elements = int(whole.sum()) >= FEWEST
    rows = np.flatnonzero(whole) if by_elements else np.arange(len(whole))
    rng = np.random.default_rng(seed)
    rows = rng.permutation(rows)[:MOST]
    corrections, reason = _corrections(pairs, compounds, rows)
    step = elemental.high - elemental.low if by_elements else None
    inside = NAME if pairs.low.theory.corrections else None

    def explained(wanted: str | None) -> dict:
        if wanted == inside:
            change = np.zeros(len(rows))
        elif reason is not None:
            return {"absent": reason}
        else:
            change = corrections if wanted else -corrections
        return _explained(compounds, rows, compounds.high[rows] - compounds.low[rows] - change, step, seed)

    target = "difference of formation energies" if by_elements else "difference of energies after least-squares references"
    return {"target": target, "plain": explained(None), "corrected": explained(NAME)}


def _corrections(pairs: Pairs, compounds: Compounds, rows: np.ndarray) -> tuple[np.ndarray, str | None]:
    """MP2020 corrections of some compounds, eV/atom ``[n]``, or why there are none."""
    reason = inapplicable_reason(pairs.low.theory)
    asked = compounds.first[rows]
    if reason is None and not pairs.low.pbc[asked].all():
        reason = "MP2020 corrections are made for crystals; some frames are not periodic"
    if reason is not None:
        return np.zeros(0), reason
    corrections = mp2020_corrections(pairs.low[asked])
    if int(np.isfinite(corrections).sum()) < FEWEST:
        refused = int(np.isnan(corrections).sum())
        text = f"{refused} of {len(corrections)} compounds were refused, as the scheme expects other U values"
        return np.zeros(0), f"element importance needs {FEWEST} compounds with MP2020 corrections; {text}"
    return corrections, None


def _explained(compounds: Compounds, rows: np.ndarray, difference: np.ndarray, step: np.ndarray | None, seed: int) -> dict:
    """The difference without its elemental part, explained."""
    usable = np.isfinite(difference)
    fractions, difference = compounds.fractions[rows[usable]], difference[usable]
    there = np.flatnonzero((fractions > 0.0).any(0))
    fractions, elements = fractions[:, there], compounds.elements[there]
    steps = np.linalg.lstsq(fractions, difference, rcond=None)[0] if step is None else step[elements]
    result = explain_difference(elements, fractions, difference - fractions @ steps, seed)
    return result | {"n_refused": int((~usable).sum())}


def explain_difference(elements: np.ndarray, fractions: np.ndarray, target: np.ndarray, seed: int = 0) -> dict:
    """A random forest of a property over composition fractions, and how much each element matters to it.

    Args:
        elements: atomic numbers of the columns ``[K]``.
        fractions: composition fractions ``[R, K]``.
        target: eV/atom ``[R]``.
        seed: of the forest and of what is drawn.

    Returns:
        ``importance``: symbol -> share of the variance that splits on the element take away, summing to 1; ``shapley``:
        symbol -> mean absolute Shapley value on compounds held out, meV/atom (:func:`sampled_shapley`); ``agreement``: rank
        correlation of the two; ``held_out_r2``, ``held_out_mae`` (meV/atom), of the forest; ``n_compounds``.
    """
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(seed)
    _, group = np.unique(fractions.round(6), axis=0, return_inverse=True)  # one composition is on one side of the split
    group = group.reshape(-1)
    held = (rng.permutation(int(group.max()) + 1) < _HELD_OUT * (group.max() + 1))[group]
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=seed, n_jobs=1)
    forest.fit(fractions[~held], target[~held])
    error = target[held] - forest.predict(fractions[held])
    spread = float(np.mean((target[held] - target[~held].mean()) ** 2))
    asked = rng.permutation(np.flatnonzero(held))[:_EXPLAINED]
    shares, _ = sampled_shapley(forest.predict, fractions[asked], fractions[~held], _DRAWS, rng)
    importance, shapley = forest.feature_importances_, MEV_PER_EV * np.abs(shares).mean(0)
    symbols = element_symbols()
    names = [symbols[z] for z in elements]
    first, second = ranks(importance), ranks(shapley)
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return {
        "importance": dict(zip(names, importance.tolist(), strict=True)),
        "shapley": dict(zip(names, shapley.tolist(), strict=True)),
        "agreement": float(first @ second) / norm if norm > 0.0 else float("nan"),
        "held_out_r2": 1.0 - float(np.mean(error**2)) / spread if spread > 0.0 else float("nan"),
        "held_out_mae": MEV_PER_EV * float(np.abs(error).mean()),
        "n_compounds": len(target),
    }


def sampled_shapley(
    predict: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, background: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values by sampling: what each feature adds when a background row is turned into the row, in random order.

    For every row and draw another background row and another order are taken (Strumbelj and Kononenko, Knowl. Inf. Syst. 41,
    647 (2014)). Whatever the number of draws, the values of a row sum to its prediction minus that of its background rows.

    Args:
        predict: rows ``[N, K]`` -> values ``[N]``.
        rows: what is explained ``[n, K]``.
        background: rows that stand for not knowing a feature ``[b, K]``.
        draws: background rows for each row.
        rng: of the draws.

    Returns:
        Values ``[n, K]`` and the mean prediction of each row's background ``[n]``.
    """
    size, features = draws * len(rows), rows.shape[1]
    target, every = np.tile(rows, (draws, 1)), np.arange(size)
    point = background[rng.integers(0, len(background), size)].copy()
    differs = point != target
    order = np.argsort(np.where(differs, rng.random(target.shape), 2.0), axis=1)[:, : int(differs.sum(1).max(initial=0))]
    points = [point.copy()]
    for column in order.T:
        point[every, column] = target[every, column]
        points.append(point.copy())
    values = np.asarray(predict(np.concatenate(points))).reshape(len(points), size)
    shares = np.zeros(target.shape)
    shares[every[:, None], order] = np.diff(values, axis=0).T
    return shares.reshape(draws, len(rows), features).mean(0), values[0].reshape(draws, len(rows)).mean(0)
