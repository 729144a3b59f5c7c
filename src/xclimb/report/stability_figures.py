"""Stability on the shift page: formation and decomposition energies of both levels, and what changes side of the hull."""

import numpy as np
import plotly.graph_objects as go

from xclimb.report.figures import MAX_POINTS
from xclimb.report.folder import number
from xclimb.report.html import sentence
from xclimb.report.style import COLOURS, MUTED, axis, axis_name, figure, panels
from xclimb.report.tables import Cell, Table

_MAIN, _MOVED = COLOURS["residual"], COLOURS["scratch"]
_QUANTITIES = ("formation", "decomposition")
COLUMNS = ("material_id", "formula", "formation_low", "formation_high", "decomposition_low", "decomposition_high")


def stability_figures(shift: dict, low: str, high: str) -> dict[str, go.Figure]:
    """High against low formation and decomposition energies; nothing where the shift has none."""
    results = shift.get("stability") or {}
    if "material_id" not in results:
        return {}
    titles = [f"<b>{name.capitalize()} energy</b>   MAE {number(results[f'{name}_mae']):.0f} meV/atom" for name in _QUANTITIES]
    fig = figure(430, {"height": 720}, showlegend=False)
    panels(fig, titles, [(axis(f"{low} (eV/atom)"), axis(f"{high} (eV/atom)")) for _ in titles])
    moved = {one["material_id"] for one in results["changed"]}
    for place, name in enumerate(_QUANTITIES, start=1):
        _scatter(fig, results, name, moved, "" if place == 1 else str(place))
    return {"stability": fig}


def _scatter(fig: go.Figure, results: dict, name: str, moved: set[str], suffix: str) -> None:
    x, y = (np.array([number(value) for value in results[f"{name}_{side}"]]) for side in ("low", "high"))
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    there = there[np.unique(np.linspace(0, len(there) - 1, min(len(there), MAX_POINTS)).astype(int))]
    if not len(there):
        return
    axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    bounds = _range(np.concatenate([x[there], y[there], [0.0]]))
    fig.update_layout({axis_name(letter, 1 if not suffix else int(suffix)): {"range": bounds} for letter in "xy"})
    fig.add_scatter(
        x=bounds, y=bounds, mode="lines", line={"color": MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip", **axes
    )
    if name == "decomposition":  # the hull of either side
        fig.update_layout({axis_name(letter, int(suffix)): {"zeroline": True, "zerolinecolor": MUTED} for letter in "xy"})
    names = [str(results["material_id"][r]) for r in there]
    fig.add_scatter(
        x=x[there], y=y[there], mode="markers", text=[f"{results['formula'][r]} ({results['material_id'][r]})" for r in there],
        marker={"size": 6, "color": [_MOVED if one in moved else _MAIN for one in names], "opacity": 0.75},
        hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f} eV/atom<extra></extra>", **axes,
    )  # fmt: skip


def _range(values: np.ndarray) -> list[float]:
    """Range of both axes: all values, with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.05
    return [low - margin, high + margin]


def stability_caption(shift: dict) -> str:
    """Caption of the figure, or the reason that there is none."""
    results = shift.get("stability") or {}
    if "material_id" not in results:
        return sentence(results.get("absent", "This shift holds no formation energies."))
    supplied = [symbol for symbol, row in results["end_points"].items() if row["supplied"]]
    bounds = f"end points supplied: {', '.join(supplied)}" if supplied else "all end points from the data"
    drawn = f"; {MAX_POINTS:,} of them are drawn" if results["n_compounds"] > MAX_POINTS else ""
    moved = "those on one side only are orange" if results["changed"] else "none is on one side only"
    stable = (
        f"{results['n_stable_low']:,} of {results['n_hull']:,} on the low side, {results['n_stable_high']:,} on the high side"
    )
    return (
        f"{results['n_compounds']:,} compounds of {results['n_systems']:,} chemical systems ({bounds}{drawn}); dotted: equal "
        "energies. Right: the distance to the convex hull (lines at zero), negative for what is stable; on the hull are "
        f"{stable}; {moved}."
    )


def changed_table(shift: dict) -> Table | None:
    """The compounds on the hull of one level only; None if there are none."""
    changed = (shift.get("stability") or {}).get("changed") or []
    if not changed:
        return None
    body = [
        [
            Cell(one["formula"], aside=one["material_id"]),
            *(Cell(f"{one[side]:+.0f}".replace("-", "−"), one[side]) for side in ("low", "high")),
            Cell(one["stable_on"]),
        ]
        for one in changed
    ]
    return Table([("Formula", ""), ("Low", "meV/atom"), ("High", "meV/atom"), ("Stable on", "side")], body)
