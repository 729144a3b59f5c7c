"""The page of a study: every method and seed on the same data, beside the models without training."""

import math
from typing import Any

import plotly.graph_objects as go

from xclimb.report import figures, tables
from xclimb.report.folder import RunFolder, StudyFolder, number
from xclimb.report.pages.base import Page, Section, register
from xclimb.report.tables import Tile, duration
from xclimb.runs.schema import Measurement
from xclimb.study import STUDIES, verdict_of
from xclimb.study.comparisons import difference
from xclimb.study.summary import QUANTITIES, ModelErrors, best_of, by_model, label_origin, signed, written
from xclimb.study.verdict import references_alone


def _levels(study: StudyFolder) -> tuple[str, str]:
    """Names of the low and the high functional."""
    theory = study.record.theory
    return theory.low.functional or "low", theory.high.functional or "high"


def _common(study: StudyFolder) -> dict[str, Any]:
    low, high = _levels(study)
    return {"study": study, "low": low, "high": high}


def _sizes(study: StudyFolder) -> list[int]:
    """Numbers of training frames of the trials, ascending."""
    return sorted({row.n_train for row in study.results.rows if row.kind == "method" and row.n_train})


def _rows(study: StudyFolder) -> list[Measurement]:
    """Rows of the table: baselines first, the untouched source at their head; then the methods as the study lists them.

    Of trials with several numbers of training frames, those with the most.
    """
    largest = max(_sizes(study), default=None)
    rows = [row for row in study.results.rows if row.kind == "baseline" or row.n_train in (None, largest)]
    return sorted(rows, key=lambda row: (row.model != study.source, row.kind == "method"))


def _errors_title(study: StudyFolder) -> str:
    sizes = _sizes(study)
    return "Errors on the test set" + (f", {sizes[-1]:,} training structures" if len(sizes) > 1 else "")


def _runs(study: StudyFolder) -> list[RunFolder]:
    """Runs with the most training frames, where there are several numbers of them."""
    counts = [run.record.data["train"].frames if "train" in run.record.data else 0 for run in study.runs]
    several = len(_sizes(study)) > 1
    return [run for run, count in zip(study.runs, counts, strict=True) if not several or count == max(counts)]


def _shows_shift(study: StudyFolder) -> bool:
    """Whether the study measures a shift, or should have."""
    kind = STUDIES.get(study.record.kind)
    return bool(study.shift) or kind is None or kind.needs_low


def _shift_figures(study: StudyFolder) -> dict[str, go.Figure]:
    if not study.shift:
        return {}
    low, high = _levels(study)
    std = {symbol: value for symbol, value in study.shift["element_std"].items() if value is not None}
    drawn = {
        "shift": figures.shift_table(study.shift["elements"], std, f"{high} − {low}"),
        "energies": figures.energy_before_after(study.shift, low, high),
    }
    return _not_empty(drawn)


def _not_empty(drawn: dict[str, go.Figure]) -> dict[str, go.Figure]:
    return {name: drawing for name, drawing in drawn.items() if drawing.data}


def _shift(study: StudyFolder) -> dict[str, Any]:
    if not study.shift:
        return {"shift": None}
    return {
        "shift": tables.shift_numbers(study.shift),
        "energies_caption": _energies_caption(study.shift, *_levels(study)),
        "shift_notes": study.shift["notes"],
        "outliers": tables.outliers(study.shift),
    }


def _training_figures(study: StudyFolder) -> dict[str, go.Figure]:
    return _not_empty({"training": figures.training_curves(_runs(study))}) if any(run.epochs for run in study.runs) else {}


def _models(study: StudyFolder) -> list[str]:
    return list(study.predictions.models) if study.predictions else []


def _parities(study: StudyFolder) -> dict[str, go.Figure]:
    content = _with_references(study)
    return {f"parity:{model}": figures.parity(content, model) for model in _models(study)}


def _parity(study: StudyFolder) -> dict[str, Any]:
    models = _models(study)
    best = best_of([model for model in by_model(_rows(study)) if model.kind == "method"], "energy_mae")
    chosen = best.model if best and best.model in models else next(iter(models), None)
    return {"models": models, "chosen": chosen, "labels": label_origin(study)}


def _error_figures(study: StudyFolder) -> dict[str, go.Figure]:
    rows = _rows(study)
    return _not_empty({"errors": figures.method_bars(rows)}) if by_model(rows, "test") else {}


def _errors(study: StudyFolder) -> dict[str, Any]:
    rows = _rows(study)
    return {
        "errors": tables.errors(rows, "test", study.predictions),
        "methods": tables.descriptions(rows),
        "other_errors": {split: tables.errors(rows, split) for split in ("train", "val") if by_model(rows, split)},
        "notes": sorted({note.text for note in study.results.notes if note.labels == "target"}),
    }


def _retention(study: StudyFolder) -> dict[str, Any]:
    return {"retention": tables.retention(_rows(study), study.source)}


def _provenance(study: StudyFolder) -> dict[str, Any]:
    record, (low, high) = study.record, _levels(study)
    levels = {
        f"source data ({low})": record.theory.low.stated(),
        f"target data ({high})": record.theory.high.stated(),
        f"{study.source}": next((run.record.theory.source.stated() for run in study.runs), None),
    }
    return {
        "facts": _facts(study),
        "data": tables.records({name: data.model_dump() for name, data in record.data.items()}),
        "theories": tables.theories(levels),
        "settings": tables.settings(record.settings),
        "versions": tables.settings(record.versions),
    }


def _with_references(study: StudyFolder) -> dict:
    """The predictions, and the elemental energies to be taken off them: the same fitted references for every model."""
    if study.predictions is None:
        return {}
    content = study.predictions.model_dump()
    fitted = next((study.references[kind].energies for kind in ("residual", "raw", "robust") if kind in study.references), None)
    if fitted is None:
        return content
    return content | {"reference_energy": [_elemental_energy(formula, fitted) for formula in study.predictions.formula]}


def _elemental_energy(formula: str, values: dict[str, float]) -> float:
    """Sum of the references of a formula, eV/atom; NaN where one is not known."""
    from ase.formula import Formula

    try:
        counts = Formula(formula).count()
    except ValueError:
        return math.nan
    return sum(n * values.get(symbol, math.nan) for symbol, n in counts.items()) / max(sum(counts.values()), 1)


def _energies_caption(shift: dict, low: str, high: str) -> str:
    raw, referenced = (number(shift[name]) for name in ("pearson_raw", "pearson_referenced"))
    change = "raises" if referenced > raw else "does not raise"
    text = f"from {raw:.3f} to {referenced:.3f}" if referenced > raw else f"({raw:.3f} before, {referenced:.3f} after)"
    return (
        f"The same structures in {low} and {high}: removing each functional's elemental references {change} their correlation "
        f"{text} (dotted: equal energies)."
    )


def _facts(study: StudyFolder) -> list[tuple[str, str]]:
    record = study.record
    seconds = sum(epoch.seconds for run in study.runs for epoch in run.epochs)
    return [
        ("Source potential", study.source),
        ("Methods", ", ".join(record.methods) or "—"),
        ("Seeds", ", ".join(map(str, record.seeds)) or "—"),
        ("Sample", record.sample or "—"),
        ("Training time, all runs together", duration(seconds) if study.runs else "—"),
    ]


def _tiles(study: StudyFolder) -> list[Tile]:
    """The key figures of a study; those without data are left out."""
    tiles = []
    errors = by_model(_rows(study))
    best = best_of([model for model in errors if model.kind == "method"], "energy_mae")
    if best:
        shown = (("energy_mae", "Energy error, best method"), ("forces_mae", "Force error, same method"))
        tiles += [
            Tile(label, written(metric, best.mean.get(metric, math.nan)), QUANTITIES[metric].unit, f"{best.model}, test set")
            for metric, label in shown
        ]
        tiles += _gain(study, best, {model.model: model for model in errors if model.kind != "method"})
    if study.shift:
        mean, std, raw, referenced = (
            number(study.shift[name]) for name in ("mean", "std", "pearson_raw", "pearson_referenced")
        )
        tiles.append(
            Tile(
                "Shift between functionals",
                f"{mean:+.2f}".replace("-", "−"),
                "eV/atom",
                f"± {std:.2f} over {study.shift['n_pairs']} pairs",
            )
        )
        tiles.append(Tile("Correlation, referenced", f"{referenced:.3f}", "Pearson r", f"from {raw:.3f} raw"))
    return tiles


def _gain(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[Tile]:
    """Gain of training over exchanging the references; a factor over the untouched source would be its energy zero."""
    alone = references_alone(study, baselines)
    if alone is None:
        return []
    change, interval = difference(best, alone, "energy_mae", study.predictions)
    text = "over new references alone"
    if math.isfinite(interval[0]):
        text = f"over new references alone; 95 % {signed('energy_mae', interval[0])} to {signed('energy_mae', interval[1])}"
    return [Tile("Training, in energy", signed("energy_mae", change), "meV/atom", text)]


register(
    Page("study", "Study report", lambda study: study.record.title, verdict_of,
         _tiles, _common),
    Section("study", "shift", lambda study: "The shift between {} and {}".format(*_levels(study)), "Shift", needs=_shows_shift,
            figures=_shift_figures, block="shift", values=_shift),
    Section("study", "references", "Elemental references", "References", block="references",
            needs=lambda study: study.references or _shows_shift(study),
            values=lambda study: {"references": tables.references(study.references)}),
    Section("study", "training", "Training", figures=_training_figures, block="training",
            values=lambda study: {"runs": tables.runs(study.runs)}),
    Section("study", "parity", "Predicted against computed", "Parity", figures=_parities, block="parity", values=_parity),
    Section("study", "errors", _errors_title, "Errors", figures=_error_figures, block="errors", values=_errors),
    Section("study", "retention", lambda study: f"What was lost on {_levels(study)[0]}", "Retention",
            needs=lambda study: _shows_shift(study) or study.results.select(labels="source").rows, block="retention",
            values=_retention),
    Section("study", "provenance", "Settings, data and versions", "Settings and data", block="provenance",
            values=_provenance),
)  # fmt: skip
