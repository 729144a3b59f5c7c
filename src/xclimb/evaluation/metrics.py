"""Errors of predicted labels: energy, forces, stress and magnetic moments, in the units people quote."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import LABELS, Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.references.linear import design_of, fit_fractions
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa


@runtime_checkable
class HasLabels(Protocol):
    """Protocol of a potential for an evaluation: labels for frames, and their level of theory."""

    theory: LevelOfTheory

    def label(self, frames: Frames) -> Frames:
        """The same structures with predictions as labels."""


@dataclass(frozen=True)
class Metrics:
    """Mean absolute and root mean square errors; NaN where there were no labels to compare with.

    Args:
        energy_mae: meV/atom, over frames.
        energy_rmse: meV/atom.
        energy_means_mae: meV/atom, of the mean energy of each material, over materials: references and composition.
        energy_within_mae: meV/atom, of energies against the mean of their material, over frames of materials with several:
            the differences that a simulation feels; NaN where every material has one frame.
        forces_mae: meV/Å, over all Cartesian components.
        forces_rmse: meV/Å.
        stress_mae: GPa, over all nine components.
        stress_rmse: GPa.
        magmom_mae: µB, over atoms, of absolute values (an overall flip of the spins is no error).
        magmom_rmse: µB.
        n_frames: frames given.
        n_atoms: atoms given.
        n_energy: frames whose energy was compared.
        n_forces: atoms whose forces were compared.
        n_stress: frames whose stress was compared.
        n_magmoms: atoms whose magnetic moment was compared.
        notes: remarks on these numbers, a sentence each.
    """

    energy_mae: float
    energy_rmse: float
    forces_mae: float
    forces_rmse: float
    stress_mae: float
    stress_rmse: float
    magmom_mae: float
    magmom_rmse: float
    n_frames: int
    n_atoms: int
    n_energy: int
    n_forces: int
    n_stress: int
    n_magmoms: int
    energy_means_mae: float = math.nan
    energy_within_mae: float = math.nan
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Metrics({self})"

    def __str__(self) -> str:
        return (
            f"energy {self.energy_mae:.1f} meV/atom, forces {self.forces_mae:.1f} meV/Å, stress {self.stress_mae:.3f} GPa, "
            f"magmom {self.magmom_mae:.3f} µB ({_count(self.n_frames, 'frame')}, {_count(self.n_atoms, 'atom')})"
        )

    def to_dict(self) -> dict:
        """Dictionary for JSON; NaN becomes null."""
        fields = asdict(self) | {"notes": list(self.notes)}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
        }

    @classmethod
    def from_dict(cls, fields: dict) -> "Metrics":
        """The inverse of :meth:`to_dict`."""
        numbers: dict[str, Any] = {
            name: math.nan if value is None else value for name, value in fields.items() if name != "notes"
        }
        return cls(**numbers, notes=tuple(fields.get("notes", ())))


def evaluate(pot: HasLabels, frames: FramesLike, *, fit_references: bool = False) -> Metrics:
    """Errors of a potential on labelled frames; frame by frame, see :func:`xclimb.frame_errors`.

    Args:
        pot: the potential.
        frames: structures with labels, or a list of ASE atoms; missing ones (NaN) are left out, label by label.
        fit_references: compare energies after elemental references are fitted to the residual of the potential, those of each
            frame to the other materials (leave one material out), so that no energy helps to predict itself.

    Raises:
        DataError: if there are no frames, or none has a label.
    """
    frames = labelled_frames(frames, "frames")
    predicted, notes = predict_labels(pot, frames, fit_references)
    return compare_labels(predicted, frames, notes)


def predict_labels(pot: HasLabels, frames: Frames, fit_references: bool = False) -> tuple[Frames, tuple[str, ...]]:
    """Predicted labels to compare with those of the frames, and notes on the comparison; as for :func:`evaluate`."""
    _require_labels(frames)
    notes = []
    if frames.theory.functional is None and pot.theory.functional is not None:
        detail = f"that of the potential is {pot.theory.functional}"
        notes.append(
            f"The functional of the labels is not known, {detail}: name it with functional=... to be told how they differ."
        )
    elif differences := pot.theory.differences(frames.theory):
        detail = "; ".join(
            f"{name}: {mine or 'none'} against {theirs or 'none'}" for name, (mine, theirs) in differences.items()
        )
        contained = "errors of forces, stress and moments contain" if fit_references else "errors contain"
        notes.append(f"The potential and the labels are at different levels of theory ({detail}): {contained} that difference.")
    predicted = pot.label(frames)
    if fit_references:
        energy, note = _refitted(predicted, frames)
        predicted, notes = predicted.replace(energy=energy), [*notes, note]
    return predicted, tuple(notes)


def _refitted(predicted: Frames, frames: Frames) -> tuple[np.ndarray, str]:
    """Energies with references fitted to the labels of all other materials, eV ``[S]``; NaN where these do not suffice."""
    energy = np.full(len(frames), np.nan)
    usable = np.flatnonzero(np.isfinite(frames.energy) & np.isfinite(predicted.energy) & (frames.n_atoms > 0))
    if not len(usable):
        return energy, "No frame has an energy to fit references to."
    some = frames[usable]
    fit = fit_fractions(design_of(some), (some.energy - predicted.energy[usable]) / some.n_atoms)
    spared = np.isfinite(fit.held_out)
    materials = len(np.unique(some.material_id))
    if not spared.any():
        energy[usable] = some.energy - fit.residuals * some.n_atoms
        return energy, (
            f"References were fitted to the very frames that are compared, since {_count(materials, 'material')} cannot be "
            "predicted from each other: the energy errors are those of a fit, and too small for new materials."
        )
    energy[usable[spared]] = (some.energy - fit.held_out * some.n_atoms)[spared]
    note = f"Energies are compared with residual references fitted to the other materials (each of {materials} left out once)"
    left_out = int((~spared).sum())
    without = f"; {_count(left_out, 'frame')} whose elements occur in no other material left out" if left_out else ""
    return energy, f"{note}{without}."


def _count(value: int, noun: str) -> str:
    return f"{value} {noun}{'' if value == 1 else 's'}"


def compare_labels(predicted: Frames, reference: Frames, notes: tuple[str, ...] = ()) -> Metrics:
    """Errors of one set of labels against another, over the labels that are finite in both.

    A label without a prediction is left out and reported in ``notes``.

    Args:
        predicted: frames with predicted labels.
        reference: the same structures, in the same order, with the labels to compare with.
        notes: sentences to put before those added here.

    Raises:
        DataError: if there are no frames, none has a label, or the structures are not the same.
    """
    _require_labels(reference)
    _require_same_structures(predicted, reference)
    n_atoms = reference.n_atoms
    pairs = {
        "energy": (predicted.energy / n_atoms * MEV_PER_EV, reference.energy / n_atoms * MEV_PER_EV),
        "forces": (predicted.forces * MEV_PER_EV, reference.forces * MEV_PER_EV),
        "stress": (ev_a3_to_gpa(predicted.stress), ev_a3_to_gpa(reference.stress)),
        "magmoms": (np.abs(predicted.magmoms), np.abs(reference.magmoms)),
    }
    errors: dict[str, Any] = {}
    messages = list(notes)
    for label, (value, truth) in pairs.items():
        name = "magmom" if label == "magmoms" else label
        labelled, compared = np.isfinite(truth), np.isfinite(truth) & np.isfinite(value)
        error = (value - truth)[compared]
        errors[f"{name}_mae"] = float(np.abs(error).mean()) if len(error) else math.nan
        errors[f"{name}_rmse"] = float(np.sqrt(np.mean(error**2))) if len(error) else math.nan
        errors[f"n_{label}"] = _rows(compared)
        if missing := _rows(labelled & ~compared):
            messages.append(
                f"{missing} of {_rows(labelled)} labelled rows of {label} have no finite prediction and are left out."
            )
    errors |= _by_material(predicted, reference)
    return Metrics(**errors, n_frames=len(reference), n_atoms=reference.total_atoms, notes=tuple(messages))


def _by_material(predicted: Frames, reference: Frames) -> dict[str, float]:
    """Energy errors of the means of materials and within them, meV/atom."""
    error = MEV_PER_EV * (predicted.energy - reference.energy) / np.maximum(reference.n_atoms, 1)
    known = np.isfinite(error)
    if not known.any():
        return {}
    error = error[known]
    _, material, counts = np.unique(reference.material_id[known], return_inverse=True, return_counts=True)
    means = np.bincount(material, error) / counts
    within = np.abs(error - means[material])[counts[material] > 1]
    return {
        "energy_means_mae": float(np.abs(means).mean()),
        "energy_within_mae": float(within.mean()) if len(within) else math.nan,
    }


def _rows(mask: np.ndarray) -> int:
    """Rows (frames or atoms) with at least one component set."""
    return int(mask.reshape(len(mask), -1).any(axis=1).sum())


def _require_labels(frames: Frames) -> None:
    if not len(frames):
        raise DataError("no frames to evaluate on: the set is empty")
    if not any(frames.has(label) for label in LABELS):
        raise DataError(f"none of the {len(frames)} frames has a label to compare with: read frames with energies or forces")


def _require_same_structures(predicted: Frames, reference: Frames) -> None:
    if not np.array_equal(predicted.offsets, reference.offsets) or not np.array_equal(predicted.numbers, reference.numbers):
        raise DataError(
            f"predicted labels of {predicted!r} do not belong to the structures of {reference!r}: "
            "give the same frames in the same order"
        )
