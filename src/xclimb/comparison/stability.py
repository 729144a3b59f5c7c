"""Formation and decomposition energies at two levels: the compounds that a functional, or a potential, finds stable.

The last two columns of table 1 of Huang et al., arXiv 2504.05565, for anybody's data. Structures are taken as they are: nothing
is relaxed here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from xclimb.comparison.elemental_references import ElementalEnergies, ElementalReferences, resolve_elemental_references
from xclimb.comparison.hull import chemical_systems, decomposition_energies
from xclimb.comparison.labelled_pair import LabellingPotential, label_pair
from xclimb.comparison.pairing import Pairs, pair_frames
from xclimb.comparison.serialisation import to_builtin
from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.references.linear import design_of
from xclimb.references.table import element_symbols
from xclimb.units import MEV_PER_EV

MOST_SYSTEMS = 300  # drawn in a shift: a hull takes some 20 ms
_NAMED = 12


@dataclass(frozen=True, eq=False)
class StabilityReport:
    """Formation and decomposition energies of the compounds M that have all their elemental references; one entry a material.

    Args:
        theory_low: level of theory of the low level.
        theory_high: level of theory of the high level.
        end_points: element symbol -> ``{"low", "high", "supplied"}``: energies, eV/atom, and whether the user gave them.
        formation_mae: mean absolute difference of the formation energies, meV/atom.
        formation_mean: mean difference, high minus low, meV/atom.
        decomposition_mae: mean absolute difference of the decomposition energies, meV/atom, over ``n_hull`` compounds.
        decomposition_mean: mean difference, high minus low, meV/atom.
        n_compounds: compounds with formation energies, M.
        n_hull: compounds with decomposition energies.
        n_systems: chemical systems of the compounds.
        n_stable_low: compounds on the hull of the low level.
        n_stable_high: compounds on the hull of the high level.
        changed: compounds on the hull of one level only, ``{"material_id", "formula", "low", "high", "stable_on"}``,
            decomposition energies in meV/atom, the largest difference first.
        missing: element symbol -> number of compounds left out since its end point is missing.
        notes: what a reader should know, a sentence each.
        material_id: names of the compounds ``[M]``.
        formula: their reduced formulas ``[M]``.
        formation_low: eV/atom ``[M]``.
        formation_high: eV/atom ``[M]``.
        decomposition_low: eV/atom, negative on the hull ``[M]``; NaN where the chemical system was not drawn.
        decomposition_high: eV/atom ``[M]``.
    """

    theory_low: LevelOfTheory
    theory_high: LevelOfTheory
    end_points: dict[str, dict]
    formation_mae: float
    formation_mean: float
    decomposition_mae: float
    decomposition_mean: float
    n_compounds: int
    n_hull: int
    n_systems: int
    n_stable_low: int
    n_stable_high: int
    material_id: np.ndarray
    formula: np.ndarray
    formation_low: np.ndarray
    formation_high: np.ndarray
    decomposition_low: np.ndarray
    decomposition_high: np.ndarray
    changed: list[dict] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"StabilityReport({self.theory_low} to {self.theory_high}, {self.n_compounds} compounds: formation energies differ "
            f"by {self.formation_mae:.1f} meV/atom, decomposition energies by {self.decomposition_mae:.1f})"
        )

    def to_dict(self) -> dict:
        """Dictionary for JSON; numbers that are not finite become null."""
        return {one.name: to_builtin(getattr(self, one.name)) for one in fields(self)}

    def summary(self) -> list[str]:
        """Lines of text for a terminal."""
        lines = [
            f"{self.n_compounds} compounds of {self.n_systems} chemical systems: formation energies differ by "
            f"{self.formation_mae:.1f} meV/atom (mean {self.formation_mean:+.1f})"
        ]
        if self.n_hull:
            lines.append(
                f"decomposition energies differ by {self.decomposition_mae:.1f} meV/atom; on the hull: {self.n_stable_low} of "
                f"{self.n_hull} (low), {self.n_stable_high} (high), {len(self.changed)} change side"
            )
        for one in self.changed[:_NAMED]:
            side = f"{one['low']:+.0f} (low) to {one['high']:+.0f} (high)"
            lines.append(
                f"{one['material_id']} ({one['formula']}): {side} meV/atom, stable on the {one['stable_on']} side only"
            )
        if len(self.changed) > _NAMED:
            lines.append(f"and {len(self.changed) - _NAMED} more")
        return lines + list(self.notes)


def stability(
    low: FramesLike | LabellingPotential,
    high: FramesLike,
    ends_low: ElementalEnergies = None,
    ends_high: ElementalEnergies = None,
    by: str | None = None,
    most_systems: int | None = None,
) -> StabilityReport:
    """Compare formation energies and decomposition energies (distance to the convex hull) of two levels.

    A material is stood for by its frame of lowest energy, on each level of its own. Both hulls hold the same compounds. For the
    errors of a potential against calculations give the potential as ``low``: it is evaluated on the structures as they are.

    Args:
        low: frames of the low level, or a potential whose predictions stand for it.
        high: frames of the high level.
        ends_low: elemental references of the low level: frames of pure elements, or ``{symbol: eV/atom}``; others are looked
            for among ``low``.
        ends_high: elemental references of the high level. A potential as ``low`` labels these frames itself.
        by: as in :func:`xclimb.shift`.
        most_systems: of more chemical systems than this, so many are drawn for the hulls; None for all.

    Raises:
        DataError: if nothing pairs, or no compound has all its elemental references (those missing are named).
        ConfigError: on elemental references that are none.
    """
    low, high = low if isinstance(low, LabellingPotential) else labelled_frames(low, "low"), labelled_frames(high, "high")
    labelled = label_pair(low, high)
    elemental = resolve_elemental_references(
        labelled.low, labelled.high, ends_low, ends_high, None if isinstance(low, Frames) else low
    )
    return compare_stability(pair_frames(labelled.low, labelled.high, by), elemental, most_systems, notes=labelled.notes)


def stability_of_pairs(pairs: Pairs, elemental: ElementalReferences) -> dict:
    """The part of a shift: the report as a dictionary, or ``{"absent": reason}``."""
    try:
        return compare_stability(pairs, elemental, MOST_SYSTEMS).to_dict()
    except DataError as reason:
        return {"absent": str(reason)}


@dataclass(frozen=True, eq=False)
class Compounds:
    """Compounds on both levels by their frames of lowest energy: one row a material (and composition).

    Args:
        elements: atomic numbers of the columns ``[K]``.
        fractions: composition fractions ``[R, K]``.
        low: energy of the low level, eV/atom ``[R]``.
        high: energy of the high level ``[R]``.
        first: a pair of each compound ``[R]``.
    """

    elements: np.ndarray
    fractions: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: np.ndarray


def compounds_of(pairs: Pairs) -> Compounds:
    """The compounds (two elements or more) among the pairs."""
    design = design_of(pairs.low)
    lowest = np.full((2, len(design.fractions)), np.inf)
    for side, frames in enumerate((pairs.low, pairs.high)):
        np.minimum.at(lowest[side], design.row, frames.energy_per_atom)
    _, first = np.unique(design.row, return_index=True)
    rows = np.flatnonzero((design.fractions > 0.0).sum(1) > 1)
    return Compounds(design.elements, design.fractions[rows], lowest[0, rows], lowest[1, rows], first[rows])


def compare_stability(
    pairs: Pairs, elemental: ElementalReferences, most_systems: int | None = None, notes: Sequence[str] = ()
) -> StabilityReport:
    """Formation and decomposition energies of paired materials, given the elements' energies.

    Raises:
        DataError: if there is no compound, or none has all its elemental references.
    """
    every = compounds_of(pairs)
    known = elemental.known[every.elements]
    lacking = (every.fractions > 0.0) & ~known  # [R, K]
    rows = np.flatnonzero(~lacking.any(1))
    symbols = element_symbols()
    missing = {symbols[z]: int(n) for z, n in zip(every.elements, lacking.sum(0), strict=True) if n}
    if not len(rows):
        raise DataError(_no_compound(len(every.first), missing))
    fractions, elements = every.fractions[rows], every.elements
    mu = [np.nan_to_num(side[elements]) for side in (elemental.low, elemental.high)]
    formation = [energy[rows] - fractions @ of for energy, of in zip((every.low, every.high), mu, strict=True)]
    systems = chemical_systems(fractions)
    chosen = np.arange(len(systems))
    if most_systems is not None and len(chosen) > most_systems:
        chosen = np.sort(np.random.default_rng(0).permutation(len(chosen))[:most_systems])
    hull = [decomposition_energies(elements, fractions, energy, systems, chosen) for energy in formation]
    done = np.isfinite(hull[0])
    names = pairs.low.material_id[every.first[rows]]
    formulas = pairs.low[every.first[rows]].formulas()
    used = np.flatnonzero(known & (fractions > 0.0).any(0))
    note_list = [*notes, *_notes(len(every.first), len(rows), missing, len(systems), len(chosen))]
    return StabilityReport(
        theory_low=pairs.low.theory,
        theory_high=pairs.high.theory,
        end_points={
            symbols[z]: {
                "low": float(elemental.low[z]),
                "high": float(elemental.high[z]),
                "supplied": bool(elemental.supplied[z]),
            }
            for z in elements[used]
        },
        **_errors("formation", formation[0], formation[1]),
        **_errors("decomposition", hull[0][done], hull[1][done]),
        n_compounds=len(rows),
        n_hull=int(done.sum()),
        n_systems=len(systems),
        n_stable_low=int((hull[0][done] <= 0.0).sum()),
        n_stable_high=int((hull[1][done] <= 0.0).sum()),
        changed=_changed(names, formulas, *hull),
        missing=missing,
        notes=tuple(note_list),
        material_id=names,
        formula=formulas,
        formation_low=formation[0],
        formation_high=formation[1],
        decomposition_low=hull[0],
        decomposition_high=hull[1],
    )


def _errors(name: str, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    change = MEV_PER_EV * (high - low)
    mean, mae = (float(change.mean()), float(np.abs(change).mean())) if len(change) else (math.nan, math.nan)
    return {f"{name}_mae": mae, f"{name}_mean": mean}


def _changed(names: np.ndarray, formulas: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[dict]:
    moved = np.flatnonzero((low <= 0.0) != (high <= 0.0))
    moved = moved[np.isfinite(low[moved])]
    return [
        {
            "material_id": str(names[r]),
            "formula": str(formulas[r]),
            "low": MEV_PER_EV * float(low[r]),
            "high": MEV_PER_EV * float(high[r]),
            "stable_on": "low" if low[r] <= 0.0 else "high",
        }
        for r in moved[np.argsort(-np.abs(high[moved] - low[moved]), kind="stable")]
    ]


def _no_compound(n_compounds: int, missing: Mapping[str, int]) -> str:
    if not n_compounds:
        return "no formation energies: the pairs hold no compound of two elements or more"
    return (
        f"no formation energies: none of the {n_compounds:,} compounds has the end points of all its elements; missing "
        f"{_listed(missing)}: calculate the elements on both sides, or supply their energies"
    )


def _notes(n_all: int, n_used: int, missing: Mapping[str, int], n_systems: int, n_chosen: int) -> list[str]:
    notes = []
    if n_used < n_all:
        without = f"{n_all - n_used:,} of {n_all:,} compounds have no formation energy"
        notes.append(f"{without}, as end points are missing: {_listed(missing)}.")
    if n_chosen < n_systems:
        notes.append(f"Convex hulls were calculated for {n_chosen:,} of {n_systems:,} chemical systems, drawn at random.")
    return notes


def _listed(missing: Mapping[str, int]) -> str:
    ordered = sorted(missing.items(), key=lambda item: -item[1])
    note_list = ", ".join(f"{symbol} ({n:,} compound{'s' if n != 1 else ''})" for symbol, n in ordered[:_NAMED])
    return note_list + (f" and {len(ordered) - _NAMED} more elements" if len(ordered) > _NAMED else "")
