""":class:`ShiftReport`: the result of :func:`xclimb.comparison.shift.shift`, with JSON and a summary in text."""

import math
from dataclasses import dataclass, field, fields

import numpy as np

from xclimb.comparison.reference_rows import from_builtin
from xclimb.comparison.serialisation import to_builtin, with_nan
from xclimb.data.theory import LevelOfTheory

_NAN = math.nan


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """Differences of two functionals on paired frames, high minus low. NaN where there are no labels.

    Args:
        theory_low: level of theory of the first set.
        theory_high: level of theory of the second set.
        paired_by: ``"frame_id"``, ``"material_id"`` or ``"structure"``.
        n_pairs: pairs with energies, P.
        n_materials: materials among them.
        mean: mean shift, eV/atom.
        std: standard deviation of the shift (population), eV/atom.
        elements: least-squares shift of each element, eV; minimum norm where the data do not determine it.
        element_std: its standard deviation, eV (one error a material); inf where undetermined.
        undetermined: groups of elements that occur only in fixed proportions.
        pearson_raw: correlation of the energies per atom.
        pearson_referenced: the same after a least-squares fit per element is removed on each level.
        spearman_raw: rank correlation of the energies per atom.
        spearman_referenced: rank correlation after the per-element fits.
        left_over_mae: mean absolute shift left by its per-element fit, meV/atom.
        left_over_rmse: root mean square of the same, meV/atom.
        held_out_mae: mean absolute residual of frames whose material was left out of the fit, meV/atom.
        scatter_mae: the residual corrected for what the fit takes away from its own data (residuals of materials over
            sqrt(1 - leverage)), meV/atom: the estimate of what references leave of any material of this kind; its interval is
            also that of ``left_over_mae``, which lies below it where there are few materials.
        scatter_rmse: root mean square of the same, meV/atom.
        explained: share of the shift's variance that the per-element fit explains.
        volume_change: mean relative change of the volume per atom; 0 for frames of the same structure.
        volume_mae: mean absolute relative change of the volume per atom.
        volume_pearson: correlation of the volumes per atom.
        volume_spearman: their rank correlation.
        n_forces: pairs of the same structure with forces on both levels.
        forces_low: mean absolute force component of the first set, eV/Å (what papers quote as mean |F|).
        forces_high: the same of the second set, eV/Å.
        forces_mae: mean absolute difference of force components, eV/Å.
        force_norm_low: mean length of the force vectors of the first set, eV/Å.
        force_norm_high: the same of the second set, eV/Å.
        force_norm_difference: mean length of the difference vectors, eV/Å.
        forces_pearson: correlation of the force components.
        forces_cosine: cosine between the two sets of forces, taken as one long vector each.
        forces_slope: least-squares slope of high against low force components; above 1 the high functional is stiffer.
        force_angle: mean angle between the two forces on an atom, degrees, where both are above 0.05 eV/Å.
        force_angles: atoms with such an angle in steps of 5 degrees ``[36]``.
        force_norm_pearson: correlation of the lengths of the force vectors.
        force_norm_spearman: their rank correlation.
        n_stress: pairs of the same structure with stress on both levels.
        stress_mae: mean absolute difference of the nine stress components, GPa.
        stress_pearson: correlation of the stress components.
        stress_spearman: their rank correlation.
        pressure_mae: mean absolute difference of the pressure (a third of minus the trace of the stress), GPa.
        pressure_mean: mean difference of the pressure, GPa.
        bulk_modulus: of the high level, GPa, the median of the materials with frames at several volumes; NaN without such.
        n_bulk: materials behind it.
        pressure_pearson: correlation of the pressures.
        pressure_spearman: their rank correlation.
        n_magmoms: atoms with magnetic moments on both levels.
        magmom_mae: mean absolute difference of absolute magnetic moments, µB.
        magmom_pearson: correlation of the absolute magnetic moments.
        magmom_spearman: their rank correlation.
        outliers: the pairs with the largest residual: ``{"frame_id", "formula", "left_over"}``, meV/atom.
        structures: the structures of the pairs with the largest residual, most outlying first
            (:func:`xclimb.comparison.outliers.outlier_structures`).
        intervals: name of a number above -> bounds of its 95 % interval, by bootstrap over materials, in its unit.
        element_intervals: element symbol -> bounds of its 95 % interval by jackknife over materials, eV; infinite where
            undetermined, NaN where no uncertainty can be stated.
        element_data: element symbol -> ``{"materials", "frames", "effective_materials", "largest_share", "largest_material"}``:
            how many stand behind its shift, and the share of the one material that decides most.
        families: a row for each chemical family (:func:`xclimb.comparison.families.family_table`).
        reference_depth: errors of kinds of references on held-out materials
            (:func:`xclimb.comparison.cross_validation.held_out_errors`),
            and ``z_squared``: correlation of the elements' shifts with Z^2.
        reference_rows: references fitted to the pairs beside those of the source, element by element
            (:func:`xclimb.comparison.reference_rows.reference_rows`).
        stability: formation and decomposition energies on both levels
            (:class:`xclimb.comparison.stability.StabilityReport` as a dictionary), or ``{"absent": reason}``.
        importance: which elements decide about the difference of formation energies, with and without MP2020 corrections
            (:func:`xclimb.comparison.importance.element_importance`), or ``{"absent": reason}``.
        advice: what to do, ``{"topic", "sentence", "numbers"}`` (:mod:`xclimb.comparison.advice`).
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
    structures: list[dict] = field(default_factory=list)
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
    force_angle: float = _NAN
    force_angles: list[int] = field(default_factory=list)
    force_norm_pearson: float = _NAN
    force_norm_spearman: float = _NAN
    n_stress: int = 0
    stress_mae: float = _NAN
    stress_pearson: float = _NAN
    stress_spearman: float = _NAN
    pressure_mae: float = _NAN
    pressure_mean: float = _NAN
    bulk_modulus: float = _NAN
    n_bulk: int = 0
    pressure_pearson: float = _NAN
    pressure_spearman: float = _NAN
    n_magmoms: int = 0
    magmom_mae: float = _NAN
    magmom_pearson: float = _NAN
    magmom_spearman: float = _NAN
    volume_mae: float = _NAN
    volume_pearson: float = _NAN
    volume_spearman: float = _NAN
    scatter_mae: float = _NAN
    scatter_rmse: float = _NAN
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    element_intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    element_data: dict[str, dict] = field(default_factory=dict)
    families: list[dict] = field(default_factory=list)
    reference_depth: dict = field(default_factory=dict)
    reference_rows: dict = field(default_factory=dict)
    stability: dict = field(default_factory=dict)
    importance: dict = field(default_factory=dict)
    advice: list[dict] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        pairs = f"{self.n_pairs} {'pair' if self.n_pairs == 1 else 'pairs'}"
        return (
            f"ShiftReport({self.theory_low} to {self.theory_high}, {pairs}: {self.mean:+.3f} ± {self.std:.3f} eV/atom, "
            f"{self.left_over_mae:.1f} meV/atom left over by elemental references)"
        )

    def to_dict(self) -> dict:
        """Dictionary for JSON; numbers that are not finite become null."""
        return {one.name: to_builtin(getattr(self, one.name)) for one in fields(self)}

    @classmethod
    def from_dict(cls, report: dict) -> "ShiftReport":
        """The inverse of :meth:`to_dict`; fields that an older version did not write are left at their defaults."""
        values = dict(report)
        for one in fields(cls):
            if one.name not in values:
                continue
            if one.type is float:
                values[one.name] = _NAN if values[one.name] is None else float(values[one.name])
            elif one.type is np.ndarray:
                values[one.name] = np.array(values[one.name])
        values["undetermined"] = tuple(tuple(group) for group in values["undetermined"])
        grouped = {symbol for group in values["undetermined"] for symbol in group}
        blank = {symbol: math.inf if symbol in grouped else _NAN for symbol in values["elements"]}
        values["element_std"] = {symbol: blank[symbol] if std is None else std for symbol, std in values["element_std"].items()}
        for name in ("intervals", "element_intervals"):
            values[name] = {key: _interval(bounds, key in grouped) for key, bounds in values.get(name, {}).items()}
        for name in ("families", "reference_depth", "stability", "importance", "advice"):
            if name in values:
                values[name] = with_nan(values[name])
        values["reference_rows"] = from_builtin(values.get("reference_rows") or {}, grouped)
        values["theory_low"] = LevelOfTheory.from_dict(values["theory_low"])
        values["theory_high"] = LevelOfTheory.from_dict(values["theory_high"])
        return cls(**values | {"notes": tuple(values["notes"])})

    def summary(self) -> list[str]:
        """Lines of text for a terminal."""
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
            detail = f"mean component {self.forces_high:.3f} eV/Å"
            detail += f", difference {self.forces_mae:.4f}, r {self.forces_pearson:.4f}"
            lines.append(f"forces: {detail}")
        if self.n_stress:
            detail = f"difference {self.stress_mae:.2f} GPa, r {self.stress_pearson:.4f}"
            lines.append(f"stress: {detail}, of the pressure {self.pressure_mean:+.2f} GPa")
        if self.n_magmoms:
            lines.append(f"magnetic moments: difference {self.magmom_mae:.3f} µB")
        if abs(self.volume_change) > 1e-4:
            lines.append(f"volume change {100 * self.volume_change:+.2f} %")
        if self.outliers:
            first = self.outliers[0]
            lines.append(f"furthest off: {first['frame_id']} ({first['formula']}) {first['left_over']:+.0f} meV/atom")
        lines += [f"{one['topic']}: {one['sentence']}" for one in self.advice]
        return lines + list(self.notes)


def _interval(bounds, undetermined: bool) -> tuple[float, float]:
    """Bounds of an interval read from JSON."""
    if undetermined:
        return -math.inf, math.inf
    low, high = (_NAN if end is None else float(end) for end in bounds)
    return low, high
