"""The page of a study: every method and seed on the same data, beside the models without training."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from xclimb.report import figures, tables
from xclimb.report.folder import Row, StudyFolder, number
from xclimb.report.pages.base import Page, Section, register
from xclimb.report.study_summary import study_tiles, study_verdict
from xclimb.report.summary import best_of, by_model, duration, functional, label_origin


def _levels(study: StudyFolder) -> tuple[str, str]:
    """Names of the low and the high functional."""
    theory = study.study.get("theory") or {}
    return functional(theory.get("low"), "low"), functional(theory.get("high"), "high")


def _common(study: StudyFolder) -> dict[str, Any]:
    low, high = _levels(study)
    return {"study": study, "low": low, "high": high}


def _rows(study: StudyFolder) -> list[Row]:
    return _in_order(study.results, study.source)


def _shift_figures(study: StudyFolder) -> dict[str, go.Figure]:
    if not study.shift:
        return {}
    low, high = _levels(study)
    drawn = {
        "shift": figures.shift_table(study.shift["elements"], study.shift["element_std"], f"{high} − {low}"),
        "energies": figures.energy_before_after(study.shift, low, high),
    }
    return _not_empty(drawn)


def _not_empty(drawn: dict[str, go.Figure]) -> dict[str, go.Figure]:
    return {name: drawing for name, drawing in drawn.items() if drawing.data}


def _shift(study: StudyFolder) -> dict[str, Any]:
    return {
        "shift": tables.shift_numbers(study.shift),
        "energies_caption": _energies_caption(study.shift, *_levels(study)),
        "shift_notes": [str(note) for note in (study.shift or {}).get("notes") or ()],
        "outliers": tables.outliers(study.shift),
    }


def _training_figures(study: StudyFolder) -> dict[str, go.Figure]:
    return _not_empty({"training": figures.training_curves(study.runs)}) if any(run.epochs for run in study.runs) else {}


def _models(study: StudyFolder) -> list[str]:
    return list(study.predictions["models"]) if study.predictions else []


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
        "notes": sorted({note for row in rows for note in row.notes}),
    }


def _retention(study: StudyFolder) -> dict[str, Any]:
    return {"retention": tables.retention(_in_order(study.retention, study.source), study.source)}


def _provenance(study: StudyFolder) -> dict[str, Any]:
    theory, (low, high) = study.study.get("theory") or {}, _levels(study)
    levels = {
        f"source data ({low})": theory.get("low"),
        f"target data ({high})": theory.get("high"),
        f"{study.source}": next((run.info.get("theory", {}).get("source") for run in study.runs), None),
    }
    return {
        "facts": _facts(study),
        "data": tables.records(study.study.get("data")),
        "theories": tables.theories(levels),
        "settings": tables.settings(study.study.get("settings")),
        "versions": tables.settings(study.study.get("versions")),
    }


def _with_references(study: StudyFolder) -> dict:
    """The predictions, and the elemental energies to be taken off them: the same fitted references for every model."""
    content = study.predictions or {}
    fitted = next((study.references[kind].values for kind in ("residual", "raw", "robust") if kind in study.references), None)
    formulas = [str(formula) for formula in content.get("formula") or ()]
    if fitted is None or not formulas:
        return content
    return content | {"reference_energy": [_elemental_energy(formula, fitted) for formula in formulas]}


def _elemental_energy(formula: str, values: dict[str, float]) -> float:
    """Sum of the references of a formula, eV/atom; NaN where one is not known."""
    from ase.formula import Formula

    try:
        counts = Formula(formula).count()
    except ValueError:
        return math.nan
    return sum(n * values.get(symbol, math.nan) for symbol, n in counts.items()) / max(sum(counts.values()), 1)


def _energies_caption(shift: dict | None, low: str, high: str) -> str:
    raw, referenced = (number((shift or {}).get(name)) for name in ("pearson_raw", "pearson_referenced"))
    change = "raises" if referenced > raw else "does not raise"
    text = f"from {raw:.3f} to {referenced:.3f}" if referenced > raw else f"({raw:.3f} before, {referenced:.3f} after)"
    return (
        f"The same structures in {low} and {high}: removing each functional's elemental references {change} their correlation "
        f"{text} (dotted: equal energies)."
    )


def _in_order(rows: Sequence[Row], source: str) -> list[Row]:
    """Baselines first, the untouched source at their head; then the methods as the study lists them."""
    return sorted(rows, key=lambda row: (row.model != source, row.kind == "method"))


def _facts(study: StudyFolder) -> list[tuple[str, str]]:
    fields = study.study
    seconds = sum(number(epoch.get("seconds")) for run in study.runs for epoch in run.epochs)
    return [
        ("Source potential", study.source),
        ("Methods", ", ".join(map(str, fields.get("methods") or ())) or "—"),
        ("Seeds", ", ".join(map(str, fields.get("seeds") or ())) or "—"),
        ("Sample", str(fields.get("sample") or "—")),
        ("Training time, all runs together", duration(seconds) if study.runs else "—"),
    ]


register(
    Page("study", "Study report", lambda study: str(study.study.get("title") or study.path.resolve().name), study_verdict,
         study_tiles, _common),
    Section("study", "shift", lambda study: "The shift between {} and {}".format(*_levels(study)), "Shift",
            figures=_shift_figures, block="shift", values=_shift),
    Section("study", "references", "Elemental references", "References", block="references",
            values=lambda study: {"references": tables.references(study.references)}),
    Section("study", "training", "Training", figures=_training_figures, block="training",
            values=lambda study: {"runs": tables.runs(study.runs)}),
    Section("study", "parity", "Predicted against computed", "Parity", figures=_parities, block="parity", values=_parity),
    Section("study", "errors", "Errors on the test set", "Errors", figures=_error_figures, block="errors", values=_errors),
    Section("study", "retention", lambda study: f"What was lost on {_levels(study)[0]}", "Retention", block="retention",
            values=_retention),
    Section("study", "provenance", "Settings, data and versions", "Settings and data", block="provenance",
            values=_provenance),
)  # fmt: skip
