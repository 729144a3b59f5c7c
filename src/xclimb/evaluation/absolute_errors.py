"""Absolute errors of predicted labels, by frame and by element, as arrays."""

import math

import numpy as np
from jaxtyping import Float, Int

from xclimb.data.frames import Frames
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

UNITS = {"energy": "meV/atom", "forces": "meV/Å", "stress": "GPa", "magmom": "µB"}
QUANTITIES = tuple(UNITS)


def absolute_errors(predicted: Frames, reference: Frames) -> dict[str, Float[np.ndarray, "_ _"]]:
    """Absolute errors of each quantity, a row a frame (energy, stress) or an atom (forces, magmom); NaN without a label.

    Energies in meV/atom, forces in meV/Å, stress in GPa, magnetic moments in µB, these of absolute values as in
    :func:`xclimb.evaluation.metrics.compare_labels`.
    """
    errors = {
        "energy": MEV_PER_EV * (predicted.energy - reference.energy) / reference.n_atoms,
        "forces": MEV_PER_EV * (predicted.forces - reference.forces),
        "stress": ev_a3_to_gpa(predicted.stress - reference.stress),
        "magmom": np.abs(predicted.magmoms) - np.abs(reference.magmoms),
    }
    components = {"energy": 1, "forces": 3, "stress": 9, "magmom": 1}
    return {name: np.abs(error).astype(float).reshape(-1, components[name]) for name, error in errors.items()}


def errors_by_frame(
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


def mean_error(values: Float[np.ndarray, " S"], counts: Int[np.ndarray, " S"]) -> float:
    """Mean absolute error over all components, from those of :func:`errors_by_frame`; NaN without labels."""
    known = counts > 0
    return float(np.average(values[known], weights=counts[known])) if known.any() else math.nan


def _means(errors: np.ndarray, group: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    known = np.isfinite(errors).sum(1)
    counts = np.bincount(group, known, count).astype(int)
    sums = np.bincount(group, np.nansum(errors, axis=1), count)
    return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0), counts


def errors_by_element(errors: dict[str, Float[np.ndarray, "_ _"]], frames: Frames) -> dict[str, dict[str, float]]:
    """Mean absolute errors by element: energies over the frames that contain it, forces and moments over its own atoms.

    Returns:
        symbol -> ``{"frames", "atoms", "energy", "forces", "magmom"}``, in the order of atomic numbers; NaN without labels.
    """
    symbols, rows = element_symbols(), {}
    for z in frames.elements.tolist():
        atoms = frames.numbers == z
        members = np.unique(frames.system[atoms])
        rows[symbols[z]] = {
            "frames": float(len(members)),
            "atoms": float(atoms.sum()),
            "energy": _mean(errors["energy"][members]),
            "forces": _mean(errors["forces"][atoms]),
            "magmom": _mean(errors["magmom"][atoms]),
        }
    return rows


def _mean(errors: np.ndarray) -> float:
    known = errors[np.isfinite(errors)]
    return float(known.mean()) if len(known) else math.nan
