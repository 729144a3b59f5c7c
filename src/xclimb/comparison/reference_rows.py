"""References fitted to the pairs beside those of a source, element by element."""

import math
from dataclasses import dataclass

import numpy as np

from xclimb.references import AtomRef
from xclimb.references.linear import Design, FractionFit, fit_fractions, least_squares
from xclimb.references.table import element_symbols


@dataclass(frozen=True, eq=False)
class Source:
    """A potential whose table is set beside the fitted one.

    Args:
        name: as the user named it.
        references: its table.
        predicted: whether the low level are its predictions, so that the shift corrects its table.
    """

    name: str
    references: AtomRef
    predicted: bool = False


def reference_rows(
    design: Design, shift: FractionFit, energies: tuple[np.ndarray, np.ndarray], source: Source | None = None
) -> dict:
    """References that a transfer would start from, beside those that it replaces.

    Args:
        design: compositions of the pairs.
        shift: the per-element fit of the shift.
        energies: low and high, eV/atom ``[P]`` each.
        source: a potential; without one the references fitted to the low level stand in its place.

    Returns:
        ``kind``: ``"residual"`` where the low level are the source's predictions (its table plus the shift), else ``"raw"``
        (the high energies alone); ``source``: its name, empty for the fit to the low level; ``elements``: symbol ->
        ``{"fitted", "std", "source", "difference"}``, eV; std is inf where undetermined, the last two are NaN where the source
        has no value.
    """
    low, high = energies
    table = least_squares(design, low)[0] if source is None else source.references.values[design.elements]
    if source is not None and source.predicted:
        kind, fitted, stds = "residual", table + shift.values, shift.stds
    else:
        raw = fit_fractions(design, high)
        kind, fitted, stds = "raw", raw.values, raw.stds
    symbols = element_symbols()
    columns = zip(fitted.tolist(), stds.tolist(), table.tolist(), strict=True)
    rows = {
        symbols[z]: {"fitted": value, "std": std, "source": known, "difference": value - known}
        for z, (value, std, known) in zip(design.elements.tolist(), columns, strict=True)
    }
    return {"kind": kind, "source": source.name if source else "", "elements": rows}


def from_builtin(rows: dict, undetermined: set[str]) -> dict:
    """Rows read from JSON, with null turned back into the numbers that are not finite."""
    if not rows:
        return {}
    blank = {symbol: math.inf if symbol in undetermined else math.nan for symbol in rows["elements"]}
    elements = {
        symbol: {name: math.nan if value is None else value for name, value in row.items()}
        | {"std": blank[symbol] if row["std"] is None else row["std"]}
        for symbol, row in rows["elements"].items()
    }
    return rows | {"elements": elements}
