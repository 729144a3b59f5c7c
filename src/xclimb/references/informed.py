"""Informed references: what the periodic table says of the shift between two functionals, and what the data add."""

import math
from typing import Any

import numpy as np

from xclimb.data.frames import MAX_Z
from xclimb.data.theory import LevelOfTheory
from xclimb.references.linear import Design
from xclimb.references.prior import N_ELEMENTS, PriorMean, prior_means
from xclimb.references.regression import Posterior, posterior_shifts
from xclimb.references.table import AtomRef, ReferencePosterior, element_symbols, unknown_values, zero_counts
from xclimb.units import MEV_PER_EV

_NAMED = 0.05  # probability from which a table is named
_FAR = 0.25  # weight below which a material counts as an outlier


def informed_references(
    design: Design, target: np.ndarray, source: AtomRef, high: LevelOfTheory, shifts: AtomRef | None = None, n_ignored: int = 0
) -> AtomRef:
    """References of a potential shifted to another level of theory.

    Args:
        design: composition of each frame; of no frames, the prior alone speaks.
        target: residual of each frame by the potential with ``source``, eV/atom ``[N]``.
        source: references of the potential.
        high: level of theory of the frames.
        shifts: shifts of the elements ``high - low`` of the user's own, eV, as one more candidate of the prior mean.
        n_ignored: frames that were left out since they carry no energy.
    """
    means = prior_means(source.theory, high, shifts)
    if not len(target) and len(means) > 1:  # nothing could tell that the tables are of another code
        means = [mean for mean in means if mean.is_table]
    posterior = posterior_shifts(design, target, means)
    base = source.values[1 : N_ELEMENTS + 1]
    covered = np.zeros(MAX_Z + 1, dtype=bool)
    covered[design.elements] = True
    # an element that the source does not know has no value to shift, unless data determine it
    values = np.where(np.isnan(base) & ~covered[1 : N_ELEMENTS + 1], np.nan, np.nan_to_num(base) + posterior.mean)
    residual = target - (design.fractions @ posterior.mean[design.elements - 1])[design.row]
    held = np.abs(posterior.held_out[design.row] + residual - _row_means(design, residual)) if len(target) else residual
    return AtomRef(
        values=_by_z(values),
        covered=covered,
        kind="informed",
        theory=high,
        stds=_by_z(np.where(np.isnan(values), np.nan, np.sqrt(np.diag(posterior.covariance)))),
        material_counts=_counts(design, "materials_with"),
        frame_counts=_counts(design, "frames_with"),
        n_frames=len(target),
        n_materials=design.n_materials if len(target) else 0,
        n_ignored=n_ignored,
        fit_mae=MEV_PER_EV * float(np.abs(residual).mean()) if len(target) else math.nan,
        fit_rmse=MEV_PER_EV * float(np.sqrt(np.mean(residual**2))) if len(target) else math.nan,
        held_out_mae=MEV_PER_EV * float(held.mean()) if len(target) else math.nan,
        notes=tuple(_notes(posterior, means, covered, n_ignored, len(target) + n_ignored)),
        posterior=_described(posterior),
    )


def empty_design() -> Design:
    """A design of no frames."""
    none = np.zeros(0, dtype=np.int64)
    return Design(none, np.zeros((0, 0)), none, none)


def _row_means(design: Design, values: np.ndarray) -> np.ndarray:
    return (np.bincount(design.row, values, len(design.fractions)) / design.counts)[design.row]


def _by_z(values: np.ndarray) -> np.ndarray:
    """Values of H to Pu ``[94]`` -> by atomic number ``[119]``."""
    out = unknown_values()
    out[1 : N_ELEMENTS + 1] = values
    return out


def _counts(design: Design, name: str) -> np.ndarray:
    out = zero_counts()
    if len(design.elements):
        out[design.elements] = getattr(design, name)()
    return out


def _described(posterior: Posterior) -> ReferencePosterior:
    covariance: np.ndarray = np.full((MAX_Z + 1, MAX_Z + 1), np.nan)
    covariance[1 : N_ELEMENTS + 1, 1 : N_ELEMENTS + 1] = posterior.covariance
    share = np.clip(np.diag(posterior.covariance) / posterior.prior_variance, 0.0, 1.0)
    names = ("smooth", "block", "deviation")
    widths: dict[str, Any] = dict(zip(names, posterior.widths, strict=True))
    return ReferencePosterior(covariance, posterior.noise, posterior.tables, widths, _by_z(share))


def _notes(posterior: Posterior, means: list[PriorMean], covered: np.ndarray, n_ignored: int, n_all: int) -> list[str]:
    symbols, notes = element_symbols(), []
    if n_ignored:
        notes.append(f"{n_ignored} of {n_all} frames carry no energy and were left out.")
    origins = {mean.name: mean for mean in means}
    ranked = sorted(posterior.tables.items(), key=lambda item: -item[1])
    chosen = ", ".join(f"{name} ({share:.0%})" for name, share in ranked if share >= _NAMED)
    made = origins[ranked[0][0]]
    provenance = f"; {made.name}: {made.origin}, by {made.code}" if made.origin else ""
    if len(posterior.weights):
        notes.append(f"The evidence of the data chose as prior: {chosen}{provenance}.")
    else:
        notes.append(f"No data: the prior alone, {chosen}{provenance}; uncertainties hold for calculations by that code.")
    missing = [symbols[z] for z in range(1, N_ELEMENTS + 1) if not covered[z]]
    if missing and len(posterior.weights):
        notes.append(f"No data for {', '.join(missing)}: values and uncertainties are the prior's and the neighbours'.")
    far = int((posterior.weights < _FAR).sum())
    if far:
        verb = "material lies" if far == 1 else "materials lie"
        notes.append(f"{far} {verb} so far off that they count less than a quarter.")
    return notes
