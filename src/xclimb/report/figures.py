"""The report's figures: pure functions from data to plotly figures, for the page and for anybody's notebook.

Each figure carries in ``layout.meta["narrow"]`` what differs on a narrow screen, as dotted paths.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from xclimb.report.folder import RunFolder, number
from xclimb.report.style import (
    COLOURS,
    EMPTY,
    INK,
    MUTED,
    SURFACE,
    axis,
    axis_name,
    colour,
    colour_bar,
    colour_scale,
    figure,
    log_ticks,
    panel_title,
    panels,
    shares,
    words_on,
)
from xclimb.runs.schema import Measurement
from xclimb.study.summary import QUANTITIES, ModelErrors, by_model, written

TABLE_WIDTH = 860  # px of a periodic table on a narrow screen, where it scrolls: values must not lie on each other
MAX_POINTS = 1500  # a panel; more are thinned evenly, so that the page stays small

# the periodic table; "." is an empty place, the last two rows are lanthanides and actinides
_TABLE = """
H . . . . . . . . . . . . . . . . He
Li Be . . . . . . . . . . B C N O F Ne
Na Mg . . . . . . . . . . Al Si P S Cl Ar
K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
Cs Ba . Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra . Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
. . . . . . . . . . . . . . . . . .
. . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu .
. . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr .
"""


def _thinned(n: int) -> np.ndarray:
    """Evenly spread indices of at most MAX_POINTS of n points."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(int)) if n else np.zeros(0, dtype=int)


# -- shift ----------------------------------------------------------------------------------------


def shift_table(
    values: dict[str, float],
    std: dict[str, float] | None = None,
    label: str = "shift",
    unit: str = "eV/atom",
    digits: int = 2,
) -> go.Figure:
    """A periodic table coloured by a value of each element.

    Args:
        values: element symbol -> value; elements that are not there are greyed.
        std: element symbol -> its standard deviation, shown on hovering.
        label: what the values are, for the colour bar.
        unit: of the values.
        digits: decimals on the cells; one more on hovering.
    """
    known = {symbol: value for symbol, value in values.items() if math.isfinite(value)}
    spread = {symbol: f" ± {value:.{digits + 1}f}" for symbol, value in (std or {}).items()}
    hover = {symbol: f"{value:.{digits + 1}f}{spread.get(symbol, '')} {unit}" for symbol, value in known.items()}
    text = {symbol: f"{value:.{digits}f}".replace("-", "−") for symbol, value in known.items()}
    return _periodic_table(known, text, hover, colour_bar(f"{label} ({unit})"))


def count_table(counts: dict[str, int], label: str) -> go.Figure:
    """A periodic table coloured by how often each element occurs, logarithmic.

    Args:
        counts: element symbol -> frames with it, at least one.
        label: what is counted, for the colour bar.
    """
    text = {symbol: f"{n / 1000:.3g}k" if n >= 10_000 else str(n) for symbol, n in counts.items()}
    powers = list(range(int(math.log10(max(counts.values(), default=1))) + 1))
    bar = colour_bar(label) | {"tickvals": powers, "ticktext": [f"{10**power:,}".replace(",", " ") for power in powers]}
    hover = {symbol: f"{n:,} {label}".replace(",", " ") for symbol, n in counts.items()}
    return _periodic_table({symbol: math.log10(n) for symbol, n in counts.items()}, text, hover, bar)


def _periodic_table(known: dict[str, float], text: dict[str, str], hover: dict[str, str], bar: dict) -> go.Figure:
    """A periodic table: element -> colour, text below the symbol, text on hovering."""
    rows = [line.split() for line in _TABLE.strip().splitlines()]
    shown = np.array([[known.get(symbol, np.nan) for symbol in row] for row in rows])
    empty = np.array([[0.0 if symbol != "." and symbol not in known else np.nan for symbol in row] for row in rows])
    greyed = [["" if symbol == "." or symbol in known else symbol for symbol in row] for row in rows]
    fig = figure(
        500,
        {"width": TABLE_WIDTH, "height": 420},
        margin={"l": 4, "r": 4, "t": 30, "b": 6},
        dragmode=False,
        showlegend=False,
    )
    gaps = {"xgap": 3, "ygap": 3}
    fig.add_heatmap(
        z=empty, text=greyed, colorscale=[[0, EMPTY], [1, EMPTY]], showscale=False, texttemplate="%{text}",
        textfont={"color": MUTED, "size": 12}, hovertemplate="%{text}: no data<extra></extra>", **gaps,
    )  # fmt: skip
    hovers = [[f"<b>{symbol}</b> {hover[symbol]}" if symbol in known else "" for symbol in row] for row in rows]
    fig.add_heatmap(
        z=shown, **colour_scale(list(known.values())), customdata=hovers, hovertemplate="%{customdata}<extra></extra>",
        colorbar=bar, **gaps,
    )  # fmt: skip
    _add_element_words(fig, rows, known, text)
    hidden = {"visible": False, "fixedrange": True}
    fig.update_layout(xaxis={**hidden, "range": [-0.5, 17.5]}, yaxis={**hidden, "range": [len(rows) - 0.5, -0.5]})
    return fig


def _add_element_words(fig: go.Figure, rows: list[list[str]], values: dict[str, float], text: dict[str, str]) -> None:
    """Symbols and texts on the cells that have a value, in a colour that can be read there."""
    bound = max((abs(value) for value in values.values()), default=0.0) or 1.0
    cells = [(x, y, symbol) for y, row in enumerate(rows) for x, symbol in enumerate(row) if symbol in values]
    fig.add_scatter(
        x=[x for x, _, _ in cells], y=[y for _, y, _ in cells], mode="text",
        text=[f"<b>{symbol}</b><br>{text[symbol]}" for *_, symbol in cells],
        textfont={"size": 12, "color": [words_on(abs(values[symbol]) / bound) for *_, symbol in cells]},
        hoverinfo="skip",
    )  # fmt: skip


def energy_before_after(shift: dict, low: str = "low", high: str = "high") -> go.Figure:
    """Energy against energy per atom, before and after each level's elemental references are removed.

    Args:
        shift: a dictionary of a ShiftReport.
        low: name of the source functional.
        high: name of the target functional.
    """
    pairs = [("low_energy_per_atom", "high_energy_per_atom"), ("low_referenced", "high_referenced")]
    r = [number(shift.get(name)) for name in ("pearson_raw", "pearson_referenced")]
    titles = [f"<b>{name}</b>   r = {value:.3f}" for name, value in zip(("As computed", "References removed"), r, strict=True)]
    fig = figure(430, {"height": 720}, showlegend=False)
    words = ("energy (eV/atom)", "energy, referenced (eV/atom)")
    panels(fig, titles, [(axis(f"{escape(low)} {word}"), axis(f"{escape(high)} {word}")) for word in words])
    ids, formulas = shift.get("frame_id") or (), shift.get("formula") or ()
    names = [f"{escape(str(formula))} ({escape(str(name))})" for name, formula in zip(ids, formulas, strict=False)]
    for i, columns in enumerate(pairs, start=1):
        a, b = (np.asarray(shift.get(column) or [], dtype=np.float32) for column in columns)
        if not len(a):
            continue
        at = _thinned(len(a))
        bounds = [float(a.min()), float(a.max())]  # no further: the line must not squeeze the points
        axes = {"xaxis": f"x{i}", "yaxis": f"y{i}"}
        fig.add_scatter(
            x=bounds, y=bounds, mode="lines", line={"color": MUTED, "width": 1, "dash": "dot"}, hoverinfo="skip", **axes
        )
        fig.add_scatter(
            x=a[at], y=b[at], mode="markers", text=[names[k] for k in at] if len(names) == len(a) else None,
            marker={"color": COLOURS["residual"], "size": 6, "opacity": 0.55, "line": {"width": 0}},
            hovertemplate="%{text}<br>%{x:.3f} → %{y:.3f} eV/atom<extra></extra>", **axes,
        )  # fmt: skip
    return fig


# -- training -------------------------------------------------------------------------------------


def training_curves(runs: Sequence[RunFolder]) -> go.Figure:
    """Validation errors of energy and forces against the epoch, one line a method: mean over seeds, band from least to most.

    Args:
        runs: run folders; those of one method are taken together over the epochs that all of them have.
    """
    metrics = ("energy_mae", "forces_mae")
    titles = [f"<b>{QUANTITIES[m].label}</b>, validation ({QUANTITIES[m].unit})" for m in metrics]
    fig = figure(440, {"height": 760, "legend.y": -0.09})
    panels(
        fig,
        titles,
        [
            (axis("epoch", rangemode="tozero", **_whole_epochs(runs)), axis(**log_ticks(_all_values(runs, m), decades=3.0)))
            for m in metrics
        ],
    )
    methods: dict[str, list[RunFolder]] = {}
    for run in runs:
        methods.setdefault(run.method, []).append(run)
    for method in sorted(methods, key=lambda m: list(COLOURS).index(m) if m in COLOURS else len(COLOURS)):
        for i, metric in enumerate(metrics, start=1):
            _add_curve(fig, method, methods[method], metric, i)
    if any(run.best_epoch is not None for run in runs):
        star = {"symbol": "star", "size": 11, "color": MUTED, "line": {"width": 1, "color": SURFACE}}
        fig.add_scatter(x=[None], y=[None], mode="markers", name="best epoch", marker=star)
    return fig


def _whole_epochs(runs: Sequence[RunFolder]) -> dict:
    return {"dtick": 1} if max((len(run.epochs) for run in runs), default=0) <= 10 else {}


def _all_values(runs: Sequence[RunFolder], metric: str) -> list[float]:
    return [number(getattr(line.val, metric)) for run in runs for line in run.epochs]


def _add_curve(fig: go.Figure, method: str, runs: list[RunFolder], metric: str, panel: int) -> None:
    curves = [{line.epoch: number(getattr(line.val, metric)) for line in run.epochs} for run in runs if run.epochs]
    epochs = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])  # [seeds, epochs]
    if not values.size or not np.isfinite(values).all():
        return
    axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "legendgroup": method}
    tint, name, mean = colour(method), escape(method), values.mean(axis=0)
    if len(curves) > 1:
        outline = np.concatenate([values.max(axis=0), values.min(axis=0)[::-1]])
        fig.add_scatter(
            x=epochs + epochs[::-1], y=outline, fill="toself", fillcolor=tint, opacity=0.16, mode="lines", line={"width": 0},
            hoverinfo="skip", showlegend=False, **axes,
        )  # fmt: skip
    unit = QUANTITIES[metric].unit
    fig.add_scatter(
        x=epochs, y=mean, mode="lines", name=name, line={"color": tint, "width": 2}, showlegend=panel == 1,
        hovertemplate=f"<b>{name}</b>, epoch %{{x}}: %{{y:.1f}} {unit}<extra></extra>", **axes,
    )  # fmt: skip
    best = [run.best_epoch for run in runs if run.best_epoch is not None]
    if best:
        at = int(np.abs(np.array(epochs) - float(np.median(best))).argmin())
        star = {"symbol": "star", "size": 11, "color": tint, "line": {"width": 1, "color": SURFACE}}
        text = f"<b>{name}</b>, best epoch{'s' if len(best) > 1 else ''} {', '.join(map(str, best))}<extra></extra>"
        fig.add_scatter(x=[epochs[at]], y=[mean[at]], mode="markers", marker=star, showlegend=False, hovertemplate=text, **axes)


# -- errors -----------------------------------------------------------------------------------------

_PARITY = (
    ("energy_per_atom", "Energy", "eV/atom", 1000.0, "meV/atom", "energy_mae"),
    ("referenced", "Energy, referenced", "eV/atom", 1000.0, "meV/atom", "energy_mae"),
    ("forces", "Forces", "eV/Å", 1000.0, "meV/Å", "forces_mae"),
    ("stress", "Stress", "GPa", 1.0, "GPa", "stress_mae"),
)


def parity(predictions: dict, model: str, tint: str | None = None) -> go.Figure:
    """Predicted against labelled energy, forces and stress of one model, and the errors below.

    Args:
        predictions: the content of predictions.json. With ``reference_energy`` (eV/atom by frame) energies without it stand
            beside the raw ones; ``errors`` of a model replace those of the components that are stored.
        model: one of ``predictions["models"]``.
        tint: colour of the points, by default that of the model.
    """
    sides = predictions["reference"], predictions["models"][model]
    offset = _numbers(predictions.get("reference_energy"))
    stated = (predictions.get("errors") or {}).get(model) or {}
    panels = [one for one in _PARITY if one[0] != "referenced" or len(offset)]
    columns = 2 if len(panels) == 4 else len(panels)
    fig = figure(480 * (len(panels) // columns), {"height": 430 * len(panels)}, showlegend=False)
    for i, (column, label, unit, factor, error_unit, metric) in enumerate(panels, start=1):
        stored = "energy_per_atom" if column == "referenced" else column
        reference, predicted = (_numbers(side.get(stored)) for side in sides)
        if column == "referenced" and len(offset) == len(reference) == len(predicted):
            reference, predicted = reference - offset, predicted - offset
        same = len(reference) == len(predicted)
        index = np.flatnonzero(np.isfinite(reference) & np.isfinite(predicted)) if same else np.zeros(0, dtype=int)
        mae = number(stated.get(metric))
        if not math.isfinite(mae) and len(index):
            mae = float(np.abs(predicted - reference)[index].mean()) * factor
        _place_parity(fig, i, (len(panels), columns), unit, error_unit)
        panel_title(fig, f"<b>{label}</b>   MAE {written(metric, mae)} {error_unit}", f"{i}" if i > 1 else "")
        index = index[_thinned(len(index))]
        names = _frame_names(predictions, stored, index)
        _add_parity(fig, tint or colour(model), reference[index], predicted[index], factor, (i, len(panels), names))
    return fig


def _numbers(values: Sequence[float | None] | None) -> np.ndarray:
    return np.asarray(values or [], dtype=float)


def _place_parity(fig: go.Figure, i: int, grid: tuple[int, int], unit: str, error_unit: str) -> None:
    """Axes of the i-th of some panels in so many columns: predictions above, errors below; under each other when narrow."""
    count, columns = grid
    top, bottom = f"{i}" if i > 1 else "", str(i + count)
    row, column = divmod(i - 1, columns)
    side, stacked = shares(columns, 0.08), shares(count, 0.24 / count)[::-1]
    low, high = shares(count // columns, 0.11)[::-1][row]
    zero = {"zeroline": True, "zerolinecolor": MUTED}
    fig.update_layout({
        f"xaxis{top}": axis(domain=side[column], anchor=f"y{top}", matches=f"x{bottom}", showticklabels=False),
        f"yaxis{top}": axis(f"predicted ({unit})", domain=[low + 0.36 * (high - low), high], anchor=f"x{top}"),
        f"xaxis{bottom}": axis(f"label ({unit})", domain=side[column], anchor=f"y{bottom}"),
        f"yaxis{bottom}": axis(
            f"error ({error_unit})", domain=[low, low + 0.29 * (high - low)], anchor=f"x{bottom}", nticks=4, **zero
        ),
    })  # fmt: skip
    low, high = stacked[i - 1]
    split = low + 0.3 * (high - low)
    fig.layout.meta["narrow"].update({
        f"xaxis{top}.domain": [0, 1], f"xaxis{bottom}.domain": [0, 1],
        f"yaxis{top}.domain": [split + 0.012, high], f"yaxis{bottom}.domain": [low, split - 0.012],
    })  # fmt: skip


def _frame_names(predictions: dict, column: str, index: np.ndarray) -> list[str] | None:
    """Formula and id of each energy point; the thousands of force components go without."""
    names, formulas = predictions.get("frame_id") or [], predictions.get("formula") or []
    if column != "energy_per_atom" or len(names) != len(formulas) or not len(names):
        return None
    return [f"{escape(str(formulas[k]))} ({escape(str(names[k]))})<br>" for k in index]


def _add_parity(
    fig: go.Figure, tint: str, x: np.ndarray, y: np.ndarray, factor: float, where: tuple[int, int, list[str] | None]
) -> None:
    panel, count, names = where
    if not len(x):
        return
    bounds = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
    axes, below = ({"xaxis": f"x{n}", "yaxis": f"y{n}"} for n in (panel, panel + count))
    diagonal = {"color": MUTED, "width": 1, "dash": "dot"}
    fig.add_scatter(x=bounds, y=bounds, mode="lines", line=diagonal, hoverinfo="skip", **axes)
    marker = {"color": tint, "size": 5, "opacity": 0.5, "line": {"width": 0}}
    text = "%{text}" if names else ""
    for values, place, template in (
        (y, axes, "label %{x:.3f}, predicted %{y:.3f}"),
        ((y - x) * factor, below, "label %{x:.3f}, error %{y:.1f}"),
    ):
        fig.add_scatter(
            x=x.astype(np.float32), y=values.astype(np.float32), mode="markers", marker=marker, text=names,
            hovertemplate=f"{text}{template}<extra></extra>", **place,
        )  # fmt: skip


def method_bars(
    rows: Sequence[Measurement], split: str = "test", metrics: Sequence[str] = ("energy_mae", "forces_mae", "stress_mae")
) -> go.Figure:
    """Errors of every model side by side on logarithmic axes: each seed a small mark, the mean a large one with its number.

    Args:
        rows: rows of results.
        split: which split to show.
        metrics: one panel each; those that no row has are left out.
    """
    models = by_model(rows, split)[::-1]  # the first model at the top
    shown = [m for m in metrics if any(model.mean.get(m, math.nan) > 0 for model in models)]
    height = 120 + 34 * len(models)
    fig = figure(height, {"height": len(shown) * (70 + 30 * len(models)) + 40}, showlegend=False)
    labels = [escape(model.model).replace(" + ", "<br>+ ") for model in models]
    axes = []
    for i, metric in enumerate(shown):
        values = [value for model in models for value in model.each.get(metric, []) if value > 0]
        span = [math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15]
        room = 0.3 * (span[1] - span[0])  # for the number beside the largest
        x = axis(range=[span[0], span[1] + room], **log_ticks(values, decades=1.2, fine=0.4))
        y = axis(showticklabels=i == 0, tickvals=list(range(len(models))), ticktext=labels, range=[-0.6, len(models) - 0.4])
        axes.append((x, y))
    panels(fig, [f"<b>{QUANTITIES[m].label}</b> ({QUANTITIES[m].unit})" for m in shown], axes, gap=0.04, narrow_gap=0.09)
    for i, metric in enumerate(shown, start=1):
        fig.layout.meta["narrow"][f"{axis_name('y', i)}.showticklabels"] = True
        for row, model in enumerate(models):
            _add_marks(fig, model, metric, row, i)
    return fig


def _add_marks(fig: go.Figure, model: ModelErrors, metric: str, row: int, panel: int) -> None:
    mean = model.mean.get(metric, math.nan)
    if not mean > 0:
        return
    axes, tint, name = {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}, colour(model.model), escape(model.model)
    each = [value for value in model.each[metric] if value > 0]
    if len(each) > 1:
        seeds = {"symbol": "line-ns-open", "size": 11, "color": tint, "opacity": 0.75, "line": {"width": 1.5}}
        fig.add_scatter(x=each, y=[row] * len(each), mode="markers", marker=seeds, hoverinfo="skip", **axes)
    dot = {
        "size": 10,
        "color": tint,
        "symbol": "circle" if model.kind == "method" else "circle-open",
        "line": {"width": 2, "color": tint},
    }
    fig.add_scatter(
        x=[mean], y=[row], mode="markers+text", marker=dot, text=[f"  {written(metric, mean)}"], textposition="middle right",
        textfont={"color": INK, "size": 12}, cliponaxis=False,
        hovertemplate=f"<b>{name}</b>: {written(metric, mean)} {QUANTITIES[metric].unit}<extra></extra>", **axes,
    )  # fmt: skip
