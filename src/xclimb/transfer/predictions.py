"""Predictions for the validation and test frames before and after training: ``predictions.json`` of a run.

Bounded: of more frames a seeded sample, of their force and stress components another. Errors of the whole sets are in
``evaluation.json``.
"""

from typing import Any

import numpy as np

from xclimb.comparison.outliers import structure_of
from xclimb.data.frames import Frames
from xclimb.evaluation.absolute_errors import absolute_errors, errors_by_element, errors_by_frame
from xclimb.evaluation.metrics import HasLabels
from xclimb.references import AtomRef
from xclimb.transfer.audit import against_median
from xclimb.units import ev_a3_to_gpa

MOST_FRAMES = 2000
MOST_COMPONENTS = 3000  # of forces, and of stress
MOST_WORST = 12
_DIGITS = {"energy_per_atom": 5, "forces": 4, "stress": 3, "energy": 3, "magmom": 5}  # of eV, eV/Å, GPa, meV/atom, µB


def describe_predictions(
    before: HasLabels, after: HasLabels, references: AtomRef, sets: dict[str, Frames], seed: int
) -> dict[str, Any]:
    """The content of ``predictions.json``: a dictionary for each set, in its order.

    Args:
        before: the potential at step 0.
        after: the potential that was kept.
        references: of the potential that was kept.
        sets: name -> labelled frames.
        seed: of what is sampled.
    """
    return {name: _describe(before, after, references, frames, seed) for name, frames in sets.items()}


def _describe(before: HasLabels, after: HasLabels, references: AtomRef, frames: Frames, seed: int) -> dict[str, Any]:
    """One set.

    Returns:
        ``n_frames``: of the set; by sampled frame ``frame_id``, ``material_id``, ``formula``, ``n_atoms``,
        ``reference_energy`` (sum of the elemental references, eV/atom); ``reference`` and ``models`` with the labels of a
        sample as in a study's ``predictions.json`` (eV/atom, eV/Å, GPa); ``errors``: quantity -> mean absolute errors by
        frame, before and after, and the components behind them; ``elements``: the same by element; ``worst``: the frames
        that are furthest off, the worst first, with their structures.
    """
    rng = np.random.default_rng([seed, len(frames)])
    shown = frames
    if len(frames) > MOST_FRAMES:
        shown = frames[np.sort(rng.choice(len(frames), MOST_FRAMES, replace=False))]
    labelled = {"before": before.label(shown), "after": after.label(shown)}
    errors = {name: absolute_errors(predicted, shown) for name, predicted in labelled.items()}
    framewise = {name: errors_by_frame(each, shown) for name, each in errors.items()}
    elementwise = {name: errors_by_element(each, shown) for name, each in errors.items()}
    components = {name: _sample(_values(shown, name), rng) for name in ("forces", "stress")}
    return {
        "n_frames": len(frames),
        "frame_id": shown.frame_id,
        "material_id": shown.material_id,
        "formula": shown.formulas(),
        "n_atoms": shown.n_atoms,
        "reference_energy": np.round(references.energy(shown) / shown.n_atoms, 5),
        "reference": _labels(shown, components),
        "models": {name: _labels(predicted, components) for name, predicted in labelled.items()},
        "errors": {
            quantity: {name: _rounded(framewise[name][quantity][0], quantity) for name in labelled}
            | {"count": framewise["after"][quantity][1]}
            for quantity in framewise["after"]
        },
        "elements": {symbol: {name: elementwise[name][symbol] for name in labelled} for symbol in elementwise["after"]},
        "worst": _worst(shown, {quantity: values[0] for quantity, values in framewise["after"].items()}),
    }


def _values(frames: Frames, name: str) -> np.ndarray:
    return frames.forces.reshape(-1) if name == "forces" else ev_a3_to_gpa(frames.stress).reshape(-1)


def _sample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose the components that are stored: of those with a label, a seeded sample in their order."""
    known = np.flatnonzero(np.isfinite(labels))
    return np.sort(rng.choice(known, min(len(known), MOST_COMPONENTS), replace=False))


def _labels(frames: Frames, components: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    sampled = {name: _rounded(_values(frames, name)[chosen], name) for name, chosen in components.items()}
    return {"energy_per_atom": _rounded(frames.energy_per_atom, "energy_per_atom"), **sampled}


def _rounded(values: np.ndarray, name: str) -> np.ndarray:
    return np.round(values.astype(float), _DIGITS[name])


def _worst(frames: Frames, errors: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The frames whose energy or forces are furthest off, each in units of its median."""
    off = np.fmax(*(against_median(errors[name]) for name in ("energy", "forces")))
    rows = np.argsort(-np.nan_to_num(off, nan=-1.0), kind="stable")[:MOST_WORST]
    return [{"row": row, "structure": structure_of(frames, row)} for row in rows.tolist() if np.isfinite(off[row])]
