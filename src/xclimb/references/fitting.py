"""Fits of elemental reference energies to labelled frames."""

import math
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, ReferencesError, TheoryError, counted
from xclimb.references.informed import empty_design, informed_references
from xclimb.references.linear import Design, FractionFit, design_of, fit_fractions
from xclimb.references.prior import same_family
from xclimb.references.table import AtomRef, element_symbols, unknown_values, zero_counts
from xclimb.units import MEV_PER_EV

KINDS = ("informed", "raw", "residual", "robust")
DEFAULT_KIND = "informed"  # with a potential; without one only the energies themselves can be fitted
_RAW_BY_DEFAULT = (
    "Fitted to the energies themselves (raw), since no potential was given: fitted to what a potential's network leaves over, "
    "references predict other materials better."
)


@runtime_checkable
class HasInteraction(Protocol):
    """Protocol of a potential for a fit: its network's energies without references, and its references."""

    references: AtomRef

    def interaction_energy(self, frames: Frames) -> np.ndarray:
        """Energies of the network alone, eV ``[S]``."""


def fit_references(
    frames: FramesLike, potential: HasInteraction | None = None, kind: str | None = None, shifts: AtomRef | None = None
) -> AtomRef:
    """Fit elemental reference energies to labelled frames.

    Args:
        frames: structures with energies, or a list of ASE atoms; those without are left out and counted, isolated atoms too
            are left out.
        potential: whose network's energies are taken off first (``residual``, ``robust``), and whose references are kept for
            elements without data.
        kind: ``"raw"``: least squares of the energies per atom on composition fractions, no intercept (the paper's AtomRef).
            ``"residual"``: least squares on the residual of the potential's network; directions that the data do not determine
            stay at the potential's references. ``"robust"``: Huber's loss on the residual of the network, or on the energies
            if there is no potential; stands 10-20 % of wrong energies. ``"informed"``: Bayesian regression on what the
            potential's network leaves, with a prior over the periodic table (:mod:`xclimb.references.prior`): for few
            materials, elements without data and wrong energies; values, correlations and uncertainties for every element.
            None: :data:`DEFAULT_KIND` with a potential, ``"raw"`` without one, which a note of the references then says.
        shifts: of ``"informed"``: shifts of the elements of the user's own (eV, high - low), from elemental calculations or
            isolated atoms at both levels, as one more table that the evidence may choose.

    Every frame counts once in the values, as in the paper; a material in many frames counts more. The standard deviations
    treat the frames of one material (``material_id``) as correlated.

    Raises:
        ReferencesError: if no frame has an energy, or ``residual`` or ``informed`` is asked for without a potential.
        ConfigError: on an unknown kind.
    """
    frames = labelled_frames(frames, "frames")
    notes = () if kind is not None or potential is not None else (_RAW_BY_DEFAULT,)
    kind = kind or (DEFAULT_KIND if potential is not None else "raw")
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of references {kind!r}: choose one of {', '.join(KINDS)}")
    if kind in ("informed", "residual") and potential is None:
        raise ReferencesError(f"{kind} references fit what a potential leaves over: give potential=..., or use kind='raw'")
    usable = np.isfinite(frames.energy) & (frames.n_atoms > 0) & ~is_isolated_atom(frames)
    if not usable.any():
        raise ReferencesError(f"none of the {len(frames)} frames has an energy to fit references to: read labelled frames")
    used = frames if usable.all() else frames[usable]
    design = design_of(used)
    target, base = used.energy_per_atom, np.zeros(MAX_Z + 1)
    if potential is not None and kind != "raw":
        base = np.nan_to_num(potential.references.values)
        target = target - _interaction(potential, used) / used.n_atoms - (design.fractions @ base[design.elements])[design.row]
    if kind == "informed" and potential is not None:
        n_ignored = len(frames) - len(used)
        return informed_references(design, target, potential.references, frames.theory, shifts, n_ignored)
    fit = fit_fractions(design, target, robust=kind == "robust")
    refs = _collect(fit, design, base, kind, frames.theory, n_ignored=len(frames) - len(used))
    refs = replace(refs, notes=refs.notes + notes)
    return refs if potential is None else refs.merged_over(potential.references)


def prior_references(
    potential: HasInteraction, low: LevelOfTheory, high: LevelOfTheory, shifts: AtomRef | None = None
) -> AtomRef:
    """References of a potential at another level of theory, from the prior over the periodic table alone: without a frame.

    Args:
        potential: whose references are shifted.
        low: the level to shift them from, which must be that of the potential.
        high: the level to shift them to.
        shifts: as for :func:`fit_references`.

    Raises:
        TheoryError: if the potential is at another functional than ``low``.
    """
    own = potential.references.theory
    if low.functional is not None and not same_family(low.functional, own.functional):
        raise TheoryError(f"the potential is at {own.functional}, not at {low.functional}: give one that is, or its functional")
    return informed_references(empty_design(), np.zeros(0), potential.references, high, shifts)


def _interaction(potential: HasInteraction, frames: Frames) -> np.ndarray:
    energies = np.asarray(potential.interaction_energy(frames), dtype=np.float64)
    broken = np.flatnonzero(~np.isfinite(energies))
    if len(broken):
        raise ReferencesError(
            f"the potential gives no finite energy for {len(broken)} frames, first {frames.frame_id[broken[0]]}: leave them out"
        )
    return energies


def _collect(fit: FractionFit, design: Design, base: np.ndarray, kind: str, theory: LevelOfTheory, n_ignored: int) -> AtomRef:
    """A fit on the elements of the data -> AtomRef over all elements."""
    symbols = element_symbols()

    def spread(values: np.ndarray, blank: np.ndarray) -> np.ndarray:
        blank[fit.elements] = values
        return blank

    held = np.abs(fit.held_out[np.isfinite(fit.held_out)])
    return AtomRef(
        values=spread(base[fit.elements] + fit.values, unknown_values()),
        covered=spread(np.ones(len(fit.elements), dtype=bool), np.zeros(MAX_Z + 1, dtype=bool)),
        kind=kind,
        theory=theory,
        stds=spread(fit.stds, unknown_values()),
        undetermined=tuple(tuple(symbols[z] for z in group) for group in fit.undetermined),
        material_counts=spread(design.materials_with(), zero_counts()),
        frame_counts=spread(design.frames_with(), zero_counts()),
        n_frames=len(fit.residuals),
        n_materials=design.n_materials,
        n_ignored=n_ignored,
        fit_mae=MEV_PER_EV * float(np.abs(fit.residuals).mean()),
        fit_rmse=MEV_PER_EV * float(np.sqrt(np.mean(fit.residuals**2))),
        held_out_mae=MEV_PER_EV * float(held.mean()) if len(held) else math.nan,
        notes=tuple(_notes(fit, design, kind, n_ignored)),
    )


def _notes(fit: FractionFit, design: Design, kind: str, n_ignored: int) -> list[str]:
    symbols, notes = element_symbols(), []
    if n_ignored:
        notes.append(f"{n_ignored} of {n_ignored + len(fit.residuals)} frames carry no energy and were left out.")
    for group in fit.undetermined:
        names = ", ".join(symbols[z] for z in group)
        notes.append(
            f"{names} occur only in fixed proportions: combinations of their references are determined, not single ones."
        )
    alone = [symbols[z] for z, n in zip(design.elements, design.materials_with(), strict=True) if n == 1]
    if alone:
        notes.append(f"Resting on a single material: {', '.join(alone)}.")
    if fit.dof <= 0:
        notes.append("As many unknowns as materials: the fit is exact and no uncertainty can be stated.")
    if kind == "robust":
        far = int((fit.weights < 0.5).sum())
        notes.append(f"{far} of {len(fit.weights)} frames lie so far off that they count less than half.")
    elif stuck := len(np.unique(design.material[design.row[np.isnan(fit.held_out)]])):
        notes.append(f"{counted(stuck, 'material')} without which the fit fails, left out of the held-out error.")
    return notes
