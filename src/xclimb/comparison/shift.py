"""Functional against functional: how two levels of theory differ on the same structures.

The shift of an energy is high minus low, per atom. Most of it is a sum over the atoms' elements (Huang et al., arXiv
2504.05565, figure 2); the residual once that is removed is what a transferred potential has to learn.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from xclimb.comparison.advice import give_advice
from xclimb.comparison.bulk import bulk_modulus
from xclimb.comparison.cross_validation import held_out_errors, z_trend
from xclimb.comparison.elemental_references import ElementalEnergies, resolve_elemental_references
from xclimb.comparison.families import family_table
from xclimb.comparison.importance import element_importance
from xclimb.comparison.intervals import bootstrap, widen_for_fit
from xclimb.comparison.label_statistics import label_statistics, measure_labels
from xclimb.comparison.labelled_pair import LabellingPotential, label_pair
from xclimb.comparison.outliers import outlier_structures
from xclimb.comparison.paired_statistics import Sums, energy_statistics, measure
from xclimb.comparison.pairing import Pairs, pair_frames
from xclimb.comparison.reference_rows import Source, reference_rows
from xclimb.comparison.shift_report import ShiftReport
from xclimb.comparison.stability import stability_of_pairs
from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import Frames
from xclimb.errors import TheoryError
from xclimb.references.influence import influence
from xclimb.references.linear import Design, FractionFit, design_of, fit_fractions, least_squares
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV

__all__ = ["LabellingPotential", "ShiftReport", "shift"]

_N_OUTLIERS = 10
_NAN = math.nan


def shift(
    low: FramesLike | LabellingPotential,
    high: FramesLike,
    by: str | None = None,
    source: LabellingPotential | None = None,
    ends_low: ElementalEnergies = None,
    ends_high: ElementalEnergies = None,
    progress: bool = False,
) -> ShiftReport:
    """Measure how the labels of two functionals differ.

    Args:
        low: frames of the lower functional (the one a potential was trained on), or a potential of it: its predictions for
            ``high`` are then the low level.
        high: frames of the higher functional.
        by: pair by ``"frame"``, ``"material"`` or ``"structure"``; by default frame ids if any agree, else material ids, else
            structures (:func:`xclimb.comparison.pairing.pair_frames`). By material, the frame of lowest energy stands for it on
            each level.
        source: a potential whose elemental references are set beside the fitted ones; ``low`` itself if that is one.
        ends_low: elemental references of formation energies, as in :func:`xclimb.stability`.
        ends_high: those of the high level.
        progress: show a bar while structures are matched.

    Forces and stress are compared for pairs of the same structure only.

    Raises:
        DataError: if nothing pairs.
        TheoryError: if both sets are stated to be at the same level of theory.
        ConfigError: on another ``by``, or elemental references that are none.
    """
    low, high = low if isinstance(low, LabellingPotential) else labelled_frames(low, "low"), labelled_frames(high, "high")
    beside = None if source is None else Source(_name_of(source), source.references)
    if low.theory.functional is not None and not low.theory.differences(high.theory):
        raise TheoryError(f"both sets are at {low.theory}: a shift needs two levels; state the other with functional=...")
    labelled = label_pair(low, high)
    pairs = pair_frames(labelled.low, labelled.high, by, progress)
    pairs = replace(pairs, notes=(*labelled.notes, *pairs.notes))
    potential = None if isinstance(low, Frames) else low
    elemental = resolve_elemental_references(labelled.low, labelled.high, ends_low, ends_high, potential)
    network = None
    if potential is not None:
        network = (pairs.low.energy - potential.references.energy(pairs.low)) / pairs.low.n_atoms
        beside = beside or Source(_name_of(potential), potential.references, predicted=True)
    report = measure_pairs(pairs, network, beside)
    report = replace(report, stability=stability_of_pairs(pairs, elemental), importance=element_importance(pairs, elemental))
    return replace(report, advice=give_advice(report))


def _name_of(potential: LabellingPotential) -> str:
    return getattr(potential, "name", "the potential")


def measure_pairs(pairs: Pairs, network: np.ndarray | None = None, source: Source | None = None) -> ShiftReport:
    """The numbers of paired frames, without advice, stability and importance.

    Args:
        pairs: the pairs.
        network: a potential's energies without references, eV/atom ``[P]``, if the low level is one.
        source: whose references stand beside the fitted ones.
    """
    x, y = pairs.low.energy_per_atom, pairs.high.energy_per_atom
    design = design_of(pairs.low)
    fit = fit_fractions(design, y - x)
    inner = least_squares(design, x)[1], least_squares(design, y)[1]
    sums = energy_statistics(x, y, inner, fit)
    offset = float(y.mean() - x.mean())
    labels, angles = label_statistics(pairs)
    totals = {name: column.sum(keepdims=True) for name, column in (sums | labels).items()}
    formula = pairs.low.formulas()
    bulk, n_bulk = bulk_modulus(pairs.high)
    return ShiftReport(
        theory_low=pairs.low.theory,
        theory_high=pairs.high.theory,
        paired_by=pairs.by,
        n_pairs=len(x),
        n_materials=design.n_materials,
        **_scalars(totals, offset),
        **_per_element(fit, design, pairs),
        **_counted(labels),
        bulk_modulus=bulk,
        n_bulk=n_bulk,
        force_angles=angles.tolist(),
        intervals=_intervals(sums, labels, design, offset),
        families=family_table(design, sums, offset),
        reference_depth=_depth(design, fit, x, y, network),
        reference_rows=reference_rows(design, fit, (x, y), source),
        outliers=_outliers(fit.residuals, pairs.low.frame_id, formula),
        structures=outlier_structures(pairs, fit.residuals),
        notes=(*pairs.notes, *_notes(pairs, design, fit)),
        frame_id=pairs.low.frame_id,
        material_id=pairs.low.material_id,
        formula=formula,
        low_energy_per_atom=x,
        high_energy_per_atom=y,
        low_referenced=inner[0],
        high_referenced=inner[1],
        shift_per_atom=y - x,
        left_over=MEV_PER_EV * fit.residuals,
    )


def _scalars(totals: Sums, offset: float) -> dict[str, Any]:
    return {name: float(value[0]) for name, value in (measure(totals, offset) | measure_labels(totals)).items()}


def _per_element(fit: FractionFit, design: Design, pairs: Pairs) -> dict:
    symbols = element_symbols()
    names = [symbols[z] for z in fit.elements]
    leverage = influence(design, fit)
    _, first = np.unique(pairs.low.material_id, return_index=True)
    owners = pairs.low.material_id[first][leverage.largest_material]
    columns = zip(
        design.materials_with(), design.frames_with(), leverage.effective, leverage.largest_share, owners.tolist(), strict=True
    )
    return {
        "elements": dict(zip(names, fit.values.tolist(), strict=True)),
        "element_std": dict(zip(names, fit.stds.tolist(), strict=True)),
        "element_intervals": dict(zip(names, zip(leverage.low.tolist(), leverage.high.tolist(), strict=True), strict=True)),
        "element_data": {
            name: {
                "materials": int(materials),
                "frames": int(frames),
                "effective_materials": float(effective),
                "largest_share": float(share),
                "largest_material": owner,
            }
            for name, (materials, frames, effective, share, owner) in zip(names, columns, strict=True)
        },
        "undetermined": tuple(tuple(symbols[z] for z in group) for group in fit.undetermined),
    }


def _counted(labels: Sums) -> dict[str, Any]:
    """Count the pairs, and atoms, that carry each label at both levels."""
    frames = {f"n_{name}": int((labels[f"{name}.n"] > 0).sum()) for name in ("forces", "stress")}
    return frames | {"n_magmoms": int(labels["magmom.n"].sum())}


def _intervals(sums: Sums, labels: Sums, design: Design, offset: float) -> dict[str, tuple[float, float]]:
    present = {name: column for name, column in labels.items() if labels[f"{name.split('.')[0]}.n"].any()}
    blank = {name: np.zeros(1) for name in labels if name not in present}

    def numbers(totals: Sums) -> Sums:
        return measure(totals, offset) | measure_labels(totals | blank)

    drawn = bootstrap(sums | present, design.material[design.row], numbers)
    centre = measure({name: column.sum(keepdims=True) for name, column in sums.items()}, offset)
    return widen_for_fit(drawn, centre, design.n_materials, len(design.elements))


def _depth(design: Design, fit: FractionFit, x: np.ndarray, y: np.ndarray, network: np.ndarray | None) -> dict:
    trend = z_trend(fit.elements, fit.values, np.isfinite(fit.stds))
    return held_out_errors(design, x, y, network) | {"z_squared": trend}


def _outliers(left_over: np.ndarray, frame_id: np.ndarray, formula: np.ndarray) -> list[dict]:
    order = np.argsort(-np.abs(left_over), kind="stable")[:_N_OUTLIERS]
    return [
        {"frame_id": str(frame_id[p]), "formula": str(formula[p]), "left_over": MEV_PER_EV * float(left_over[p])} for p in order
    ]


def _notes(pairs: Pairs, design: Design, fit: FractionFit) -> list[str]:
    symbols = element_symbols()
    notes = [
        f"{', '.join(symbols[z] for z in group)} occur only in fixed proportions: their single shifts are undetermined."
        for group in fit.undetermined
    ]
    if fit.dof <= 0:
        notes.append(
            f"{design.n_materials} materials for {len(fit.elements)} elements: the elemental fit is exact and proves nothing."
        )
    if moved := int((~pairs.same_structure).sum()):
        notes.append(
            f"{moved} of {len(pairs.low)} pairs differ in cell or positions: their forces and stress are not compared."
        )
    return notes
