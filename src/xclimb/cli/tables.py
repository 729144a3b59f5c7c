"""Tables and number formats of the terminal: aligned columns, units in the headers, a dash where there is no number."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from xclimb.evaluation.metrics import Metrics

NONE = "-"
# attribute of Metrics, header, decimals
ERRORS = (
    ("energy_mae", "energy\nMAE\nmeV/atom", 1),
    ("energy_means_mae", "materials'\nmeans\nmeV/atom", 1),
    ("energy_within_mae", "within\nmaterials\nmeV/atom", 1),
    ("forces_mae", "forces\nMAE\nmeV/Å", 1),
    ("stress_mae", "stress\nMAE\nGPa", 3),
    ("magmom_mae", "magmom\nMAE\nµB", 3),
)


def make_table(*headers: str, title: str | None = None, left: Sequence[int] = (0,)) -> "Table":
    """An empty table; columns are for numbers (right-aligned, never broken) except those listed in ``left``."""
    from rich import box
    from rich.table import Table

    gap = (0, 1, 0, 0)  # two blanks between columns: most tables then fit a screen of 80
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False, padding=gap)
    for place, header in enumerate(headers):
        on_left = place in left
        justify: Any = "left" if on_left else "right"
        table.add_column(header, justify=justify, no_wrap=not on_left, overflow="fold", vertical="top")
    return table


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """A number with fixed decimals, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:{'+' if sign else ''}z.{digits}f}"  # z: no minus before what is rounded to zero


def count(value: int) -> str:
    """A whole number with thin groups of three: ``1 580 395``."""
    return f"{value:,}".replace(",", " ")


def spread(mean: float | None, std: float | None, digits: int) -> str:
    """``12.3 ± 0.4``, or the mean alone where there is no spread."""
    text = number(mean, digits)
    return text if std is None or not math.isfinite(std) or text == NONE else f"{text} ± {number(std, digits)}"


def listed(names: Iterable[Any], most: int = 12) -> str:
    """``a, b, c and 5 more``."""
    every = [str(name) for name in names]
    rest = len(every) - most
    return ", ".join(every) if rest <= 0 else f"{', '.join(every[:most])} and {rest} more"


def metrics_table(rows: Iterable[tuple[str, "Metrics"]], title: str | None = None, first: str = "") -> "Table":
    """Errors of models, one row each."""
    table = make_table(first, *(header for _, header, _ in ERRORS), "frames", title=title)
    for name, metrics in rows:
        errors = [number(getattr(metrics, attribute), digits) for attribute, _, digits in ERRORS]
        table.add_row(name, *errors, count(metrics.n_frames))
    return table


def fresh_file(path: Path, overwrite: bool) -> Path:
    """A file that may be written, see :func:`xclimb.files.check_writable`."""
    from xclimb.files import check_writable

    check_writable(path, overwrite)
    return path


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file, whole or not at all."""
    from xclimb.files import write_file

    write_file(path, text)


def to_json(value: Any) -> bytes:
    """JSON of nested values, see :func:`xclimb.files.to_json`."""
    from xclimb.files import to_json

    return to_json(value)
