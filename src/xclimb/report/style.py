"""Style of the report's figures: colours with their dark twins, axes, panels that stack on narrow screens, ticks.

Colours are written in their light form. ``DARK`` maps each of them to its dark twin; the page exchanges them when the
colour scheme changes.
"""

import math
from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from xclimb.transfer.methods import METHODS

INK, MUTED, GRID, SURFACE, EMPTY = "#1d2430", "#667085", "#e4e7ec", "#fefefe", "#eff1f4"
_PALETTE = (
    "#c2410c", "#b7860b", "#7c4dbd", "#12876f", "#2563c9", "#c2417c", "#4d7c0f",
    "#0e7490", "#9f1239", "#7c4a21", "#1e3a8a",
)  # fmt: skip
_FIRST = ("scratch", "trainable", "frozen", "refit", "l2sp", "head", "lora", "residual")  # keep their colours when others come
COLOURS = dict(zip(sorted(METHODS, key=lambda name: name not in _FIRST), cycle(_PALETTE), strict=False))  # of methods
BASELINE = "#7a8496"
ON_MIDDLE, ON_STRONG = "#1b2230", "#ffffff"  # words on a coloured cell; on a pale one: INK
_SCALE = {"low": "#2458a8", "low2": "#9dbfec", "zero": "#eef1f5", "high2": "#efb391", "high": "#b5401b"}
DARK = {
    INK: "#e6e9ef", MUTED: "#98a2b3", GRID: "#2c323d", SURFACE: "#171b22", EMPTY: "#20252e", BASELINE: "#8d97a8",
    "#c2410c": "#f0814a", "#b7860b": "#dbb13a", "#7c4dbd": "#b392f0", "#12876f": "#3cc0a2", "#2563c9": "#6aa2f7",
    "#c2417c": "#f07fb0", "#4d7c0f": "#9bc53d", "#0e7490": "#4cc3dc", "#9f1239": "#f2738c",
    "#7c4a21": "#c99a6b", "#1e3a8a": "#93a9f0",
    ON_MIDDLE: "#11151b", ON_STRONG: "#11151b",
    "#2458a8": "#8ab8ff", "#9dbfec": "#33598f", "#eef1f5": "#262c37", "#efb391": "#8f4a28", "#b5401b": "#ffab85",
}  # fmt: skip
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colour(model: str) -> str:
    """The colour of a method, the same in every figure; baselines are grey, unknown methods get one by their name."""
    if model in COLOURS:
        return COLOURS[model]
    return BASELINE if "-" in model or "+" in model else _PALETTE[sum(model.encode()) % len(_PALETTE)]


def figure(height: int, narrow: dict | None = None, **layout) -> go.Figure:
    """An empty figure in the house style; template-free, so that every colour is one that DARK knows."""
    return go.Figure(
        layout={
            "template": "none", "height": height, "autosize": True, "paper_bgcolor": SURFACE, "plot_bgcolor": SURFACE,
            "font": {"family": _FONT, "size": 13, "color": INK}, "margin": {"l": 58, "r": 16, "t": 34, "b": 48},
            "hoverlabel": {"bgcolor": SURFACE, "bordercolor": GRID, "font": {"color": INK, "family": _FONT, "size": 13}},
            "legend": {"orientation": "h", "x": 0, "y": -0.17, "yanchor": "top", "itemsizing": "constant"},
            "meta": {"narrow": {"dragmode": False, "margin.l": 50, "margin.r": 8, **(narrow or {})}}, **layout,
        }
    )  # fmt: skip


def axis(title: str = "", **fields) -> dict:
    """A Cartesian axis in the house style."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 8}, "gridcolor": GRID, "linecolor": GRID,
        "zeroline": False, "showline": True, "ticks": "", "tickfont": {"size": 12, "color": MUTED}, "automargin": True,
        **fields,
    }  # fmt: skip


def shares(n: int, gap: float) -> list[list[float]]:
    """n equal parts of [0, 1] with gaps between."""
    width = (1 - gap * (n - 1)) / n
    return [[i * (width + gap), min(1.0, i * (width + gap) + width)] for i in range(n)]


def axis_name(letter: str, n: int) -> str:
    """The layout's key of the n-th axis: ``xaxis``, ``xaxis2``, ..."""
    return f"{letter}axis" + ("" if n == 1 else str(n))


def panels(
    fig: go.Figure, titles: Sequence[str], axes: Sequence[tuple[dict, dict]], gap: float = 0.09, narrow_gap: float = 0.16
) -> None:
    """Put titled panels side by side; under each other on a narrow screen."""
    n = max(1, len(titles))
    side, stacked = shares(n, gap), shares(n, narrow_gap)[::-1]
    for i, (title, (x, y)) in enumerate(zip(titles, axes, strict=True), start=1):
        suffix = "" if i == 1 else str(i)
        fig.update_layout({
            axis_name("x", i): {**x, "domain": side[i - 1], "anchor": f"y{suffix}"},
            axis_name("y", i): {**y, "domain": [0, 1], "anchor": f"x{suffix}"},
        })  # fmt: skip
        fig.layout.meta["narrow"].update({
            f"{axis_name('x', i)}.domain": [0, 1], f"{axis_name('y', i)}.domain": stacked[i - 1],
        })  # fmt: skip
        panel_title(fig, title, suffix)


def panel_title(fig: go.Figure, title: str, suffix: str) -> None:
    """A title at the upper left of a panel, which follows it when panels are stacked."""
    fig.add_annotation(
        text=title, xref=f"x{suffix} domain", yref=f"y{suffix} domain", x=0, y=1, xanchor="left", yanchor="bottom",
        showarrow=False, yshift=5, font={"size": 13, "color": INK},
    )  # fmt: skip


def log_ticks(values: Sequence[float], decades: float = 1.7, fine: float = 0.8) -> dict:
    """A logarithmic axis with full numbers as ticks: 1, 2, 5, 10 ...; 1, 10, 100 beyond that many ``decades``.

    Below ``fine`` decades there are ticks between 1, 2, 5 as well.
    """
    finite = [value for value in values if value > 0]
    if not finite:
        return {"type": "log"}
    low, high = math.log10(min(finite)), math.log10(max(finite))
    steps = (1, 2, 3, 4, 5, 6, 8) if high - low < fine else (1, 2, 5) if high - low < decades else (1,)
    ticks = [step * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 2) for step in steps]
    if high - low < 0.25:  # not even two of those may fall into the range
        digits = 2 if high - low > 0.1 else 4
        ticks = sorted({float(f"{10 ** (low + k * (high - low) / 3):.{digits}g}") for k in range(4)})
    text = [f"{tick:g}" if tick < 1e6 else f"{tick:.0e}" for tick in ticks]
    return {"type": "log", "tickvals": ticks, "ticktext": text, "tickangle": 0}


def colour_scale(values: list[float]) -> dict:
    """Pale at zero: one hue when all values have one sign, two hues that meet at zero when they have both."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    bound = max(abs(low), abs(high)) or 1.0
    below: list[list] = [[0, _SCALE["low"]], [0.5, _SCALE["low2"]], [1, _SCALE["zero"]]]
    above: list[list] = [[0, _SCALE["zero"]], [0.5, _SCALE["high2"]], [1, _SCALE["high"]]]
    if high <= 0:
        return {"colorscale": below, "zmin": -bound, "zmax": 0}
    if low >= 0:
        return {"colorscale": above, "zmin": 0, "zmax": bound}
    both = [[at / 2, name] for at, name in below[:2]] + [[0.5 + at / 2, name] for at, name in above]
    return {"colorscale": both, "zmin": -bound, "zmax": bound}


def words_on(share: float) -> str:
    """The colour of words on a cell of the colour scale, readable in both schemes.

    Args:
        share: of the way from zero to the strongest colour, 0 to 1.
    """
    return INK if share < 0.68 else ON_MIDDLE if share < 0.8 else ON_STRONG


def colour_bar(title: str) -> dict:
    """A horizontal bar in the empty corner above the transition metals."""
    return {
        "orientation": "h", "x": 0.39, "xanchor": "center", "y": 0.86, "yanchor": "middle", "len": 0.42, "thickness": 9,
        "outlinewidth": 0, "title": {"text": title, "side": "top", "font": {"size": 12, "color": MUTED}},
        "tickfont": {"size": 11, "color": MUTED}, "nticks": 6, "ticks": "",
    }  # fmt: skip
