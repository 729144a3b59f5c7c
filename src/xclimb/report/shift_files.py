"""Files of a shift folder: JSON, CSV tables, figures as SVG and PNG, and the page."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from xclimb.comparison.shift_report import ShiftReport
from xclimb.errors import DataError
from xclimb.files import to_csv
from xclimb.report.folder import number
from xclimb.report.html import replace_file
from xclimb.report.importance_figures import KINDS
from xclimb.report.pages import assemble, figures
from xclimb.report.shift_tables import FAMILY, NUMBERS, outlying
from xclimb.report.stability_figures import COLUMNS
from xclimb.report.static import write_figures


def write_shift(report: ShiftReport, folder: str | Path, page: str = "report.html") -> Path:
    """Write ``shift.json``, the tables of :func:`csv_files`, ``figures/*.svg`` and ``*.png``, and the page.

    Args:
        report: result of :func:`xclimb.shift`.
        folder: made if it is not there; older files of these names are replaced, each as a whole.
        page: name of the page.

    Returns:
        The page, one HTML file that works without network.

    Raises:
        DataError: if the folder cannot be written to.
    """
    place, plain = Path(folder), report.to_dict()
    written = {"shift.json": json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"} | csv_files(report)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            replace_file(place / name, text)
        write_figures(figures("shift", plain), place / "figures")
        replace_file(place / page, assemble("shift", plain))
    except OSError as error:
        raise DataError(f"{place} cannot be written to ({error.strerror}); name another folder with out=") from None
    return place / page


def csv_files(report: ShiftReport) -> dict[str, str]:
    """The report as flat tables: file name -> text."""
    errors = report.reference_depth.get("errors") or {}
    return {
        "numbers.csv": _numbers(report),
        "elements.csv": _elements(report),
        "references.csv": _references(report),
        "families.csv": _csv(
            ("family", *FAMILY), [(row["family"], *(_figure(row[n]) for n in FAMILY)) for row in report.families]
        ),
        "held_out.csv": _csv(("references", "held_out_mae_meV"), [(kind, _figure(error)) for kind, error in errors.items()]),
        "stability.csv": _stability(report.stability),
        "importance.csv": _importance(report.importance),
        "pairs.csv": _pairs(report, slice(None)),
        "outliers.csv": _pairs(report, outlying(report.left_over)),
        "advice.csv": _csv(("topic", "advice"), [(one["topic"], one["sentence"]) for one in report.advice]),
    }


def _stability(part_shift: dict) -> str:
    columns = [part_shift.get(name) or [] for name in COLUMNS]
    cells = (
        [value if isinstance(value, str) else _figure(number(value)) for value in row] for row in zip(*columns, strict=True)
    )
    return _csv(COLUMNS, cells)


def _importance(part_shift: dict) -> str:
    rows = [
        (kind, symbol, _figure(share), _figure(number(part["shapley"][symbol])))
        for kind, part in ((kind, part_shift.get(kind) or {}) for kind in KINDS)
        for symbol, share in part.get("importance", {}).items()
    ]
    return _csv(("corrections", "element", "importance", "shapley_meV"), rows)


def _numbers(report: ShiftReport) -> str:
    rows = [
        (name, _figure(getattr(report, name)), *map(_figure, report.intervals.get(name, (math.nan, math.nan))), unit)
        for name, (_, unit, _) in NUMBERS.items()
    ]
    return _csv(("number", "value", "low", "high", "unit"), rows)


def _elements(report: ShiftReport) -> str:
    rows = [
        (
            symbol,
            _figure(value),
            _figure(report.element_std[symbol]),
            *map(_figure, report.element_intervals[symbol]),
            *report.element_data[symbol].values(),
        )
        for symbol, value in report.elements.items()
    ]
    data = next(iter(report.element_data.values()), {})
    return _csv(("element", "shift_eV", "std_eV", "low_eV", "high_eV", *data), rows)


def _references(report: ShiftReport) -> str:
    rows = report.reference_rows.get("elements") or {}
    columns = ("fitted", "std", "source", "difference")
    body = [
        (symbol, *(_figure(row[name]) for name in columns), report.element_data[symbol]["materials"])
        for symbol, row in rows.items()
    ]
    return _csv(("element", *(f"{name}_eV" for name in columns), "materials"), body)


def _pairs(report: ShiftReport, chosen: slice | np.ndarray) -> str:
    columns = ("low_energy_per_atom", "high_energy_per_atom", "shift_per_atom", "left_over")
    names = [getattr(report, name)[chosen].tolist() for name in ("frame_id", "material_id", "formula")]
    numbers = [np.char.mod("%.10g", getattr(report, name)[chosen]).tolist() for name in columns]
    return _csv(("frame_id", "material_id", "formula", *columns[:3], "left_over_meV"), zip(*names, *numbers, strict=True))


def _csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    return to_csv([header, *rows])


def _figure(value: float | int) -> str:
    """A number for a spreadsheet; nothing where there is none."""
    return f"{value:.10g}" if math.isfinite(value) else ""
