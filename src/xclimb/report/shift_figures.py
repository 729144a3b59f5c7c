"""The figures of the shift page: pure functions from a shift report's dictionary to plotly figures."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from xclimb.report.folder import number
from xclimb.report.style import BASELINE, COLOURS, INK, MUTED, axis, axis_name, figure, log_ticks, panels

_BINS = 61
_NAMED = 40  # elements; more names would lie on each other
_MAIN, _HELD = COLOURS["residual"], COLOURS["scratch"]
KINDS = {
    "mean": "one constant shift",
    "raw": "references alone (raw)",
    "refit": "network with raw references",
    "residual": "residual references",
    "robust": "robust references",
    "quadratic": "control: quadratic in composition",
}


def histogram_bound(left_over: Sequence[float] | np.ndarray) -> tuple[float, int]:
    """Bound of the histogram, meV/atom, and the number of pairs beyond."""
    sizes = np.abs(np.asarray(left_over, dtype=float))
    if not len(sizes):
        return 1.0, 0
    bound = max(1e-3, 4.0 * float(np.median(sizes)) * 1.4826, 1.05 * float(np.quantile(sizes, 0.98)))
    return bound, int((sizes > bound).sum())


def left_over_histogram(shift: dict) -> go.Figure:
    """Residuals of the shift of each pair after references, meV/atom; the outermost bars hold all that lies beyond."""
    values = np.asarray(shift.get("left_over") or [], dtype=float)
    fig = figure(330, {"height": 280}, showlegend=False, bargap=0.06)
    bound, _ = histogram_bound(values)
    counts, edges = np.histogram(np.clip(values, -bound, bound), _BINS, (-bound, bound))
    fig.add_bar(
        x=0.5 * (edges[1:] + edges[:-1]), y=counts, marker={"color": _MAIN, "line": {"width": 0}},
        hovertemplate="%{x:.0f} meV/atom: %{y} pairs<extra></extra>",
    )  # fmt: skip
    sides = axis("left over of the shift (meV/atom)", range=[-1.03 * bound, 1.03 * bound])
    fig.update_layout(xaxis=sides, yaxis=axis("pairs"))
    return fig


def angle_histogram(shift: dict) -> go.Figure:
    """Histogram of the angle between the two forces on each atom, logarithmic."""
    counts = np.asarray(shift["force_angles"], dtype=float)
    step = 180.0 / len(counts)
    fig = figure(300, {"height": 260}, showlegend=False, bargap=0.06)
    fig.add_bar(
        x=step * (np.arange(len(counts)) + 0.5), y=[count or None for count in counts.tolist()],
        marker={"color": _MAIN, "line": {"width": 0}}, hovertemplate="%{x:.0f}°: %{y} atoms<extra></extra>",
    )  # fmt: skip
    there = [*counts[counts > 0].tolist(), 1.0]
    bounds = [-0.3, math.log10(max(there)) + 0.2]
    fig.update_layout(
        xaxis=axis("angle between the forces (degrees)", range=[0, 180], tickvals=list(range(0, 181, 30))),
        yaxis=axis("atoms", range=bounds, **log_ticks(there)),
    )
    return fig


def family_figure(families: Sequence[dict], interval: Sequence[float] | None = None) -> go.Figure:
    """Mean shift and residual of each chemical family, side by side; filled: in the fit, open: held out.

    Args:
        families: rows of a shift report.
        interval: ends of the 95 % interval of the whole set's residual, meV/atom, drawn as a band.
    """
    rows = list(families)[::-1]
    names = [f"{row['family']} ({row['n_pairs']:,})" for row in rows]
    height = 120 + 32 * len(rows)
    fig = figure(height, {"height": 2 * (80 + 28 * len(rows))}, showlegend=False)
    common: dict[str, Any] = {"tickvals": list(range(len(rows))), "range": [-0.6, len(rows) - 0.4]}
    panels(
        fig,
        ["<b>Mean shift</b> (eV/atom)", "<b>Left over</b> (meV/atom)"],
        [
            (axis(), axis(ticktext=[escape(name) for name in names], **common)),
            (axis(rangemode="tozero"), axis(showticklabels=False, ticktext=[escape(name) for name in names], **common)),
        ],
        gap=0.05,
        narrow_gap=0.14,
    )
    fig.layout.meta["narrow"][f"{axis_name('y', 2)}.showticklabels"] = True
    at = list(range(len(rows)))
    column = {name: [_none(row.get(name)) for row in rows] for name in ("mean", "std", "left_over_mae", "held_out_mae")}
    fig.add_scatter(
        x=column["mean"], y=at, mode="markers", marker={"size": 9, "color": _MAIN}, text=names,
        error_x={"type": "data", "array": column["std"], "color": MUTED, "thickness": 1.2, "width": 3},
        hovertemplate="%{text}: %{x:.3f} eV/atom<extra></extra>",
    )  # fmt: skip
    if interval and all(math.isfinite(number(end)) for end in interval):
        box = {"type": "rect", "xref": "x2", "yref": "y2 domain", "x0": interval[0], "x1": interval[1], "y0": 0, "y1": 1}
        fig.add_shape(**box, fillcolor=BASELINE, opacity=0.22, line={"width": 0}, layer="below")
    bounds = [(row.get("intervals") or {}).get("left_over_mae") for row in rows]
    known = [
        (place, pair) for place, pair in zip(at, bounds, strict=True) if pair and all(math.isfinite(number(e)) for e in pair)
    ]
    fig.add_scatter(
        x=[end for _, (low, high) in known for end in (low, high, None)], mode="lines+markers", hoverinfo="skip",
        y=[end for place, _ in known for end in (place, place, None)], line={"color": MUTED, "width": 1.5},
        marker={"symbol": "line-ns-open", "size": 6, "color": MUTED}, xaxis="x2", yaxis="y2",
    )  # fmt: skip
    for name, symbol in (("left_over_mae", "circle"), ("held_out_mae", "circle-open")):
        fig.add_scatter(
            x=column[name], y=at, mode="markers", xaxis="x2", yaxis="y2", text=names,
            marker={"size": 9, "color": _MAIN, "symbol": symbol, "line": {"width": 2, "color": _MAIN}},
            hovertemplate="%{text}: %{x:.1f} meV/atom<extra></extra>",
        )  # fmt: skip
    return fig


def held_out_figure(errors: dict) -> go.Figure:
    """Errors of the kinds of references on held-out materials, logarithmic, each with its number.

    Args:
        errors: kind -> meV/atom.
    """
    kinds = [kind for kind in KINDS if number(errors.get(kind)) > 0][::-1]
    fig = figure(110 + 34 * len(kinds), {"margin.r": 44, "height": 110 + 42 * len(kinds)}, showlegend=False)
    values = [float(errors[kind]) for kind in kinds]
    if not values:
        return fig
    span = [math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.35]
    fig.update_layout(
        xaxis=axis("error on held-out materials (meV/atom)", range=span, **log_ticks(values, decades=1.7)),
        yaxis=axis(tickvals=list(range(len(kinds))), ticktext=[KINDS[k] for k in kinds], range=[-0.6, len(kinds) - 0.4]),
    )
    broken = [KINDS[k].replace(" (", "<br>(").replace(": ", ":<br>").replace(" in composition", "") for k in kinds]
    fig.layout.meta["narrow"].update({"yaxis.ticktext": [text.replace(" references", "<br>references") for text in broken]})
    for place, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        tint = _HELD if kind == "quadratic" else _MAIN if kind in ("residual", "robust") else BASELINE
        fig.add_scatter(
            x=[value], y=[place], mode="markers+text", marker={"size": 10, "color": tint}, text=[f"  {value:.0f}"],
            textposition="middle right", textfont={"color": INK, "size": 12}, cliponaxis=False,
            hovertemplate=f"{KINDS[kind]}: %{{x:.1f}} meV/atom<extra></extra>",
        )  # fmt: skip
    return fig


def trend_figure(shift: dict) -> go.Figure:
    """Shift of each element against its atomic number, with 95 % intervals; undetermined elements are left out."""
    from ase.data import atomic_numbers

    grouped = {symbol for group in shift.get("undetermined") or () for symbol in group}
    known = [symbol for symbol in shift["elements"] if symbol in atomic_numbers and symbol not in grouped]
    fig = figure(380, {"height": 320}, showlegend=False)
    fig.update_layout(xaxis=axis("atomic number"), yaxis=axis("shift of the element (eV)"))
    if not known:
        return fig
    values = np.array([float(shift["elements"][symbol]) for symbol in known])
    bounds = [(shift.get("element_intervals") or {}).get(symbol) or (None, None) for symbol in known]
    half = [0.5 * (number(b) - number(a)) for a, b in bounds]
    bars = {"type": "data", "array": [_none(one) for one in half], "color": MUTED, "thickness": 1.2, "width": 3}
    at = [atomic_numbers[symbol] for symbol in known]
    fig.add_scatter(
        x=at, y=values, text=known, mode="markers", marker={"size": 7, "color": _MAIN}, error_y=bars,
        hovertemplate="<b>%{text}</b> %{y:.3f} eV<extra></extra>",
    )  # fmt: skip
    if len(known) <= _NAMED:  # names above the intervals
        top = values + np.nan_to_num(np.array(half))
        names = {"size": 10, "color": MUTED}
        fig.add_scatter(x=at, y=top, text=known, mode="text", textposition="top center", textfont=names, hoverinfo="skip")
        fig.layout.meta["narrow"].update({"data.1.textfont.size": 8})
    return fig


def _none(value) -> float | None:
    """A number for plotly: None where there is none."""
    text = number(value)
    return text if math.isfinite(text) else None
