"""The tables of the report page: rows of cells, ready to be written by a template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from xclimb.references import AtomRef
from xclimb.report.folder import RunFolder, number
from xclimb.runs.schema import Errors, Measurement, StudyPredictions
from xclimb.study.comparisons import leading
from xclimb.study.summary import MISSING, QUANTITIES, ModelErrors, by_model, signed, with_spread, written
from xclimb.transfer.methods import METHODS


@dataclass(frozen=True)
class Cell:
    """One cell: what is written, by what it sorts, and whether it is the best of its column.

    Args:
        text: what is written.
        sort: number to sort by; None sorts by the text, NaN always comes last.
        best: best value of the column.
        aside: a smaller second text.
    """

    text: str
    sort: float | None = None
    best: bool = False
    aside: str = ""


@dataclass(frozen=True)
class Table:
    """Column titles with units, and rows of cells; the first cell of a row names it."""

    columns: list[tuple[str, str]]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Tile:
    """A key figure: what, value, unit, and a line of context."""

    label: str
    value: str
    unit: str
    context: str


_SHOWN = (
    "energy_mae", "energy_rmse", "energy_means_mae", "energy_within_mae", "forces_mae", "forces_rmse", "stress_mae",
    "magmom_mae",
)  # fmt: skip


def errors(rows: Sequence[Measurement], split: str, predictions: StudyPredictions | None = None) -> Table | None:
    """Errors of every model on a split, mean ± spread over seeds; None without rows.

    Marked is the smallest of each column, with those that do not differ significantly; nothing where no interval is known.
    """
    models = by_model(rows, split)
    metrics = [name for name in _SHOWN if any(math.isfinite(model.mean.get(name, math.nan)) for model in models)]
    if not models or not metrics:
        return None
    marked = {name: leading(models, name, predictions) for name in metrics}
    body = [
        [
            Cell(
                model.model,
                aside=f"{model.seeds} seed{'s' if model.seeds > 1 else ''}" if model.kind == "method" else "baseline",
            ),
            *(_error_cell(model, name, model.model in marked[name]) for name in metrics),
        ]
        for model in models
    ]
    return Table([("Model", ""), *((QUANTITIES[name].label, QUANTITIES[name].unit) for name in metrics)], body)


def descriptions(rows: Sequence[Measurement]) -> list[tuple[str, str]]:
    """Descriptions of the named methods among the rows."""
    return [(name, METHODS[name].summary) for name in dict.fromkeys(row.model for row in rows) if name in METHODS]


def _error_cell(model: ModelErrors, name: str, marked: bool) -> Cell:
    mean, spread = model.mean.get(name, math.nan), model.spread.get(name, math.nan)
    aside = f"± {written(name, spread)}" if math.isfinite(spread) else ""
    return Cell(written(name, mean), mean, marked, aside)


def retention(rows: Sequence[Measurement], source: str) -> Table | None:
    """Errors on the source functional's labels, and how they changed against the untouched source; None without rows."""
    models = by_model(rows, labels="source")
    before = next((model for model in models if model.model == source), None)
    metrics = [
        name for name in QUANTITIES if name.endswith("mae") and any(math.isfinite(m.mean.get(name, math.nan)) for m in models)
    ]
    if not models or not metrics:
        return None
    body = [[Cell(model.model), *(_kept_cell(model, name, before) for name in metrics)] for model in models]
    return Table([("Model", ""), *((QUANTITIES[name].label, QUANTITIES[name].unit) for name in metrics)], body)


def _kept_cell(model: ModelErrors, name: str, before: ModelErrors | None) -> Cell:
    mean = model.mean.get(name, math.nan)
    if before is None or model is before:
        return Cell(written(name, mean), mean)
    change = mean - before.mean.get(name, math.nan)
    return Cell(with_spread(name, model), mean, aside=signed(name, change) if math.isfinite(change) else "")


def evaluation(errors: Mapping[str, Errors]) -> Table | None:
    """Errors of one run, a row for each set; None without any."""
    values = {split: {name: number(value) for name, value in one.values().items()} for split, one in errors.items()}
    metrics = [name for name in _SHOWN if any(math.isfinite(row.get(name, math.nan)) for row in values.values())]
    if not values:
        return None
    body = [
        [
            Cell({"train": "training", "val": "validation"}.get(split, split)),
            Cell(_count(row["n_frames"]), row["n_frames"]),
            *(Cell(written(name, row.get(name, math.nan)), row.get(name, math.nan)) for name in metrics),
        ]
        for split, row in values.items()
    ]
    return Table([("Split", ""), ("Frames", ""), *((QUANTITIES[name].label, QUANTITIES[name].unit) for name in metrics)], body)


_KINDS = ("source", "table", "raw", "residual", "robust")


def references(kinds: Mapping[str, AtomRef]) -> dict | None:
    """Each covered element's value in every kind of references, with its standard deviation and the materials behind it.

    Returns:
        ``table``; ``kinds``: what is undetermined, errors and notes of each fit; ``uncovered``: symbols without data -> the
        kinds that lack them. None without references.
    """
    ordered = sorted(kinds, key=lambda kind: (_KINDS.index(kind) if kind in _KINDS else len(_KINDS), kind))
    fitted = [kind for kind in ordered if any(kinds[kind].materials.values())] or ordered
    symbols = _by_atomic_number({symbol for kind in fitted for symbol in kinds[kind].materials})
    if not symbols:
        return None
    behind = [float(next((kinds[k].materials[s] for k in fitted if kinds[k].materials.get(s)), math.nan)) for s in symbols]
    body = [
        [
            Cell(symbol, float(rank)),
            Cell(_count(count), count),
            *(_reference_cell(kinds[kind], symbol) for kind in ordered),
        ]
        for rank, (symbol, count) in enumerate(zip(symbols, behind, strict=True))
    ]
    columns = [("Element", ""), ("Materials", ""), *((kind, "eV/atom") for kind in ordered)]
    uncovered: dict[tuple[str, ...], list[str]] = {}
    for kind in fitted:
        if kinds[kind].uncovered:
            uncovered.setdefault(kinds[kind].uncovered, []).append(kind)
    return {"table": Table(columns, body), "kinds": [_fit_facts(kind, kinds[kind]) for kind in fitted], "uncovered": uncovered}


def _reference_cell(refs: AtomRef, symbol: str) -> Cell:
    value, std = refs.energies.get(symbol, math.nan), refs.std.get(symbol, math.nan)
    text = MISSING if math.isnan(value) else f"{value:.3f}".replace("-", "−")
    return Cell(text, value, aside=f"± {std:.3f}" if math.isfinite(std) else "")


def _fit_facts(kind: str, refs: AtomRef) -> dict:
    return {
        "kind": kind,
        "fitted": any(refs.materials.values()),
        "fit_mae": written("energy_mae", refs.fit_mae),
        "held_out_mae": written("energy_mae", refs.held_out_mae),
        "undetermined": ["–".join(group) for group in refs.undetermined],
        "notes": [note for note in refs.notes if "fixed proportions" not in note],  # the undetermined have a sentence
    }


def _by_atomic_number(symbols: set[str]) -> list[str]:
    from ase.data import atomic_numbers

    return sorted(symbols, key=lambda symbol: (atomic_numbers.get(symbol, 999), symbol))


def shift_numbers(shift: dict) -> list[tuple[str, str]]:
    """The scalars of a shift report, named and with units."""
    named = {
        "n_pairs": ("Pairs of frames", "{:.0f}"),
        "n_materials": ("Materials", "{:.0f}"),
        "mean": ("Mean shift", "{:+.3f} eV/atom"),
        "std": ("Standard deviation", "{:.3f} eV/atom"),
        "pearson_raw": ("Pearson r, as computed", "{:.4f}"),
        "pearson_referenced": ("Pearson r, references removed", "{:.4f}"),
        "left_over_mae": ("Not elemental, MAE", "{:.1f} meV/atom"),
        "held_out_mae": ("Not elemental, held out", "{:.1f} meV/atom"),
        "explained": ("Elemental share of variance", "{:.2%}"),
        "forces_mae": ("Force difference, MAE", "{:.4f} eV/Å"),
        "forces_slope": ("Force slope, high on low", "{:.4f}"),
        "stress_mae": ("Stress difference, MAE", "{:.2f} GPa"),
        "magmom_mae": ("Magmom difference, MAE", "{:.3f} µB"),
    }
    values = {name: number(shift[name]) for name in named}
    return [
        (label, form.format(values[name]).replace("-", "−"))
        for name, (label, form) in named.items()
        if math.isfinite(values[name])
    ]


def outliers(shift: dict) -> Table | None:
    """The pairs whose shift is furthest from a sum over elements; None if none are named."""
    body = []
    for entry in shift["outliers"]:
        value = number(entry["left_over"])
        body.append([Cell(entry["formula"]), Cell(entry["frame_id"]), Cell(signed("energy_mae", value), value)])
    return Table([("Formula", ""), ("Frame", ""), ("Left over", "meV/atom")], body) if body else None


def _count(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else MISSING


def runs(folders: Sequence[RunFolder]) -> Table | None:
    """One row a run: state, best epoch, time."""
    if not folders:
        return None
    body = []
    for run in folders:
        last, seed, best = run.epochs[-1] if run.epochs else None, run.record.seed, number(run.best_epoch)
        epoch, seconds = (number(last.epoch), number(last.seconds)) if last else (math.nan, math.nan)
        body.append([
            Cell(run.method), Cell(str(seed), number(seed)), Cell(run.record.state), Cell(_count(best), best),
            Cell(_count(epoch), epoch), Cell(duration(seconds), seconds),
        ])  # fmt: skip
    return Table([(title, "") for title in ("Method", "Seed", "State", "Best epoch", "Last epoch", "Last epoch took")], body)


def duration(seconds: float) -> str:
    """``"6 min 53 s"``; an em dash if unknown."""
    if not math.isfinite(seconds):
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# -- settings, data, levels of theory --------------------------------------------------------------------


def settings(fields: dict | None) -> list[tuple[str, str]]:
    """Nested settings as dotted names and text."""
    return [(name, _text(value)) for name, value in _flat(fields or {})]


def _flat(fields: dict, prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs


def _text(value) -> str:
    """A value as text; of an absolute path only the last part, as pages are shared and paths are private."""
    if value is None or value == {} or value == []:
        return MISSING
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else MISSING
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    text = str(value)
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute():
        return "…/" + PureWindowsPath(text).name
    return text


def records(fields: dict | None) -> dict:
    """A dictionary of data descriptions: those that are records become a table, the rest named values."""
    fields = fields or {}
    nested = {name: value for name, value in fields.items() if isinstance(value, dict) and value}
    flat = {name: dict(_flat(value)) for name, value in nested.items()}
    columns = list(dict.fromkeys(key for value in flat.values() for key in value))
    table = Table(
        [("Set", ""), *((column, "") for column in columns)],
        [[Cell(name), *(_record_cell(value.get(column)) for column in columns)] for name, value in flat.items()],
    )
    return {"table": table if flat else None, "named": settings({k: v for k, v in fields.items() if k not in nested})}


def _record_cell(value) -> Cell:
    text = _text(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        Cell(text[:12] + "…", aside=text)
        if len(text) >= 40 and text.isalnum()
        else Cell(text, float(value) if is_number else None)
    )


_THEORY_FIELDS = {
    "functional": "Functional", "hubbard_u": "+U (eV)", "dispersion": "Dispersion", "pseudopotentials": "Pseudopotentials",
    "potcar": "POTCAR", "cutoff": "Cutoff (eV)",
    "code": "Code", "energy_flavour": "Energy", "corrections": "Corrections",
}  # fmt: skip


def theories(sides: Mapping[str, dict | None]) -> Table | None:
    """Levels of theory side by side; None if nothing is known of any."""
    known = {name: side for name, side in sides.items() if isinstance(side, dict) and side}
    if not known:
        return None
    body = [
        [Cell(label), *(Cell(_theory_text(side.get(name))) for side in known.values())]
        for name, label in _THEORY_FIELDS.items()
    ]
    return Table([("", ""), *((name, "") for name in known)], body)


def _theory_text(value) -> str:
    return ", ".join(f"{element} {u}" for element, u in value.items()) or MISSING if isinstance(value, dict) else _text(value)
