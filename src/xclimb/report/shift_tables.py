"""The tables of a shift between two functionals, out of the dictionary of a ShiftReport."""

import math
from collections.abc import Sequence

import numpy as np

from xclimb.comparison.outliers import MOST
from xclimb.report.folder import number
from xclimb.report.tables import Cell, Table
from xclimb.study.summary import MISSING

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


def number_table(shift: dict) -> Table:
    """Every scalar that there is, with its interval."""
    bounds = shift.get("intervals") or {}
    body = [
        [
            Cell(label, aside=unit),
            Cell(text_of(number(shift.get(name)), digits)),
            Cell(MISSING if name in UNSTATED else interval_text(bounds.get(name), digits) or MISSING),
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
            Cell(symbol, float(z)), Cell(text_of(number(value), 3), number(value)),
            Cell(f"± {half:.3f}" if math.isfinite(half) else "undetermined" if _grouped(shift, symbol) else MISSING, half),
            Cell(str(data["materials"]), float(data["materials"])), Cell(text_of(effective, 1), effective),
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
        cells = [Cell(text_of(number(row[name]), 3), number(row[name])) for name in ("fitted", "source", "difference")]
        materials = Cell(str(data["materials"]), float(data["materials"]))
        leverage = Cell(f"{100 * share:.0f} %", share, aside=str(data["largest_material"]))
        body.append([Cell(symbol, float(z)), cells[0], Cell(text, std), materials, leverage, *cells[1:]])
    names = ("Element", "Fitted", "Std", "Materials", "Leverage", "Source", "Difference")
    units = ("", "eV", "eV", "", "largest share", "eV", "eV")
    return Table(list(zip(names, units, strict=True)), body)


def reference_note(shift: dict, low: str, high: str) -> str:
    """The origin of both columns of the table of references, and how to read it."""
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
    return Cell(text_of(number(row.get(name)), digits), number(row.get(name)), aside=interval_text(bounds, digits))


def outlying(left_over: np.ndarray) -> np.ndarray:
    """The pairs of the outlier table, furthest first."""
    return np.argsort(-np.abs(left_over), kind="stable")[:MOST]


def outlier_table(shift: dict) -> Table:
    """The pairs whose shift is furthest from a sum over elements."""
    left = np.asarray(shift["left_over"], dtype=float)
    body = [
        [
            Cell(str(shift["formula"][p])),
            Cell(text_of(left[p], 0, sign=True), float(left[p])),
            Cell(text_of(shift["shift_per_atom"][p], 3), float(shift["shift_per_atom"][p])),
            Cell(str(shift["frame_id"][p])),
            Cell(str(shift["material_id"][p])),
        ]
        for p in outlying(left)
    ]
    return Table([("Formula", ""), ("Left over", "meV/atom"), ("Shift", "eV/atom"), ("Frame", ""), ("Material", "")], body)


def text_of(value: float | int, digits: int, sign: bool = False) -> str:
    """A number with a true minus sign, or an em dash."""
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−") if math.isfinite(value) else MISSING


def interval_text(bounds: Sequence[float | None] | None, digits: int) -> str:
    """``"1.2 to 1.4"``, or nothing where no interval is known."""
    if bounds is None or not all(math.isfinite(number(end)) for end in bounds):
        return ""
    return " to ".join(text_of(number(end), digits) for end in bounds)
