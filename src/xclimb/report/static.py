"""The page's figures as SVG and PNG files, by matplotlib: plotly itself needs a browser (kaleido) to write pictures.

Read from the finished plotly figure, so that each figure is written once: whatever the report draws (scatter, bar and heatmap
traces on Cartesian axes, annotations, shapes) has a counterpart here, and anything else is an error, not a gap.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from xclimb.report.html import replace_file
from xclimb.report.style import BASELINE, INK, MUTED, SURFACE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "png")
_WIDTH = 1016  # px: as wide as on the page
_INCH, _POINT = 100.0, 0.72  # px of an inch, points of a px
_SHARP = 170  # dots an inch of a PNG
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "xclimb", "font.sans-serif": ["DejaVu Sans"], "axes.unicode_minus": True}
_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "x": "x", "cross": "P", "star": "*", "line-ns": "|", "line-ew": "_"}
_DASHES = {"solid": "-", "dot": ":", "dash": "--", "dashdot": "-."}
_BOLD = re.compile(r"<b>(.*?)</b>(.*)", re.S)


def write_figures(drawn: dict[str, go.Figure], folder: Path) -> list[Path]:
    """Write each figure as ``NAME.svg`` and ``NAME.png``; each file is replaced whole.

    Args:
        drawn: name -> a figure of the report.
        folder: made if it is not there.

    Raises:
        OSError: if the folder cannot be written to.
        ValueError: on a trace that only a browser can draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in drawn.items():
        for suffix, content in pictures(figure).items():
            written.append(folder / f"{name.replace(':', '-')}.{suffix}")
            replace_file(written[-1], content)
    return written


def pictures(figure: go.Figure) -> dict[str, bytes]:
    """One figure in its light colours: ``"svg"`` and ``"png"`` -> content of the file."""
    import matplotlib

    pictures_by_format = {}
    with matplotlib.rc_context(_SETTINGS):
        drawing = _drawing(figure)
        box = drawing.get_tightbbox().padded(0.1)  # includes what is beyond the margins; computed once for all formats
        for suffix in FORMATS:
            file = io.BytesIO()
            dated = {"Date": None} if suffix == "svg" else {}
            drawing.savefig(file, format=suffix, dpi=_SHARP, bbox_inches=box, metadata=dated)
            pictures_by_format[suffix] = file.getvalue()
    return pictures_by_format


def _drawing(figure: go.Figure) -> "Figure":
    from matplotlib.figure import Figure

    for trace in figure.data:
        if trace.type not in _TRACES:
            raise ValueError(f"{trace.type} traces can be drawn by a browser only: known are {', '.join(_TRACES)}")
    layout = figure.layout.to_plotly_json()
    height = float(layout.get("height") or 400)
    drawing = Figure(figsize=(_WIDTH / _INCH, height / _INCH), dpi=_INCH, facecolor=SURFACE)
    panels: dict[str, Axes] = {}
    for n in sorted({trace.xaxis or "x" for trace in figure.data} | {"x"}):
        suffix = n.removeprefix("x")
        panels[suffix] = _panel(drawing, layout, suffix, height)
    for trace in figure.data:
        _TRACES[trace.type](panels[(trace.xaxis or "x").removeprefix("x")], trace.to_plotly_json(), layout)
    for suffix, axes in panels.items():
        _scale(axes, layout.get(f"xaxis{suffix}") or {}, "x")
        _scale(axes, layout.get(f"yaxis{suffix}") or {}, "y")
    for shape in layout.get("shapes") or ():
        _shape(panels[str(shape.get("xref", "x")).split()[0].removeprefix("x")], shape)
    for note in layout.get("annotations") or ():
        _note(panels[str(note.get("xref", "x")).split()[0].removeprefix("x").replace("paper", "")], note)
    _legend(drawing, figure, panels[""])
    return drawing


def _panel(drawing: "Figure", layout: dict, suffix: str, height: float) -> "Axes":
    """Empty axes where plotly puts them: their share of what the margins leave."""
    x, y = layout.get(f"xaxis{suffix}") or {}, layout.get(f"yaxis{suffix}") or {}
    margin = {"l": 80, "r": 80, "t": 100, "b": 80} | (layout.get("margin") or {})
    left, low = margin["l"] / _WIDTH, margin["b"] / height
    wide, high = 1 - left - margin["r"] / _WIDTH, 1 - low - margin["t"] / height
    (x0, x1), (y0, y1) = x.get("domain") or (0, 1), y.get("domain") or (0, 1)
    axes = drawing.add_axes((left + x0 * wide, low + y0 * high, (x1 - x0) * wide, (y1 - y0) * high))
    axes.set_facecolor(SURFACE)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=x.get("linecolor", MUTED))
    if x.get("visible") is False:
        axes.axis("off")
    if x.get("type") == "log":
        axes.set_xscale("log")
    if y.get("type") == "log":
        axes.set_yscale("log")
    return axes


def _scale(axes: "Axes", fields: dict, letter: str) -> None:
    """Range, ticks, grid and title of one axis."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    log, bounds = fields.get("type") == "log", fields.get("range")
    lim = axes.set_xlim if letter == "x" else axes.set_ylim
    if bounds is not None:
        lim(*(10.0 ** np.array(bounds, dtype=float) if log else bounds))
    elif fields.get("rangemode") == "tozero":
        low, high = axes.get_xlim() if letter == "x" else axes.get_ylim()
        lim(min(0.0, low), max(0.0, high))
    axis = axes.xaxis if letter == "x" else axes.yaxis
    if fields.get("tickvals") is not None:
        limits = (axes.get_xlim() if letter == "x" else axes.get_ylim())[:]
        axis.set_major_locator(FixedLocator(list(fields["tickvals"])))
        texts = fields.get("ticktext")
        axis.set_ticklabels([_plain(text) for text in (fields["tickvals"] if texts is None else texts)])
        axis.set_minor_locator(NullLocator())
        lim(*limits)
    elif not log:
        axis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    shown = fields.get("showticklabels") is not False
    size, tint = _font(fields.get("tickfont"))
    axis.set_tick_params(length=0, labelsize=size, labelcolor=tint, pad=5)
    if not shown:
        axis.set_ticklabels([])
    axis.grid(fields.get("showgrid") is not False, color=fields.get("gridcolor", MUTED), linewidth=0.7)
    title = fields.get("title") or {}
    if title.get("text"):
        size, tint = _font(title.get("font"))
        axis.set_label_text(_plain(title["text"]), fontsize=size, color=tint)
    if fields.get("zeroline"):
        (axes.axvline if letter == "x" else axes.axhline)(0.0, color=fields.get("zerolinecolor", MUTED), linewidth=0.8)


# -- traces -------------------------------------------------------------------------------------------


def _scatter(axes: "Axes", fields: dict, layout: dict) -> None:
    x, y = (_numbers(fields.get(name)) for name in "xy")
    if not len(x) or not np.isfinite(x).any():
        return
    mode, opacity = str(fields.get("mode") or "lines"), fields.get("opacity", 1.0)
    line, marker = fields.get("line") or {}, fields.get("marker") or {}
    if fields.get("fill") == "toself":
        axes.fill(x, y, color=fields.get("fillcolor", BASELINE), alpha=opacity, linewidth=0)
    if "lines" in mode and line.get("width", 2):
        style = {"linestyle": _DASHES.get(line.get("dash", "solid"), "-"), "linewidth": _POINT * line.get("width", 2)}
        axes.plot(x, y, color=line.get("color", INK), alpha=opacity, **style)
    _error_bars(axes, fields, x, y)
    size = marker.get("size", 6)
    if "markers" in mode:
        _marks(axes, fields, x, y, marker)
    if "text" in mode:
        _words(axes, fields, x, y, float(np.max(size)) if "markers" in mode else 0.0)


def _marks(axes: "Axes", fields: dict, x: np.ndarray, y: np.ndarray, marker: dict) -> None:
    symbol, edge = str(marker.get("symbol", "circle")), marker.get("line") or {}
    is_open, tint = symbol.endswith("-open"), marker.get("color", INK)
    shape = _MARKERS[symbol.removesuffix("-open")]
    points = (_POINT * np.asarray(marker.get("size", 6), dtype=float)) ** 2
    outline = {"linewidths": _POINT * edge.get("width", 1.5 if is_open else 0)}
    if shape not in "|_x":
        outline |= {"edgecolors": edge.get("color", tint), "facecolors": "none" if is_open else tint}
    else:
        outline |= {"c": tint}
    alpha = fields.get("opacity", 1.0) * marker.get("opacity", 1.0)
    axes.scatter(x, y, s=points, marker=shape, alpha=alpha, zorder=3, clip_on=fields.get("cliponaxis") is not False, **outline)


def _error_bars(axes: "Axes", fields: dict, x: np.ndarray, y: np.ndarray) -> None:
    for letter in "xy":
        bars = fields.get(f"error_{letter}") or {}
        if bars.get("array") is None:
            continue
        half = np.nan_to_num(_numbers(bars["array"]))
        look = {"ecolor": bars.get("color", MUTED), "elinewidth": _POINT * bars.get("thickness", 2)}
        axes.errorbar(x, y, **{f"{letter}err": half}, fmt="none", capsize=_POINT * bars.get("width", 4), zorder=2, **look)


def _words(axes: "Axes", fields: dict, x: np.ndarray, y: np.ndarray, size: float) -> None:
    vertical, horizontal = str(fields.get("textposition") or "middle center").split()
    apart = _POINT * (0.5 * size + 3)
    across, up = (
        {"left": -apart, "right": apart, "center": 0}[horizontal],
        {"top": apart, "bottom": -apart, "middle": 0}[vertical],
    )
    font = fields.get("textfont") or {}
    points, tint = _font(font)
    tints = tint if isinstance(tint, list | tuple | np.ndarray) else [tint] * len(x)
    texts = fields["text"]
    for a, b, text, colour in zip(x, y, [texts] * len(x) if isinstance(texts, str) else texts, tints, strict=True):
        axes.annotate(
            _plain(text).strip(), (a, b), (across, up), textcoords="offset points", fontsize=points, color=colour, zorder=4,
            ha={"left": "right", "right": "left", "center": "center"}[horizontal], linespacing=1.15,
            va={"top": "bottom", "bottom": "top", "middle": "center"}[vertical], annotation_clip=False,
        )  # fmt: skip


def _bar(axes: "Axes", fields: dict, layout: dict) -> None:
    lying = fields.get("orientation") == "h"
    place, length = (_numbers(fields[name]) for name in ("yx" if lying else "xy"))
    step = float(np.diff(np.sort(place)).min(initial=math.inf)) if len(place) > 1 else 1.0
    width = step * (1 - (layout.get("bargap") or 0.2)) if fields.get("width") is None else fields["width"]
    tint = (fields.get("marker") or {}).get("color", BASELINE)
    _error_bars(axes, fields, *((length, place) if lying else (place, length)))
    (axes.barh if lying else axes.bar)(place, length, width, color=tint, linewidth=0)


def _heatmap(axes: "Axes", fields: dict, layout: dict) -> None:
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    z = np.asarray(fields["z"], dtype=float)
    x, y = (
        _numbers(fields.get(name)) if fields.get(name) is not None else np.arange(n)
        for name, n in zip("xy", z.shape[::-1], strict=True)
    )
    scale = fields.get("colorscale") or [[0, SURFACE], [1, INK]]
    colours = LinearSegmentedColormap.from_list("scale", [(float(at), tint) for at, tint in scale])
    finite = z[np.isfinite(z)]
    low, high = fields.get("zmin"), fields.get("zmax")
    norm = Normalize(*((low, high) if low is not None else (finite.min(initial=0.0), finite.max(initial=1.0))))
    mesh = axes.pcolormesh(
        x, y, np.ma.masked_invalid(z), cmap=colours, norm=norm, edgecolors=SURFACE, linewidth=_POINT * fields.get("xgap", 0)
    )
    if fields.get("texttemplate") and fields.get("text") is not None:
        rows, columns = np.nonzero(np.isfinite(z))
        texts = [fields["text"][row][column] for row, column in zip(rows, columns, strict=True)]
        _words(axes, {"text": texts, "textfont": fields.get("textfont")}, x[columns], y[rows], 0.0)
    bar = fields.get("colorbar")
    if bar and fields.get("showscale") is not False:
        _colour_bar(axes, mesh, bar)


def _colour_bar(axes: "Axes", mesh: Any, bar: dict) -> None:
    """A bar along its axis of the panel; where it stands is a share of the panel, as in plotly."""
    lying = bar.get("orientation") == "h"
    box = axes.get_position()
    thick = bar.get("thickness", 30) / _INCH / axes.figure.get_size_inches()[1 if lying else 0]
    x, y, long = bar.get("x", 0.5 if lying else 1.02), bar.get("y", 1.02 if lying else 0.5), bar.get("len", 1.0)
    if lying:
        place = (box.x0 + (x - 0.5 * long) * box.width, box.y0 + y * box.height - 0.5 * thick, long * box.width, thick)
    else:
        place = (box.x0 + x * box.width, box.y0 + (y - 0.5 * long) * box.height, thick, long * box.height)
    made = axes.figure.colorbar(mesh, cax=axes.figure.add_axes(place), orientation="horizontal" if lying else "vertical")
    made.outline.set_visible(False)
    size, tint = _font(bar.get("tickfont"))
    made.ax.tick_params(length=0, labelsize=size, labelcolor=tint)
    title = bar.get("title") or {}
    size, tint = _font(title.get("font"))
    made.ax.set_title(_plain(title.get("text", "")), fontsize=size, color=tint, pad=4)


_TRACES: dict[str, Callable[["Axes", dict, dict], None]] = {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap}


# -- around the traces ----------------------------------------------------------------------------------


def _shape(axes: "Axes", fields: dict) -> None:
    """A rectangle or a line; a reference that ends in "domain" counts in shares of the panel."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    place = _places(axes, fields)
    (x0, x1), (y0, y1) = ([fields[f"{letter}{end}"] for end in (0, 1)] for letter in "xy")
    line = fields.get("line") or {}
    if fields.get("type") == "line":
        dash = _DASHES.get(line.get("dash", "solid"), "-")
        look = {"color": line.get("color", MUTED), "linewidth": _POINT * line.get("width", 1), "linestyle": dash}
        axes.add_line(Line2D([x0, x1], [y0, y1], transform=place, zorder=1, **look))
        return
    filled = {"facecolor": fields.get("fillcolor", "none"), "alpha": fields.get("opacity", 1.0)}
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, transform=place, linewidth=_POINT * line.get("width", 0), zorder=0.5, **filled)
    )


def _places(axes: "Axes", fields: dict) -> Any:
    from matplotlib.transforms import blended_transform_factory

    shares = [str(fields.get(ref, letter)).endswith(("domain", "paper")) for ref, letter in (("xref", "x"), ("yref", "y"))]
    return blended_transform_factory(*(axes.transAxes if share else axes.transData for share in shares))


def _note(axes: "Axes", fields: dict) -> None:
    """An annotation without an arrow; a bold beginning stays bold."""
    size, tint = _font(fields.get("font"))
    ha, va = fields.get("xanchor", "center"), fields.get("yanchor", "center")
    offset = (_POINT * fields.get("xshift", 0), _POINT * fields.get("yshift", 0))
    look: dict[str, Any] = {"fontsize": size, "color": tint, "annotation_clip": False}
    bold = _BOLD.fullmatch(str(fields.get("text", "")))
    first = axes.annotate(
        _plain(bold[1] if bold else fields.get("text", "")), (fields["x"], fields["y"]), offset, _places(axes, fields),
        "offset points", ha="center" if ha == "auto" else ha, va={"middle": "center"}.get(va, va),
        fontweight="bold" if bold else "normal", **look,
    )  # fmt: skip
    if bold and bold[2].strip():
        axes.annotate(_plain(bold[2]).strip(), (1, 0), (7, 0), first, "offset points", ha="left", va="bottom", **look)


def _legend(drawing: "Figure", figure: go.Figure, axes: "Axes") -> None:
    from matplotlib.lines import Line2D

    named = [trace for trace in figure.data if trace.name and trace.showlegend is not False and trace.type == "scatter"]
    if figure.layout.showlegend is False or not named:
        return
    handles = [
        Line2D([], [], color=(trace.line.color or INK), marker=None, label=_plain(trace.name))
        if "lines" in (trace.mode or "lines")
        else Line2D([], [], color=trace.marker.color or INK, marker="o", linestyle="", label=_plain(trace.name))
        for trace in named
    ]
    bottom = drawing.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.0, 0.02), ncols=6, frameon=False, fontsize=_POINT * 13
    )
    bottom.set_zorder(0)


def _font(font: dict | None) -> tuple[float, Any]:
    """Points and colour of a font; a list of colours stays one."""
    fields = font or {}
    return _POINT * float(fields.get("size", 13)), fields.get("color", INK)


def _numbers(values: Sequence | np.ndarray | None) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in (values if values is not None else ())], dtype=float)


def _plain(text: object) -> str:
    """Text without its marks; matplotlib would read a pair of dollar signs as a formula."""
    return unescape(re.sub(r"<[^>]*>", "", str(text).replace("<br>", "\n"))).replace("$", r"\$")
