"""The page of a data set: how many frames of what, at which level of theory, and how their labels are distributed."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from xclimb.report import tables
from xclimb.report.figures import count_table
from xclimb.report.pages.base import Page, Section, assemble, register
from xclimb.report.style import COLOURS, axis, figure
from xclimb.report.tables import Cell, Table, Tile

_TILES = (("frames", "Frames"), ("materials", "Materials"), ("formulas", "Formulas"), ("atoms", "Atoms"))


def data_page(name: str, contents: dict[str, Any]) -> str:
    """One self-contained HTML page.

    Args:
        name: of the data set.
        contents: result of :func:`xclimb.cli.overview.overview`.
    """
    return assemble("data", {"name": name, **contents})


def _verdict(contents: dict) -> list[str]:
    sizes = contents["atoms_per_frame"]
    text = f"{sizes['min']:.0f} to {sizes['max']:.0f} atoms a frame, {sizes['mean']:.1f} on average" if sizes else "no atoms"
    counts = f"{_count(contents['frames'])} frames of {_count(contents['materials'])} materials"
    return [f"{counts} at {contents['theory']}:", f"{text}."]


def _element_figures(contents: dict) -> dict[str, go.Figure]:
    return {"elements": count_table(contents["elements"], "frames")} if contents["elements"] else {}


def _elements(contents: dict) -> dict[str, Any]:
    return {
        "any_elements": bool(contents["elements"]),
        "elements": element_table(contents["elements"], contents["frames"]),
    }


def _histograms(contents: dict) -> dict[str, go.Figure]:
    return {f"histogram-{n}": histogram(text, bins) for n, (text, bins) in enumerate(contents["histograms"].items())}


def _labels(contents: dict) -> dict[str, Any]:
    labelled = [f"{label} of {_count(n)}" for label, n in contents["labels"].items() if n]
    return {
        "labelled": ", ".join(labelled) or "no labels",
        "ranges": range_table(contents["ranges"]),
        "names": list(contents["histograms"]),
    }


def _theory(contents: dict) -> dict[str, Any]:
    return {"theories": tables.theories({"all frames": contents["level_of_theory"]}), "extras": contents["extras"]}


def histogram(name: str, bins: dict[str, list]) -> go.Figure:
    """Histogram of a quantity; the outermost bars hold all that lies beyond."""
    edges, counts = np.asarray(bins["edges"]), np.asarray(bins["counts"])
    fig = figure(250, {"height": 220}, showlegend=False, bargap=0.06)
    hover = [f"{a:.4g} to {b:.4g}: {_count(int(n))}" for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    fig.add_bar(
        x=0.5 * (edges[1:] + edges[:-1]), y=counts, marker={"color": COLOURS["residual"], "line": {"width": 0}},
        customdata=hover, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    fig.update_layout(xaxis=axis(name), yaxis=axis("number"))
    return fig


def range_table(ranges: dict[str, dict[str, float]]) -> Table:
    """Smallest, mean and largest value of each quantity."""
    keys = ("min", "mean", "max")
    body = [[Cell(name), *(Cell(f"{values[key]:.4g}".replace("-", "−")) for key in keys)] for name, values in ranges.items()]
    return Table([("Quantity", ""), ("Smallest", ""), ("Mean", ""), ("Largest", "")], body)


def element_table(elements: dict[str, int], frames: int) -> Table:
    """Table of the number of frames that hold each element."""
    body = [
        [Cell(symbol, float(z)), Cell(_count(n), float(n)), Cell(f"{100 * n / frames:.2f} %", n / frames)]
        for z, (symbol, n) in enumerate(elements.items())
    ]
    return Table([("Element", ""), ("Frames", ""), ("Share", "")], body)


def _count(n: int) -> str:
    return f"{n:,}".replace(",", "\u2009")


register(
    Page("data", "Data set", lambda contents: contents["name"], _verdict,
         lambda contents: [Tile(label, _count(contents[key]), "", "") for key, label in _TILES],
         lambda contents: {}, footer=True),
    Section("data", "elements", "Elements", figures=_element_figures, block="elements", values=_elements),
    Section("data", "labels", "Labels and sizes", "Labels", figures=_histograms, block="labels", values=_labels),
    Section("data", "theory", "Level of theory", block="theory", values=_theory),
)  # fmt: skip
