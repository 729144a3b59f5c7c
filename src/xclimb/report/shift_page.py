"""The page of a shift between two functionals: one self-contained HTML file out of the dictionary of a ShiftReport."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from xclimb.comparison.outliers import MOST
from xclimb.report import figures, shift_figures, tables
from xclimb.report.folder import number
from xclimb.report.html import figures_json, json_for_html, render, script
from xclimb.report.importance_figures import KINDS, importance_figures, importance_notes, worthless
from xclimb.report.stability_figures import changed_table, stability_caption, stability_figures
from xclimb.report.structures import scenes
from xclimb.report.summary import MISSING, Tile
from xclimb.report.tables import Cell, Table

# field of the report: what it is, unit, digits, whether signed
NUMBERS = {
    "mean": ("Mean shift", "eV/atom", 3),
    "std": ("Spread of the shift", "eV/atom", 3),
    "pearson_raw": ("Correlation of energies, as computed", "Pearson r", 4),
    "pearson_referenced": ("Correlation of energies, references removed", "Pearson r", 4),
    "spearman_raw": ("Rank correlation, as computed", "Spearman r", 4),
    "spearman_referenced": ("Rank correlation, references removed", "Spearman r", 4),
    "left_over_mae": ("Left over after references, MAE", "meV/atom", 1),
    "left_over_rmse": ("Left over after references, RMSE", "meV/atom", 1),
    "scatter_mae": ("Left over, corrected for the fit, MAE", "meV/atom", 1),
    "scatter_rmse": ("Left over, corrected for the fit, RMSE", "meV/atom", 1),
    "held_out_mae": ("Left over on materials left out of the fit, MAE", "meV/atom", 1),
    "explained": ("Share of the variance that is elemental", "", 5),
    "volume_change": ("Relative change of the volume per atom", "", 4),
    "volume_mae": ("Mean absolute of the same", "", 4),
    "volume_pearson": ("Correlation of volumes per atom", "Pearson r", 4),
    "volume_spearman": ("Rank correlation of the same", "Spearman r", 4),
    "forces_low": ("Mean force component, low", "eV/Å", 4),
    "forces_high": ("Mean force component, high", "eV/Å", 4),
    "forces_mae": ("Difference of force components", "eV/Å", 4),
    "force_norm_difference": ("Length of the force difference", "eV/Å", 4),
    "forces_pearson": ("Correlation of force components", "Pearson r", 4),
    "forces_cosine": ("Cosine between the two sets of forces", "", 4),
    "forces_slope": ("Slope of high against low forces", "", 4),
    "force_norm_pearson": ("Correlation of force lengths", "Pearson r", 4),
    "force_norm_spearman": ("Rank correlation of the same", "Spearman r", 4),
    "force_angle": ("Angle between the two forces on an atom", "degrees", 1),
    "stress_mae": ("Difference of stress components", "GPa", 3),
    "stress_pearson": ("Correlation of stress components", "Pearson r", 4),
    "stress_spearman": ("Rank correlation of the same", "Spearman r", 4),
    "pressure_mean": ("Mean difference of the pressure", "GPa", 3),
    "bulk_modulus": ("Bulk modulus, median of materials at several volumes", "GPa", 0),
    "pressure_mae": ("Mean absolute difference of the pressure", "GPa", 3),
    "pressure_pearson": ("Correlation of pressures", "Pearson r", 4),
    "pressure_spearman": ("Rank correlation of the same", "Spearman r", 4),
    "magmom_mae": ("Difference of magnetic moments", "µB", 4),
    "magmom_pearson": ("Correlation of absolute magnetic moments", "Pearson r", 4),
    "magmom_spearman": ("Rank correlation of the same", "Spearman r", 4),
}
FAMILY = {
    "n_pairs": ("Pairs", "", 0),
    "n_materials": ("Materials", "", 0),
    "mean": ("Mean shift", "eV/atom", 3),
    "std": ("Spread", "eV/atom", 3),
    "left_over_mae": ("Left over in the fit", "meV/atom", 1),
    "scatter_mae": ("Corrected for the fit", "meV/atom", 1),
    "held_out_mae": ("Held out", "meV/atom", 1),
    "pearson_raw": ("r, as computed", "", 3),
    "pearson_referenced": ("r, referenced", "", 4),
}

UNSTATED = ("left_over_mae", "left_over_rmse")  # their interval is that of the corrected estimate, which has a line of its own


def shift_page(shift: dict) -> str:
    """The page out of the dictionary of a ShiftReport."""
    low, high = sides(shift)
    drawn = drawn_figures(shift)
    depth = shift.get("reference_depth") or {}
    trend = number(depth.get("z_squared"))
    return render(
        "shift.html.j2",
        title=f"{low} → {high}",
        kind="Shift between functionals",
        verdict=_verdict(shift, low, high),
        tiles=_tiles(shift),
        drawn=set(drawn),
        figures=figures_json(drawn),
        low=low,
        high=high,
        advice=shift.get("advice") or [],
        notes=[str(note) for note in shift.get("notes") or ()],
        elements=element_table(shift),
        families=family_table(shift),
        outliers=outlier_table(shift),
        scenes=json_for_html(scenes(shift["structures"])) if shift.get("structures") else "",
        viewer=script("structure.js"),
        numbers=number_table(shift),
        stability_caption=stability_caption(shift),
        stability_notes=(shift.get("stability") or {}).get("notes") or (),
        changed=changed_table(shift),
        importance_kinds=KINDS,
        importance_notes=importance_notes(shift),
        importance_folded=worthless(shift),
        importance_shown=sum(f"importance_{kind}" in drawn for kind in KINDS),
        references=reference_table(shift),
        references_note=_reference_notes(shift, low, high),
        trend_note=f"; correlation with Z²: {_text(trend, 3)}" if math.isfinite(trend) else "",
        energies_caption=(
            f"The same structures in {low} and {high}, as computed and with each side's elemental references removed "
            f"(dotted: equal energies{_thinned(shift['n_pairs'])})."
        ),
        held_out_note=(
            f"Every kind fitted to four fifths of the materials, its error on the rest, {depth.get('n_materials', 0):,} "
            f"materials in all{_skipped(depth.get('n_skipped', 0))}. The control adds products of fractions: far left of the "
            "references, composition knows more than a sum over elements."
        ),
        beyond=shift_figures.histogram_bound(shift["left_over"])[1],
        theories=tables.theories({f"low ({low})": shift["theory_low"], f"high ({high})": shift["theory_high"]}),
    )


def _thinned(n_pairs: int) -> str:
    return f"; {figures.MAX_POINTS:,} of {n_pairs:,} pairs are drawn, evenly spread" if n_pairs > figures.MAX_POINTS else ""


def _skipped(n_materials: int) -> str:
    if not n_materials:
        return ""
    hold, are = ("holds", "is") if n_materials == 1 else ("hold", "are")
    return f" ({n_materials:,} {hold} elements that the others do not determine, and {are} left out)"


def sides(shift: dict) -> tuple[str, str]:
    """Names of the low and the high level."""
    low, high = (str(shift[f"theory_{side}"].get("functional") or side) for side in ("low", "high"))
    return low, high


def drawn_figures(shift: dict) -> dict[str, go.Figure]:
    """The figures of the page, by name."""
    low, high = sides(shift)
    errors = (shift.get("reference_depth") or {}).get("errors") or {}
    std = {symbol: value for symbol, value in shift["element_std"].items() if value is not None}
    drawn = {
        "shift": figures.shift_table(shift["elements"], std, f"{high} − {low}"),
        "trend": shift_figures.trend_figure(shift),
        "energies": figures.energy_before_after(shift, low, high),
        "left_over": shift_figures.left_over_histogram(shift),
        "families": shift_figures.family_figure(shift["families"], (shift.get("intervals") or {}).get("left_over_mae")),
    }
    drawn |= {"held_out": shift_figures.held_out_figure(errors)} if errors else {}
    drawn |= stability_figures(shift, low, high) | importance_figures(shift)
    return drawn | ({"angles": shift_figures.angle_histogram(shift)} if any(shift.get("force_angles") or ()) else {})


def _verdict(shift: dict, low: str, high: str) -> list[str]:
    mean, std, left, scatter = (number(shift.get(name)) for name in ("mean", "std", "left_over_mae", "scatter_mae"))
    corrected = f" in the fit ({_text(scatter, 0)} corrected for it)" if math.isfinite(scatter) else ""
    raw, referenced = number(shift.get("pearson_raw")), number(shift.get("pearson_referenced"))
    lies = "below" if mean < 0 else "above"
    related = f"; the two energies correlate at {_text(raw, 3)} as computed" if math.isfinite(raw) else ""
    then = f" and at {_text(referenced, 3)} once references are removed" if related and math.isfinite(referenced) else ""
    share = number(shift.get("explained"))
    text = f"explains {100 * share:.2f}\u00a0% of that and leaves" if math.isfinite(share) else "leaves"
    return [
        f"{high} energies lie {_text(abs(mean), 2)} ± {_text(std, 2)} eV/atom {lies} those of {low}.",
        f"A sum over elements {text} {_text(left, 0)} meV/atom{corrected},",
        f"over {_counted(shift['n_pairs'], 'pair')} of {_counted(shift['n_materials'], 'material')}{related}{then}.",
    ]


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


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
            interval = _interval(bounds.get(name), digits)
            tiles.append(Tile(label, _text(value, digits), unit, f"95 % {interval}" if interval else "no interval"))
    return tiles


def number_table(shift: dict) -> Table:
    """Every scalar that there is, with its interval."""
    bounds = shift.get("intervals") or {}
    body = [
        [
            Cell(label, aside=unit),
            Cell(_text(number(shift.get(name)), digits)),
            Cell(MISSING if name in UNSTATED else _interval(bounds.get(name), digits) or MISSING),
        ]
        for name, (label, unit, digits) in NUMBERS.items()
        if math.isfinite(number(shift.get(name)))
    ]
    return Table([("Number", ""), ("Value", ""), ("95 % interval", "")], body)


def element_table(shift: dict) -> Table:
    """Each element's shift, what it rests on, and its interval."""
    body = []
    for z, (symbol, value) in enumerate(shift["elements"].items()):
        data, bounds = shift["element_data"][symbol], shift["element_intervals"].get(symbol) or (None, None)
        half = 0.5 * (number(bounds[1]) - number(bounds[0]))
        effective, share = number(data["effective_materials"]), number(data["largest_share"])
        body.append([
            Cell(symbol, float(z)), Cell(_text(number(value), 3), number(value)),
            Cell(f"± {half:.3f}" if math.isfinite(half) else "undetermined" if _grouped(shift, symbol) else MISSING, half),
            Cell(str(data["materials"]), float(data["materials"])), Cell(_text(effective, 1), effective),
            Cell(f"{100 * share:.0f} %", share, aside=str(data["largest_material"])),
        ])  # fmt: skip
    columns = [
        ("Element", ""),
        ("Shift", "eV"),
        ("Interval", "eV"),
        ("Materials", ""),
        ("Effective", "materials"),
        ("Largest", "share"),
    ]
    return Table(columns, body)


def reference_table(shift: dict) -> Table | None:
    """The fitted references beside those of the source, with what each rests on; None if an older report has none."""
    rows = (shift.get("reference_rows") or {}).get("elements") or {}
    if not rows:
        return None
    body = []
    for z, (symbol, row) in enumerate(rows.items()):
        data = shift["element_data"][symbol]
        std, share = number(row["std"]), number(data["largest_share"])
        text = f"± {std:.3f}" if math.isfinite(std) else "undetermined" if _grouped(shift, symbol) else MISSING
        cells = [Cell(_text(number(row[name]), 3), number(row[name])) for name in ("fitted", "source", "difference")]
        materials = Cell(str(data["materials"]), float(data["materials"]))
        leverage = Cell(f"{100 * share:.0f} %", share, aside=str(data["largest_material"]))
        body.append([Cell(symbol, float(z)), cells[0], Cell(text, std), materials, leverage, *cells[1:]])
    names = ("Element", "Fitted", "Std", "Materials", "Leverage", "Source", "Difference")
    units = ("", "eV", "eV", "", "largest share", "eV", "eV")
    return Table(list(zip(names, units, strict=True)), body)


def _reference_notes(shift: dict, low: str, high: str) -> str:
    rows = shift.get("reference_rows") or {}
    if rows.get("kind") == "residual":
        fitted = f"fitted to what {rows['source']} leaves over of the {high} energies (residual)"
    else:
        fitted = f"fitted to the {high} energies alone (raw)"
    beside = f"the table of {rows['source']}" if rows.get("source") else f"the same fit to the {low} energies"
    return (
        f"References {fitted}, beside {beside}. Leverage: the share of the one material that decides most. "
        "Click a heading to sort."
    )


def _grouped(shift: dict, symbol: str) -> bool:
    return any(symbol in group for group in shift.get("undetermined") or ())


def family_table(shift: dict) -> Table:
    """The chemical families, most pairs first."""
    body = [
        [
            Cell(row["family"]),
            *(_family_cell(row, name, digits) for name, (_, _, digits) in FAMILY.items()),
        ]
        for row in shift["families"]
    ]
    return Table([("Family", ""), *((label, unit) for label, unit, _ in FAMILY.values())], body)


def _family_cell(row: dict, name: str, digits: int) -> Cell:
    """A number of a family, its 95 % interval beside it where there is one."""
    bounds = (row.get("intervals") or {}).get(name) if name in ("mean", "scatter_mae") else None
    return Cell(_text(number(row.get(name)), digits), number(row.get(name)), aside=_interval(bounds, digits))


def outlying(left_over: np.ndarray) -> np.ndarray:
    """The pairs of the outlier table, furthest first."""
    return np.argsort(-np.abs(left_over), kind="stable")[:MOST]


def outlier_table(shift: dict) -> Table:
    """The pairs whose shift is furthest from a sum over elements."""
    left = np.asarray(shift["left_over"], dtype=float)
    body = [
        [
            Cell(str(shift["formula"][p])),
            Cell(_text(left[p], 0, sign=True), float(left[p])),
            Cell(_text(shift["shift_per_atom"][p], 3), float(shift["shift_per_atom"][p])),
            Cell(str(shift["frame_id"][p])),
            Cell(str(shift["material_id"][p])),
        ]
        for p in outlying(left)
    ]
    return Table([("Formula", ""), ("Left over", "meV/atom"), ("Shift", "eV/atom"), ("Frame", ""), ("Material", "")], body)


def _text(value: float | int, digits: int, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def _interval(bounds: Sequence[float | None] | None, digits: int) -> str:
    """``"1.2 to 1.4"``, or nothing where no interval is known."""
    if bounds is None or not all(math.isfinite(number(end)) for end in bounds):
        return ""
    return " to ".join(_text(number(end), digits) for end in bounds)
