"""Errors frame by frame and element by element, and intervals of the difference between two potentials on the same frames."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from xclimb.analysis.intervals import bootstrap
from xclimb.data.frames import Frames
from xclimb.references.influence import student
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

QUANTITIES = ("energy", "forces", "stress", "magmom")  # meV/atom, meV/Å, GPa, µB


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


def material_interval(
    values: Float[np.ndarray, " F"], weights: Float[np.ndarray, " F"], groups: Int[np.ndarray, " F"]
) -> tuple[float, float]:
    """95 % interval of a weighted mean over frames of which the materials, not the frames, are independent.

    Materials are drawn with replacement (:func:`xclimb.analysis.intervals.bootstrap`); since a percentile interval of few of
    them is too narrow, both sides are widened by sqrt(M / (M - 1)) and by the quantile of Student's t over the normal one.
    NaN below five materials.

    Args:
        values: of each frame.
        weights: of each frame in the mean.
        groups: the material of each frame, 0 to M - 1.
    """
    found = bootstrap({"sum": weights * values, "weight": weights}, groups, lambda sums: {"mean": sums["sum"] / sums["weight"]})
    if "mean" not in found:
        return math.nan, math.nan
    count, centre = len(np.unique(groups)), float(weights @ values / weights.sum())
    wider = math.sqrt(count / (count - 1)) * _student(count - 1) / _student(math.inf)
    low, high = (centre + wider * (end - centre) for end in found["mean"])
    return low, high


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of independent values, by Student's t; NaN for fewer than two."""
    count = len(values)
    return _student(count - 1) * float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else math.nan


def _student(free: float | int) -> float:
    return float(student(np.array([float(free)]))[0])


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
