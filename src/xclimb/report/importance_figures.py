"""Element importance on the shift page: periodic tables with and without corrections, and the check by Shapley values."""

from html import escape

import plotly.graph_objects as go

from xclimb.comparison.importance import WORTH
from xclimb.report.figures import shift_table
from xclimb.report.folder import number
from xclimb.report.html import sentence
from xclimb.report.style import COLOURS, MUTED, axis, figure

KINDS = {"plain": "without MP2020 corrections", "corrected": "with MP2020 corrections"}
_TINTS = {"plain": COLOURS["residual"], "corrected": COLOURS["scratch"]}
_NAMED = 8


def _parts(shift: dict) -> dict[str, dict]:
    """The results that there are."""
    importance = shift.get("importance") or {}
    return {kind: importance[kind] for kind in KINDS if "importance" in (importance.get(kind) or {})}


def importance_figures(shift: dict) -> dict[str, go.Figure]:
    """A periodic table without corrections, one with them, and importance against Shapley value; what there is of it."""
    parts = _parts(shift)
    drawn = {
        f"importance_{kind}": shift_table(
            {symbol: 100.0 * share for symbol, share in part["importance"].items()},
            label=f"importance {KINDS[kind]}", unit="%", digits=1,
        )
        for kind, part in parts.items()
    }  # fmt: skip
    return drawn | ({"importance_check": _check(parts)} if parts else {})


def _check(parts: dict[str, dict]) -> go.Figure:
    fig = figure(360, {"height": 340})
    fig.update_layout(xaxis=axis("importance (%)"), yaxis=axis("mean |Shapley value| (meV/atom)"))
    for kind, part in parts.items():
        symbols = list(part["importance"])
        largest = sorted(symbols, key=lambda symbol: -part["importance"][symbol])[:_NAMED]
        named = {symbol for symbol in largest if part["importance"][symbol] > 0.1 * part["importance"][largest[0]]}
        fig.add_scatter(
            x=[100.0 * part["importance"][symbol] for symbol in symbols], y=[part["shapley"][symbol] for symbol in symbols],
            name=KINDS[kind], mode="markers+text", text=[symbol if symbol in named else "" for symbol in symbols],
            textposition="top center", textfont={"size": 11, "color": MUTED}, marker={"size": 7, "color": _TINTS[kind]},
            customdata=[escape(symbol) for symbol in symbols],
            hovertemplate="<b>%{customdata}</b> %{x:.1f} %, %{y:.2f} meV/atom<extra></extra>",
        )  # fmt: skip
    return fig


def worthless(shift: dict) -> set[str]:
    """The kinds whose forest predicts held-out compounds no better than their mean (R² at or below 0)."""
    return {kind for kind, part in _parts(shift).items() if not number(part["held_out_r2"]) > 0.0}


def importance_notes(shift: dict) -> list[str]:
    """Sentences on the data behind the figures, or the reason that there are none."""
    importance = shift.get("importance") or {}
    if "target" not in importance:
        return [sentence(importance.get("absent", "This shift holds no element importance."))]
    text, weak = [f"A random forest learns the {importance['target']} from composition."], []
    for kind, name in KINDS.items():
        part = importance[kind]
        if "absent" in part:
            text.append(sentence(f"{name}: {part['absent']}"))
            continue
        refused = f"; {part['n_refused']} left out, as the scheme expects other U values" if part["n_refused"] else ""
        r2, agreement = number(part["held_out_r2"]), number(part["agreement"])
        rests = f"{name}: {part['n_compounds']:,} compounds{refused}; R² on compounds held out {r2:.2f}"
        text.append(sentence(f"{rests}; rank correlation with Shapley values {agreement:.2f}").replace(" -", " −"))
        if not r2 > WORTH:
            weak.append(name)
    if weak:
        where = "" if len(weak) == len(_parts(shift)) else f" {weak[0]}"
        text.append(f"The forest predicts hardly anything{where}: neither its importances nor the Shapley values mean much.")
    return text
