"""Errors frame by frame and element by element, and intervals of the difference between two potentials on the same frames."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from xclimb.data.frames import Frames
from xclimb.references.influence import student
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

QUANTITIES = ("energy", "forces", "stress", "magmom")  # meV/atom, meV/Å, GPa, µB
FEWEST = 5  # materials: fewer do not give an interval


def absolute_errors(predicted: Frames, reference: Frames) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Absolute errors of each quantity, a row a frame (energy, stress) or an atom (forces, magmom); NaN without a label.

    Energies in meV/atom, forces in meV/Å, stress in GPa, magnetic moments in µB, these of absolute values as in
    :func:`xclimb.analysis.metrics.compare_labels`.
    """
    errors = {
        "energy": MEV_PER_EV * (predicted.energy - reference.energy) / reference.n_atoms,
        "forces": MEV_PER_EV * (predicted.forces - reference.forces),
        "stress": ev_a3_to_gpa(predicted.stress - reference.stress),
        "magmom": np.abs(predicted.magmoms) - np.abs(reference.magmoms),
    }
    components = {"energy": 1, "forces": 3, "stress": 9, "magmom": 1}
    return {name: np.abs(error).astype(float).reshape(-1, components[name]) for name, error in errors.items()}


def frame_errors(
    errors: dict[str, Float[np.ndarray, "_ _"]], frames: Frames
) -> dict[str, tuple[Float[np.ndarray, " S"], Int[np.ndarray, " S"]]]:
    """Mean absolute error of each frame (NaN without labels), and the number of components behind it, by quantity.

    Args:
        errors: of :func:`absolute_errors`.
        frames: the frames that they belong to.
    """
    every = np.arange(len(frames))
    return {
        name: _means(e, frames.system if name in ("forces", "magmom") else every, len(frames)) for name, e in errors.items()
    }


def _means(errors: np.ndarray, group: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(errors).sum(1)
    counts = np.bincount(group, known, count).astype(int)
    sums = np.bincount(group, np.nansum(errors, axis=1), count)
    return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0), counts


def element_errors(errors: dict[str, Float[np.ndarray, "_ _"]], frames: Frames) -> dict[str, dict[str, float]]:
    """Mean absolute errors by element: energies over the frames that contain it, forces and moments over its own atoms.

    Returns:
        symbol -> ``{"frames", "atoms", "energy", "forces", "magmom"}``, in the order of atomic numbers; NaN without labels.
    """
    symbols, found = element_symbols(), {}
    for z in frames.elements.tolist():
        atoms = frames.numbers == z
        members = np.unique(frames.system[atoms])
        found[symbols[z]] = {
            "frames": float(len(members)),
            "atoms": float(atoms.sum()),
            "energy": _mean(errors["energy"][members]),
            "forces": _mean(errors["forces"][atoms]),
            "magmom": _mean(errors["magmom"][atoms]),
        }
    return found


def _mean(errors: np.ndarray) -> float:
    known = errors[np.isfinite(errors)]
    return float(known.mean()) if len(known) else math.nan


def ratio_variance(
    values: Float[np.ndarray, " F"], weights: Float[np.ndarray, " F"], groups: Int[np.ndarray, " F"]
) -> tuple[float, float]:
    """Variance of a weighted mean over frames whose materials, not frames, are independent; and its degrees of freedom.

    The ratio estimator of cluster sampling (Cochran, Sampling Techniques, 1977, section 9A): M / (M - 1) times the sum of
    squares of the materials' residuals, over the squared sum of weights. NaN below five materials.

    Args:
        values: of each frame.
        weights: of each frame in the mean.
        groups: the material of each frame, 0 to M - 1.
    """
    count = len(np.unique(groups))
    total = float(weights.sum())
    if count < FEWEST or total <= 0.0:
        return math.nan, math.nan
    mean = float(weights @ values) / total
    residuals = np.bincount(groups, weights * (values - mean))
    return count / (count - 1) * float(residuals @ residuals) / total**2, float(count - 1)


def interval(centre: float, variances: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """95 % interval of an estimate whose variance has independent parts (Welch and Satterthwaite); NaN without any.

    Args:
        centre: the estimate.
        variances: each part with its degrees of freedom; a part that is NaN is unknown and left out.
    """
    known = [(variance, free) for variance, free in variances if math.isfinite(variance) and free > 0.0]
    total = sum(variance for variance, _ in known)
    if not known or not math.isfinite(centre):
        return math.nan, math.nan
    spent = sum(variance**2 / free for variance, free in known)
    half = math.sqrt(total) * float(student(np.array([total**2 / spent if spent > 0.0 else math.inf]))[0])
    return centre - half, centre + half


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
    _, groups = np.unique(groups[known], return_inverse=True)
    return interval(float(weights @ change / weights.sum()), [ratio_variance(change, weights, groups)])
