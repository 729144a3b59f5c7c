"""The page of a shift between two functionals: JSON, CSV tables and one self-contained HTML file out of a ShiftReport."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from xclimb.analysis.shift_report import ShiftReport
from xclimb.errors import DataError
from xclimb.report import figures, shift_figures, tables
from xclimb.report.folder import number
from xclimb.report.html import figures_json, json_for_html, render, replace_file, script
from xclimb.report.structures import scenes
from xclimb.report.summary import MISSING, Tile
from xclimb.report.tables import Cell, Table

_N_OUTLIERS = 50
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
    "held_out_mae": ("Left over on materials left out of the fit, MAE", "meV/atom", 1),
    "explained": ("Share of the variance that is elemental", "", 5),
    "volume_change": ("Relative change of the volume per atom", "", 4),
    "forces_low": ("Mean force component, low", "eV/Å", 4),
    "forces_high": ("Mean force component, high", "eV/Å", 4),
    "forces_mae": ("Difference of force components", "eV/Å", 4),
    "force_norm_difference": ("Length of the force difference", "eV/Å", 4),
    "forces_pearson": ("Correlation of force components", "Pearson r", 4),
    "forces_cosine": ("Cosine between the two sets of forces", "", 4),
    "forces_slope": ("Slope of high against low forces", "", 4),
    "stress_mae": ("Difference of stress components", "GPa", 3),
    "stress_pearson": ("Correlation of stress components", "Pearson r", 4),
    "magmom_mae": ("Difference of magnetic moments", "µB", 4),
}
_FAMILY = {
    "n_pairs": ("Pairs", "", 0),
    "n_materials": ("Materials", "", 0),
    "mean": ("Mean shift", "eV/atom", 3),
    "std": ("Spread", "eV/atom", 3),
    "left_over_mae": ("Left over", "meV/atom", 1),
    "held_out_mae": ("Held out", "meV/atom", 1),
    "pearson_raw": ("r, as computed", "", 3),
    "pearson_referenced": ("r, referenced", "", 4),
}


def write_shift(report: ShiftReport, folder: str | Path) -> Path:
    """Write ``shift.json``, ``numbers.csv``, ``elements.csv``, ``families.csv``, ``pairs.csv`` and ``report.html``.

    Args:
        report: what :func:`xclimb.shift` found.
        folder: made if it is not there; older files of these names are replaced.

    Returns:
        The page, one HTML file that works without network.

    Raises:
        DataError: if the folder cannot be written to.
    """
    place, plain = Path(folder), report.to_dict()
    page = place / "report.html"
    written = {"shift.json": json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"} | csv_files(report)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            replace_file(place / name, text)
        replace_file(page, shift_page(plain))
    except OSError as error:
        raise DataError(f"{place} cannot be written to ({error.strerror}); name another folder with out=") from None
    return page


def csv_files(report: ShiftReport) -> dict[str, str]:
    """The report as four flat tables: file name -> text."""
    ends = report.intervals
    numbers = [
        (name, _figure(getattr(report, name)), *map(_figure, ends.get(name, (math.nan, math.nan))), unit)
        for name, (_, unit, _) in NUMBERS.items()
    ]
    elements = [
        (
            symbol,
            _figure(value),
            _figure(report.element_std[symbol]),
            *map(_figure, report.element_intervals[symbol]),
            *report.element_data[symbol].values(),
        )
        for symbol, value in report.elements.items()
    ]
    columns = ("low_energy_per_atom", "high_energy_per_atom", "shift_per_atom", "left_over")
    pairs = zip(
        report.frame_id.tolist(), report.material_id.tolist(), report.formula.tolist(),
        *(np.char.mod("%.10g", getattr(report, name)).tolist() for name in columns), strict=True,
    )  # fmt: skip
    data = next(iter(report.element_data.values()), {})
    return {
        "numbers.csv": _csv(("number", "value", "low", "high", "unit"), numbers),
        "elements.csv": _csv(("element", "shift_eV", "std_eV", "low_eV", "high_eV", *data), elements),
        "families.csv": _csv(
            ("family", *_FAMILY), [(row["family"], *(_figure(row[n]) for n in _FAMILY)) for row in report.families]
        ),
        "pairs.csv": _csv(("frame_id", "material_id", "formula", *columns[:3], "left_over_meV"), pairs),
    }


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _figure(value: float | int) -> str:
    """A number for a spreadsheet; nothing where there is none."""
    return f"{value:.10g}" if math.isfinite(value) else ""


# -- the page ---------------------------------------------------------------------------------------------


def shift_page(shift: dict) -> str:
    """The page out of the dictionary of a ShiftReport."""
    low, high = (shift[f"theory_{side}"].get("functional") or side for side in ("low", "high"))
    drawn = _drawn(shift, low, high)
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
        trend_told=f"; correlation with Z²: {_text(trend, 3)}" if math.isfinite(trend) else "",
        energies_caption=(
            f"The same structures in {low} and {high}, as computed and with each side's elemental references removed "
            "(dotted: equal energies; thinned to 1,500 points)."
        ),
        held_out_told=(
            f"Every kind fitted to four fifths of the materials, its error on the rest, {depth.get('n_materials')} materials "
            f"in all ({depth.get('n_skipped')} hold elements that the others do not determine, and are left out). The control "
            "adds products of fractions: far left of the references, composition knows more than a sum over elements."
        ),
        beyond=shift_figures.histogram_bound(shift["left_over"])[1],
        theories=tables.theories({f"low ({low})": shift["theory_low"], f"high ({high})": shift["theory_high"]}),
    )


def _drawn(shift: dict, low: str, high: str) -> dict[str, go.Figure]:
    errors = (shift.get("reference_depth") or {}).get("errors") or {}
    std = {symbol: value for symbol, value in shift["element_std"].items() if value is not None}
    drawn = {
        "shift": figures.shift_table(shift["elements"], std, f"{high} − {low}"),
        "trend": shift_figures.trend_figure(shift),
        "energies": figures.energy_before_after(shift, low, high),
        "left_over": shift_figures.left_over_histogram(shift),
        "families": shift_figures.family_figure(shift["families"], (shift.get("intervals") or {}).get("left_over_mae")),
    }
    return drawn | ({"held_out": shift_figures.held_out_figure(errors)} if errors else {})


def _verdict(shift: dict, low: str, high: str) -> list[str]:
    mean, std, left = (number(shift.get(name)) for name in ("mean", "std", "left_over_mae"))
    raw, referenced = number(shift.get("pearson_raw")), number(shift.get("pearson_referenced"))
    lies = "below" if mean < 0 else "above"
    related = f"; the two energies correlate at {_text(raw, 3)} as computed" if math.isfinite(raw) else ""
    then = f" and at {_text(referenced, 3)} once references are removed" if related and math.isfinite(referenced) else ""
    share = number(shift.get("explained"))
    told = f"explains {100 * share:.2f} % of that and leaves" if math.isfinite(share) else "leaves"
    return [
        f"{high} energies lie {_text(abs(mean), 2)} ± {_text(std, 2)} eV/atom {lies} those of {low}.",
        f"A sum over elements {told} {_text(left, 0)} meV/atom,",
        f"over {shift['n_pairs']} pairs of {shift['n_materials']} materials{related}{then}.",
    ]


def _tiles(shift: dict) -> list[Tile]:
    shown = (
        ("mean", "Mean shift", 2), ("left_over_mae", "Left over", 1), ("held_out_mae", "Left over, held out", 1),
        ("pearson_referenced", "Correlation, referenced", 3), ("forces_mae", "Force difference", 3),
    )  # fmt: skip
    ends = shift.get("intervals") or {}
    tiles = []
    for name, label, digits in shown:
        unit = NUMBERS[name][1].removeprefix("Pearson ")
        value = number(shift.get(name))
        if math.isfinite(value):
            tiles.append(Tile(label, _text(value, digits), unit, _interval(ends.get(name), digits) or "no interval"))
    return tiles


def number_table(shift: dict) -> Table:
    """Every scalar that there is, with its interval."""
    ends = shift.get("intervals") or {}
    body = [
        [
            Cell(label, aside=unit),
            Cell(_text(number(shift.get(name)), digits)),
            Cell(_interval(ends.get(name), digits) or MISSING),
        ]
        for name, (label, unit, digits) in NUMBERS.items()
        if math.isfinite(number(shift.get(name)))
    ]
    return Table([("Number", ""), ("Value", ""), ("95 % interval", "")], body)


def element_table(shift: dict) -> Table:
    """Each element's shift, what it rests on, and its interval."""
    body = []
    for z, (symbol, value) in enumerate(shift["elements"].items()):
        data, ends = shift["element_data"][symbol], shift["element_intervals"].get(symbol) or (None, None)
        half = 0.5 * (number(ends[1]) - number(ends[0]))
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


def _grouped(shift: dict, symbol: str) -> bool:
    return any(symbol in group for group in shift.get("undetermined") or ())


def family_table(shift: dict) -> Table:
    """The chemical families, most pairs first."""
    body = [
        [
            Cell(row["family"]),
            *(Cell(_text(number(row[name]), digits), number(row[name])) for name, (_, _, digits) in _FAMILY.items()),
        ]
        for row in shift["families"]
    ]
    return Table([("Family", ""), *((label, unit) for label, unit, _ in _FAMILY.values())], body)


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
        for p in np.argsort(-np.abs(left), kind="stable")[:_N_OUTLIERS]
    ]
    return Table([("Formula", ""), ("Left over", "meV/atom"), ("Shift", "eV/atom"), ("Frame", ""), ("Material", "")], body)


def _text(value: float | int, digits: int, sign: bool = False) -> str:
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def _interval(ends: Sequence[float | None] | None, digits: int) -> str:
    """``"1.2 to 1.4"``, or nothing where no interval is known."""
    if ends is None or not all(math.isfinite(number(end)) for end in ends):
        return ""
    return " to ".join(_text(number(end), digits) for end in ends)
