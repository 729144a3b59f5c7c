"""Functional against functional: how two levels of theory differ on the same structures.

The shift of an energy is high minus low, per atom. Most of it is a sum over the atoms' elements (Huang et al., arXiv
2504.05565, figure 2); what is left over once that is removed is what a transferred potential has to learn.
"""

import math
from dataclasses import dataclass, field, fields

import numpy as np

from xclimb.analysis.pairing import Pairs, pair_frames
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import TheoryError
from xclimb.references.linear import Design, FractionFit, build_design, fit_fractions
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

_N_OUTLIERS = 10
_NAN = math.nan


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """How two functionals differ on paired frames; every difference is high minus low. NaN where there are no labels.

    Args:
        theory_low: level of theory of the first set.
        theory_high: level of theory of the second set.
        paired_by: ``"frame_id"`` or ``"material_id"``.
        n_pairs: pairs with energies, P.
        n_materials: materials among them.
        mean: mean shift, eV/atom.
        std: standard deviation of the shift (population), eV/atom.
        elements: least-squares shift of each element, eV; minimum norm where the data do not determine it.
        element_std: its standard deviation, eV (one error a material); inf where undetermined.
        undetermined: groups of elements that occur only in fixed proportions.
        pearson_raw: correlation of the energies per atom.
        pearson_referenced: the same after a least-squares fit per element is removed on each side.
        spearman_raw: rank correlation of the energies per atom.
        spearman_referenced: rank correlation after the per-element fits.
        left_over_mae: mean absolute shift left by its per-element fit, meV/atom.
        left_over_rmse: root mean square of the same, meV/atom.
        held_out_mae: mean absolute left-over of frames whose material was left out of the fit, meV/atom.
        explained: share of the shift's variance that the per-element fit explains.
        volume_change: mean relative change of the volume per atom; 0 for frames of the same structure.
        n_forces: pairs of the same structure with forces on both sides.
        forces_low: mean absolute force component of the first set, eV/Å (what papers quote as mean |F|).
        forces_high: the same of the second set, eV/Å.
        forces_mae: mean absolute difference of force components, eV/Å.
        force_norm_low: mean length of the force vectors of the first set, eV/Å.
        force_norm_high: the same of the second set, eV/Å.
        force_norm_difference: mean length of the difference vectors, eV/Å.
        forces_pearson: correlation of the force components.
        forces_cosine: cosine between the two sets of forces, taken as one long vector each.
        forces_slope: least-squares slope of high against low force components; above 1 the high functional is stiffer.
        n_stress: pairs of the same structure with stress on both sides.
        stress_mae: mean absolute difference of the nine stress components, GPa.
        stress_pearson: correlation of the stress components.
        n_magmoms: atoms with magnetic moments on both sides.
        magmom_mae: mean absolute difference of absolute magnetic moments, µB.
        outliers: the pairs with the largest left-over: ``{"frame_id", "formula", "left_over"}``, meV/atom.
        notes: what a reader of these numbers should know, a sentence each.
        frame_id: names of the pairs (of the first set's frames) ``[P]``.
        material_id: their materials ``[P]``.
        formula: their reduced formulas ``[P]``.
        low_energy_per_atom: eV/atom ``[P]``.
        high_energy_per_atom: eV/atom ``[P]``.
        low_referenced: the same without the per-element fit, eV/atom ``[P]``.
        high_referenced: the same without the per-element fit, eV/atom ``[P]``.
        shift_per_atom: eV/atom ``[P]``.
        left_over: shift without its per-element fit, meV/atom ``[P]``.
    """

    theory_low: LevelOfTheory
    theory_high: LevelOfTheory
    paired_by: str
    n_pairs: int
    n_materials: int
    mean: float
    std: float
    elements: dict[str, float]
    element_std: dict[str, float]
    undetermined: tuple[tuple[str, ...], ...]
    pearson_raw: float
    pearson_referenced: float
    spearman_raw: float
    spearman_referenced: float
    left_over_mae: float
    left_over_rmse: float
    held_out_mae: float
    explained: float
    volume_change: float
    frame_id: np.ndarray
    material_id: np.ndarray
    formula: np.ndarray
    low_energy_per_atom: np.ndarray
    high_energy_per_atom: np.ndarray
    low_referenced: np.ndarray
    high_referenced: np.ndarray
    shift_per_atom: np.ndarray
    left_over: np.ndarray
    outliers: list[dict] = field(default_factory=list)
    n_forces: int = 0
    forces_low: float = _NAN
    forces_high: float = _NAN
    forces_mae: float = _NAN
    force_norm_low: float = _NAN
    force_norm_high: float = _NAN
    force_norm_difference: float = _NAN
    forces_pearson: float = _NAN
    forces_cosine: float = _NAN
    forces_slope: float = _NAN
    n_stress: int = 0
    stress_mae: float = _NAN
    stress_pearson: float = _NAN
    n_magmoms: int = 0
    magmom_mae: float = _NAN
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Plain dictionary for JSON; numbers that are not finite become null."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_dict(cls, report: dict) -> "ShiftReport":
        """The inverse of :meth:`to_dict`."""
        values = dict(report)
        for one in fields(cls):
            if one.type is float:
                values[one.name] = _NAN if values[one.name] is None else float(values[one.name])
            elif one.type is np.ndarray:
                values[one.name] = np.array(values[one.name])
        values["undetermined"] = tuple(tuple(group) for group in values["undetermined"])
        grouped = {symbol for group in values["undetermined"] for symbol in group}
        blank = {symbol: math.inf if symbol in grouped else _NAN for symbol in values["elements"]}
        values["element_std"] = {symbol: blank[symbol] if std is None else std for symbol, std in values["element_std"].items()}
        values["theory_low"] = LevelOfTheory.from_dict(values["theory_low"])
        values["theory_high"] = LevelOfTheory.from_dict(values["theory_high"])
        return cls(**values | {"notes": tuple(values["notes"])})

    def summary(self) -> list[str]:
        """The report in plain lines for a terminal."""
        largest = sorted(self.elements.items(), key=lambda pair: -abs(pair[1]))[:5]
        counted = f"{self.n_pairs} pairs ({self.n_materials} materials) by {self.paired_by}"
        lines = [
            f"{self.theory_high} minus {self.theory_low}, {counted}",
            f"energy shift {self.mean:+.3f} eV/atom, spread {self.std:.3f}",
            f"correlation of energies {self.pearson_raw:.3f}, with elemental references removed {self.pearson_referenced:.4f}",
            f"left over of the shift {self.left_over_mae:.1f} meV/atom (materials left out: {self.held_out_mae:.1f}); "
            f"{100 * self.explained:.2f} % of its variance is elemental",
            "largest elemental shifts " + ", ".join(f"{symbol} {value:+.2f}" for symbol, value in largest) + " eV",
        ]
        if self.n_forces:
            told = f"mean component {self.forces_high:.3f} eV/Å, difference {self.forces_mae:.4f}, r {self.forces_pearson:.4f}"
            lines.append(f"forces: {told}")
        if self.n_stress:
            lines.append(f"stress: difference {self.stress_mae:.2f} GPa, r {self.stress_pearson:.4f}")
        if self.n_magmoms:
            lines.append(f"magnetic moments: difference {self.magmom_mae:.3f} µB")
        if abs(self.volume_change) > 1e-4:
            lines.append(f"volume change {100 * self.volume_change:+.2f} %")
        if self.outliers:
            first = self.outliers[0]
            lines.append(f"furthest off: {first['frame_id']} ({first['formula']}) {first['left_over']:+.0f} meV/atom")
        return lines + list(self.notes)


def shift(low: Frames, high: Frames, by: str | None = None) -> ShiftReport:
    """Measure how the labels of two functionals differ.

    Args:
        low: frames of the lower functional (the one a potential was trained on).
        high: frames of the higher functional.
        by: pair by ``"frame_id"`` or ``"material_id"``; by default frame ids if any agree. By material, the frame of lowest
            energy stands for it on each side.

    Forces and stress are compared for pairs of the same structure only.

    Raises:
        DataError: if nothing pairs.
        TheoryError: if both sets are stated to be at the same level of theory.
        ConfigError: on another ``by``.
    """
    if low.theory.functional is not None and not low.theory.differences(high.theory):
        raise TheoryError(f"both sets are at {low.theory}: a shift needs two levels; state the other with functional=...")
    pairs = pair_frames(low, high, by)
    x, y = pairs.low.energy_per_atom, pairs.high.energy_per_atom
    design = build_design(pairs.low.composition(), pairs.low.material_id)
    fit = fit_fractions(design, y - x)
    inner_x, inner_y = fit_fractions(design, x).residuals, fit_fractions(design, y).residuals
    formula = pairs.low.formulas()
    return ShiftReport(
        theory_low=low.theory,
        theory_high=high.theory,
        paired_by=pairs.by,
        n_pairs=len(x),
        n_materials=design.n_materials,
        mean=float(np.mean(y - x)),
        std=float(np.std(y - x)),
        **_per_element(fit, y - x),
        pearson_raw=_pearson(x, y),
        pearson_referenced=_pearson(inner_x, inner_y),
        spearman_raw=_pearson(_ranks(x), _ranks(y)),
        spearman_referenced=_pearson(_ranks(inner_x), _ranks(inner_y)),
        volume_change=_volume_change(pairs),
        **_derivatives(pairs),
        outliers=_outliers(fit.residuals, pairs.low.frame_id, formula),
        notes=(*pairs.notes, *_notes(pairs, design, fit)),
        frame_id=pairs.low.frame_id,
        material_id=pairs.low.material_id,
        formula=formula,
        low_energy_per_atom=x,
        high_energy_per_atom=y,
        low_referenced=inner_x,
        high_referenced=inner_y,
        shift_per_atom=y - x,
        left_over=MEV_PER_EV * fit.residuals,
    )


def _per_element(fit: FractionFit, change: np.ndarray) -> dict:
    symbols = element_symbols()
    names = [symbols[z] for z in fit.elements]
    held = np.abs(fit.held_out[np.isfinite(fit.held_out)])
    varied = float(change.var())
    return {
        "elements": dict(zip(names, fit.values.tolist(), strict=True)),
        "element_std": dict(zip(names, fit.stds.tolist(), strict=True)),
        "undetermined": tuple(tuple(symbols[z] for z in group) for group in fit.undetermined),
        "left_over_mae": MEV_PER_EV * float(np.abs(fit.residuals).mean()),
        "left_over_rmse": MEV_PER_EV * float(np.sqrt(np.mean(fit.residuals**2))),
        "held_out_mae": MEV_PER_EV * float(held.mean()) if len(held) else _NAN,
        "explained": 1.0 - float(np.mean(fit.residuals**2)) / varied if varied > 0.0 else _NAN,
    }


def _derivatives(pairs: Pairs) -> dict:
    """Forces, stress and magnetic moments of the pairs of the same structure."""
    low, high = pairs.low[pairs.same_structure], pairs.high[pairs.same_structure]
    found: dict = {}
    labelled = np.isfinite(low.forces).all(axis=1) & np.isfinite(high.forces).all(axis=1)
    if labelled.any():
        f, g = low.forces[labelled], high.forces[labelled]
        product, size_f, size_g = float((f * g).sum()), float((f * f).sum()), float((g * g).sum())
        found |= {"n_forces": len(np.unique(low.system[labelled]))}
        found |= {"forces_low": _mean_abs(f), "forces_high": _mean_abs(g), "forces_mae": _mean_abs(g - f)}
        found |= {"force_norm_low": _mean_norm(f), "force_norm_high": _mean_norm(g), "force_norm_difference": _mean_norm(g - f)}
        found |= {"forces_pearson": _pearson(f.ravel(), g.ravel())}
        if size_f > 0.0 and size_g > 0.0:
            found |= {"forces_cosine": product / math.sqrt(size_f * size_g), "forces_slope": product / size_f}
    labelled = np.isfinite(low.stress).all(axis=(1, 2)) & np.isfinite(high.stress).all(axis=(1, 2))
    if labelled.any():
        f, g = ev_a3_to_gpa(low.stress[labelled]), ev_a3_to_gpa(high.stress[labelled])
        found |= {
            "n_stress": int(labelled.sum()),
            "stress_mae": _mean_abs(g - f),
            "stress_pearson": _pearson(f.ravel(), g.ravel()),
        }
    labelled = np.isfinite(low.magmoms) & np.isfinite(high.magmoms)
    if labelled.any():
        change = np.abs(high.magmoms[labelled]) - np.abs(low.magmoms[labelled])
        found |= {"n_magmoms": int(labelled.sum()), "magmom_mae": _mean_abs(change)}
    return found


def _volume_change(pairs: Pairs) -> float:
    """Mean relative change of the volume per atom; NaN for molecules, which have none."""
    before, after = pairs.low.volumes / pairs.low.n_atoms, pairs.high.volumes / pairs.high.n_atoms
    solid = (before > 0.0) & (after > 0.0)
    return float(np.mean(after[solid] / before[solid] - 1.0)) if solid.any() else _NAN


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


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation; NaN for fewer than two values, or none that vary."""
    if len(x) < 2:
        return _NAN
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0.0 else _NAN


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts + 1))[inverse]


def _mean_abs(values: np.ndarray) -> float:
    return float(np.abs(values).mean())


def _mean_norm(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).mean())


def _plain(value):
    """JSON-safe form of a field."""
    if isinstance(value, LevelOfTheory):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
