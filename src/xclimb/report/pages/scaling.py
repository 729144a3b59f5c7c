"""Sections of a study of scaling: errors against the number of training structures, their laws, and what transfer saves."""

import math
from html import escape

import numpy as np
import plotly.graph_objects as go

from xclimb.report.folder import StudyFolder
from xclimb.report.pages.base import Section, register
from xclimb.report.style import BASELINE, SURFACE, axis, colour, figure, log_ticks, panels
from xclimb.report.tables import Cell, Table
from xclimb.study import scaling
from xclimb.study.scaling import METRICS, Curve, curves, efficiencies
from xclimb.study.summary import MISSING, QUANTITIES, written

_STEPS = 60  # points of a line


def scaling_figure(study: StudyFolder, split: str = "test") -> go.Figure:
    """Errors against the number of training structures on logarithmic axes, a panel a metric, a line a method.

    Args:
        study: a folder of the study ``scaling``.
        split: set of frames that errors are measured on.
    """
    shown = [metric for metric in METRICS if curves(study, metric, split)]
    fig = figure(440, {"height": 800, "legend.y": -0.09})
    titles = [f"<b>{QUANTITIES[metric].label}</b> ({QUANTITIES[metric].unit})" for metric in shown]
    panels(fig, titles, [_axes(study, metric, split) for metric in shown])
    for panel, metric in enumerate(shown, start=1):
        for curve in curves(study, metric, split).values():
            _add_curve(fig, curve, panel)
        _add_untrained(fig, study, metric, split, panel)
    return fig


def _axes(study: StudyFolder, metric: str, split: str) -> tuple[dict, dict]:
    drawn = curves(study, metric, split).values()
    sizes = [float(size) for curve in drawn for size in curve.sizes]
    errors = [error for curve in drawn for error in curve.errors]
    none = scaling.untrained(study.results, metric, split)
    y = [*errors, none] if none else errors
    pad = 0.04 * max(math.log10(max(y) / min(y)), 0.5)
    span = [math.log10(min(y)) - pad, math.log10(max(y)) + pad]
    return axis("training structures", **log_ticks(sizes)), axis(range=span, **log_ticks(y))


def _add_curve(fig: go.Figure, curve: Curve, panel: int) -> None:
    axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "legendgroup": curve.method}
    tint, name, quantity = colour(curve.method), escape(curve.method), QUANTITIES[curve.metric]
    if curve.law is not None:
        x = np.geomspace(curve.law.smallest, curve.law.largest, _STEPS)
        low, high = np.array([curve.law.band(size) for size in x]).T
        fig.add_scatter(
            x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", fillcolor=tint, opacity=0.16,
            mode="lines", line={"width": 0}, hoverinfo="skip", showlegend=False, **axes,
        )  # fmt: skip
        line = {"color": tint, "width": 2}
        y = [curve.law.error(size) for size in x]
        fig.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, **axes)
    each = {"symbol": "circle-open", "size": 6, "color": tint, "opacity": 0.75, "line": {"width": 1.2, "color": tint}}
    fig.add_scatter(x=curve.sizes, y=curve.errors, mode="markers", marker=each, hoverinfo="skip", showlegend=False, **axes)
    sizes = sorted(set(curve.sizes))
    fig.add_scatter(
        x=sizes, y=[curve.mean(size) for size in sizes], mode="markers", name=name, showlegend=panel == 1,
        marker={"size": 9, "color": tint, "line": {"width": 1, "color": SURFACE}},
        hovertemplate=f"<b>{name}</b>, %{{x}} structures: %{{y:.1f}} {quantity.unit}<extra></extra>", **axes,
    )  # fmt: skip


def _add_untrained(fig: go.Figure, study: StudyFolder, metric: str, split: str, panel: int) -> None:
    """Draw the error at N = 0, which has no place on a logarithmic axis, as a line across the panel."""
    error = scaling.untrained(study.results, metric, split)
    sizes = [size for curve in curves(study, metric, split).values() for size in curve.sizes]
    if error is None:
        return
    fig.add_scatter(
        x=[min(sizes), max(sizes)], y=[error, error], mode="lines", name="N = 0: new references, no training",
        line={"color": BASELINE, "width": 1.5, "dash": "dash"}, showlegend=panel == 1, legendgroup="none",
        hovertemplate=f"no training: {written(metric, error)} {QUANTITIES[metric].unit}<extra></extra>",
        xaxis=f"x{panel}", yaxis=f"y{panel}",
    )  # fmt: skip


def law_table(study: StudyFolder) -> Table:
    """The law of each method and metric, on the test and on the validation frames."""
    columns = [("Method", ""), ("Error", ""), ("Law", ""), ("Slope b", "95 %"), ("Offset c", "95 %"), ("R²", ""),
               ("AICc", "power / offset")]  # fmt: skip
    rows = []
    for metric in METRICS:
        for split, title in (("test", "test"), ("val", "validation")):
            drawn = curves(study, metric, split).values()
            rows += [[Cell(one.method), Cell(f"{QUANTITIES[metric].label}, {title}"), *_law_cells(one)] for one in drawn]
    return Table(columns, rows)


def _law_cells(curve: Curve) -> list[Cell]:
    law = curve.law
    if law is None:
        return [Cell("three sizes are needed"), *[Cell(MISSING)] * 4]
    offset = Cell(MISSING)
    if law.c:
        bounds = " to ".join(written(curve.metric, bound) for bound in law.offset)
        offset = Cell(written(curve.metric, law.c), law.c, aside=bounds)
    return [
        Cell(f"{law.a:.3g} N^−{law.b:.3f}" + (f" + {written(curve.metric, law.c)}" if law.c else "")),
        Cell(f"{law.b:.3f}", law.b, aside=f"{law.slope[0]:.3f} to {law.slope[1]:.3f}"),
        offset,
        Cell(f"{law.r2:.3f}", law.r2),
        Cell(" / ".join(f"{value:.1f}" if math.isfinite(value) else MISSING for value in law.aicc.values())),
    ]


def efficiency_table(study: StudyFolder) -> Table | None:
    """Structures that training from scratch needs for the error of each transfer at each size; None without such laws."""
    columns = [("Method", ""), ("Structures", ""), ("Error", "of its law"), ("Compared with", ""), ("Needs", "structures"),
               ("Ratio", "95 %")]  # fmt: skip
    rows = []
    for metric in METRICS:
        drawn = curves(study, metric)
        for curve in drawn.values():
            for other, each in efficiencies(curve, drawn).items():
                for one in each:
                    error = f"{written(metric, one.error)} {QUANTITIES[metric].unit}"
                    needs, ratio = Cell(f"not reached in range, > {one.least * one.size:,.0f}"), Cell(f"> {one.least:.3g}")
                    if one.reached:
                        low, high = (f"{bound:.3g}" if math.isfinite(bound) else "∞" for bound in one.interval)
                        needs = Cell(f"{one.other:,.0f}", one.other)
                        ratio = Cell(f"{one.ratio:.3g}", one.ratio, aside=f"{low} to {high}")
                    rows.append(
                        [Cell(curve.method), Cell(f"{one.size:,}", float(one.size)), Cell(error), Cell(other), needs, ratio]
                    )
    return Table(columns, rows) if rows else None


def _is_scaling(study: StudyFolder) -> bool:
    return study.record.kind == scaling.NAME and any(curves(study, metric) for metric in METRICS)


register(
    Section(
        page="study",
        name="scaling",
        title="Errors against the number of training structures",
        nav="Scaling",
        needs=_is_scaling,
        figures=lambda study: {"scaling": scaling_figure(study)},
        table=law_table,
        reading="A straight line is a power law: its slope says how fast the error falls; one that levels off has an offset.",
        caption="Test errors on logarithmic axes: large dots are means over seeds, small circles single trials, lines the "
        "fitted laws with their 95 % intervals; the dashed line is the source with new references and no training.",
    ),
    Section(
        page="study",
        name="efficiency",
        title="Structures that transfer saves",
        nav="Data efficiency",
        needs=lambda study: _is_scaling(study) and efficiency_table(study),
        table=efficiency_table,
        reading="For the test error that a transfer has at a size: how many structures training from scratch needs for the "
        "same. Where the law of scratch gets there beyond its largest size only, the ratio is a bound.",
    ),
)
