"""The page of a shift between two functionals; its content is the dictionary of a ShiftReport."""

import math
from typing import Any

import plotly.graph_objects as go

from xclimb.report import figures, shift_figures, tables
from xclimb.report.folder import number
from xclimb.report.importance_figures import KINDS, importance_figures, importance_notes, worthless
from xclimb.report.pages.base import Page, Section, register
from xclimb.report.shift_tables import (
    NUMBERS,
    element_table,
    family_table,
    interval_text,
    number_table,
    outlier_table,
    reference_note,
    reference_table,
    text_of,
)
from xclimb.report.stability_figures import changed_table, stability_caption, stability_figures
from xclimb.report.structures import scenes
from xclimb.report.tables import Tile


def _levels(shift: dict) -> tuple[str, str]:
    """Names of the low and the high functional."""
    low, high = (str((shift[f"theory_{name}"] or {}).get("functional") or name) for name in ("low", "high"))
    return low, high


def _common(shift: dict) -> dict[str, Any]:
    low, high = _levels(shift)
    return {"low": low, "high": high}


def _advice(shift: dict) -> dict[str, Any]:
    return {"advice": shift.get("advice") or [], "notes": [str(note) for note in shift.get("notes") or ()]}


def _element_figures(shift: dict) -> dict[str, go.Figure]:
    low, high = _levels(shift)
    std = {symbol: value for symbol, value in shift["element_std"].items() if value is not None}
    shown = figures.shift_table(shift["elements"], std, f"{high} − {low}")
    return {"shift": shown, "trend": shift_figures.trend_figure(shift)}


def _elements(shift: dict) -> dict[str, Any]:
    trend = number((shift.get("reference_depth") or {}).get("z_squared"))
    note = f"; correlation with Z²: {text_of(trend, 3)}" if math.isfinite(trend) else ""
    return {"elements": element_table(shift), "trend_note": note}


def _energy_figures(shift: dict) -> dict[str, go.Figure]:
    before_after = figures.energy_before_after(shift, *_levels(shift))
    return {"energies": before_after, "left_over": shift_figures.left_over_histogram(shift)}


def _energies(shift: dict) -> dict[str, Any]:
    (low, high), n_pairs = _levels(shift), shift["n_pairs"]
    most = figures.MAX_POINTS
    thinned = f"; {most:,} of {n_pairs:,} pairs are drawn, evenly spread" if n_pairs > most else ""
    caption = (
        f"The same structures in {low} and {high}, as computed and with each side's elemental references removed "
        f"(dotted: equal energies{thinned})."
    )
    return {"energies_caption": caption, "beyond": shift_figures.histogram_bound(shift["left_over"])[1]}


def _family_figures(shift: dict) -> dict[str, go.Figure]:
    bounds = (shift.get("intervals") or {}).get("left_over_mae")
    return {"families": shift_figures.family_figure(shift["families"], bounds)}


def _reference_figures(shift: dict) -> dict[str, go.Figure]:
    errors = (shift.get("reference_depth") or {}).get("errors") or {}
    return {"held_out": shift_figures.held_out_figure(errors)} if errors else {}


def _references(shift: dict) -> dict[str, Any]:
    depth = shift.get("reference_depth") or {}
    note = (
        f"Every kind fitted to four fifths of the materials, its error on the rest, {depth.get('n_materials', 0):,} "
        f"materials in all{_skipped(depth.get('n_skipped', 0))}. The control adds products of fractions: far left of the "
        "references, composition knows more than a sum over elements."
    )
    return {
        "held_out_note": note,
        "references": reference_table(shift),
        "references_note": reference_note(shift, *_levels(shift)),
    }


def _skipped(n_materials: int) -> str:
    if not n_materials:
        return ""
    hold, are = ("holds", "is") if n_materials == 1 else ("hold", "are")
    return f" ({n_materials:,} {hold} elements that the others do not determine, and {are} left out)"


def _stability(shift: dict) -> dict[str, Any]:
    notes = (shift.get("stability") or {}).get("notes") or ()
    return {"stability_caption": stability_caption(shift), "stability_notes": notes, "changed": changed_table(shift)}


def _importance(shift: dict) -> dict[str, Any]:
    drawn = importance_figures(shift)
    return {
        "importance_kinds": KINDS,
        "importance_notes": importance_notes(shift),
        "importance_folded": worthless(shift),
        "importance_shown": sum(f"importance_{kind}" in drawn for kind in KINDS),
    }


def _crystals(shift: dict) -> list:
    return scenes(shift["structures"]) if shift.get("structures") else []


def _outliers(shift: dict) -> dict[str, Any]:
    return {"outliers": outlier_table(shift), "scenes": bool(shift.get("structures"))}


def _numbers(shift: dict) -> dict[str, Any]:
    low, high = _levels(shift)
    levels = {f"low ({low})": shift["theory_low"], f"high ({high})": shift["theory_high"]}
    return {"numbers": number_table(shift), "theories": tables.theories(levels)}


def _verdict(shift: dict) -> list[str]:
    low, high = _levels(shift)
    mean, std, left, scatter = (number(shift.get(name)) for name in ("mean", "std", "left_over_mae", "scatter_mae"))
    corrected = f" in the fit ({text_of(scatter, 0)} corrected for it)" if math.isfinite(scatter) else ""
    raw, referenced = number(shift.get("pearson_raw")), number(shift.get("pearson_referenced"))
    lies = "below" if mean < 0 else "above"
    related = f"; the two energies correlate at {text_of(raw, 3)} as computed" if math.isfinite(raw) else ""
    then = f" and at {text_of(referenced, 3)} once references are removed" if related and math.isfinite(referenced) else ""
    share = number(shift.get("explained"))
    text = f"explains {100 * share:.2f}\u00a0% of that and leaves" if math.isfinite(share) else "leaves"
    return [
        f"{high} energies lie {text_of(abs(mean), 2)} ± {text_of(std, 2)} eV/atom {lies} those of {low}.",
        f"A sum over elements {text} {text_of(left, 0)} meV/atom{corrected},",
        f"over {_counted(shift['n_pairs'], 'pair')} of {_counted(shift['n_materials'], 'material')}{related}{then}.",
    ]


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _tiles(shift: dict) -> list[Tile]:
    shown = (
        ("mean", "Mean shift", 2), ("scatter_mae", "Left over", 1), ("held_out_mae", "Left over, held out", 1),
        ("forces_mae", "Force difference", 3),
        ("pressure_mean", "Pressure difference", 2),
    )  # fmt: skip
    bounds = shift.get("intervals") or {}
    tiles = []
    for name, label, digits in shown:
        unit = NUMBERS[name][1].removeprefix("Pearson ")
        value = number(shift.get(name))
        if math.isfinite(value):
            interval = interval_text(bounds.get(name), digits)
            tiles.append(Tile(label, text_of(value, digits), unit, f"95 % {interval}" if interval else "no interval"))
    return tiles


register(
    Page("shift", "Shift between functionals", lambda shift: " → ".join(_levels(shift)), _verdict, _tiles, _common,
         footer=True),
    Section("shift", "advice", "What to do", "Advice", block="advice", values=_advice),
    Section("shift", "elements", "Where the shift comes from", "Elements", figures=_element_figures, block="elements",
            values=_elements),
    Section("shift", "energies", "What references take away", "Energies", figures=_energy_figures, block="energies",
            values=_energies),
    Section("shift", "families", "By chemical family", "Families", figures=_family_figures, block="families",
            values=lambda shift: {"families": family_table(shift)}),
    Section("shift", "references", "References, and how they do on materials they have not seen", "References",
            figures=_reference_figures, block="references", values=_references),
    Section("shift", "stability", "What is stable", "Stability", block="stability", values=_stability,
            figures=lambda shift: stability_figures(shift, *_levels(shift))),
    Section("shift", "importance", "Which elements decide", "Importance", figures=importance_figures, block="importance",
            values=_importance),
    Section("shift", "forces", "Directions of forces", "Forces", needs=lambda shift: any(shift.get("force_angles") or ()),
            figures=lambda shift: {"angles": shift_figures.angle_histogram(shift)}, block="forces"),
    Section("shift", "outliers", "Furthest from a sum over elements", "Outliers", block="outliers", values=_outliers,
            structures=_crystals),
    Section("shift", "numbers", "All numbers", block="numbers", values=_numbers),
)  # fmt: skip
