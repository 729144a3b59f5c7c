"""The report page: one self-contained HTML file, and the numbers as CSV beside it, out of a run, study or shift folder."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import plotly.graph_objects as go

from xclimb.errors import DataError
from xclimb.files import to_csv
from xclimb.report import figures, tables
from xclimb.report.folder import Row, ShiftFolder, StudyFolder, number, read_folder
from xclimb.report.html import figures_json, render, replace_file
from xclimb.report.run_page import run_page
from xclimb.report.run_summary import rows_of
from xclimb.report.shift_files import write_shift
from xclimb.report.study_summary import study_tiles, study_verdict
from xclimb.report.summary import best_of, by_model, duration, functional, label_origin


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run, study or shift folder: one HTML page that works without network, and tables beside it.

    Beside the page of a run or study stands ``results.csv``; beside that of a shift all that
    :func:`xclimb.report.shift_files.write_shift` writes.

    Args:
        folder: a run folder (run.json), a study folder (study.json) or a shift folder (shift.json); nothing else is read.
        out: the page to write (``.html``), or a folder for ``report.html``; by default ``report.html`` in the folder itself.

    Returns:
        The page that was written; an older one is replaced only when the new one is complete.

    Raises:
        DataError: if the folder is none of them, or one of its files is broken, or the page cannot be written.
    """
    content = read_folder(folder)
    page = Path(folder) / "report.html" if out is None else Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        page = page / "report.html"
    try:
        if isinstance(content, ShiftFolder):
            return write_shift(content.report, page.parent, page.name)
        if isinstance(content, StudyFolder):
            html, rows = _study_page(content), content.results
        else:
            html, rows = run_page(content), rows_of(content)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:  # JSON with values of other types
        text = str(error).partition("\n")[0][:120]
        raise DataError(
            f"a JSON file in {folder} has values that xclimb does not write ({text}): make the folder anew"
        ) from error
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        replace_file(page.with_name("results.csv"), _csv(rows))
        replace_file(page, html)
    except OSError as error:
        raise DataError(
            f"the report {page} cannot be written ({error.strerror}); give a folder that can be written to with out="
        ) from None
    return page


def _csv(rows: Iterable[Row]) -> str:
    """The results as a flat table, one line a model, seed and split; missing numbers are empty."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    table: list[list] = [["model", "seed", "kind", "split", *names, "notes"]]
    for row in rows:
        numbers = [row.metrics.get(name, math.nan) for name in names]
        cells = ["" if math.isnan(value) else f"{value:.10g}" for value in numbers]
        table.append([row.model, "" if row.seed is None else row.seed, row.kind, row.split, *cells, " ".join(row.notes)])
    return to_csv(table)


# -- study ----------------------------------------------------------------------------------------------


def _study_page(study: StudyFolder) -> str:
    theory = study.study.get("theory") or {}
    low, high = functional(theory.get("low"), "low"), functional(theory.get("high"), "high")
    rows = _in_order(study.results, study.source)
    best = best_of([model for model in by_model(rows) if model.kind == "method"], "energy_mae")
    models = list(study.predictions["models"]) if study.predictions else []
    chosen = best.model if best and best.model in models else next(iter(models), None)
    drawn = _study_figures(study, rows, low, high)
    content = _with_references(study)
    drawn |= {f"parity:{model}": figures.parity(content, model) for model in models}
    source_theory = next((run.info.get("theory", {}).get("source") for run in study.runs), None)
    sides = {
        f"source data ({low})": theory.get("low"),
        f"target data ({high})": theory.get("high"),
        f"{study.source}": source_theory,
    }
    return render(
        "study.html.j2",
        title=str(study.study.get("title") or study.path.resolve().name),
        kind="Study report",
        verdict=study_verdict(study),
        tiles=study_tiles(study),
        drawn=set(drawn),
        figures=figures_json(drawn),
        study=study,
        low=low,
        high=high,
        labels=label_origin(study),
        shift=tables.shift_numbers(study.shift),
        energies_caption=_energies_caption(study.shift, low, high),
        shift_notes=[str(note) for note in (study.shift or {}).get("notes") or ()],
        outliers=tables.outliers(study.shift),
        references=tables.references(study.references),
        runs=tables.runs(study.runs),
        errors=tables.errors(rows, "test", study.predictions),
        methods=tables.descriptions(rows),
        other_errors={split: tables.errors(rows, split) for split in ("train", "val") if by_model(rows, split)},
        notes=sorted({note for row in rows for note in row.notes}),
        retention=tables.retention(_in_order(study.retention, study.source), study.source),
        models=models,
        chosen=chosen,
        data=tables.records(study.study.get("data")),
        theories=tables.theories(sides),
        settings=tables.settings(study.study.get("settings")),
        versions=tables.settings(study.study.get("versions")),
        facts=_study_facts(study),
    )


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


def _study_figures(study: StudyFolder, rows: list[Row], low: str, high: str) -> dict[str, go.Figure]:
    drawn = {}
    if study.shift:
        drawn["shift"] = figures.shift_table(study.shift["elements"], study.shift["element_std"], f"{high} − {low}")
        drawn["energies"] = figures.energy_before_after(study.shift, low, high)
    if any(run.epochs for run in study.runs):
        drawn["training"] = figures.training_curves(study.runs)
    if by_model(rows, "test"):
        drawn["errors"] = figures.method_bars(rows)
    return {name: drawing for name, drawing in drawn.items() if drawing.data}


def _study_facts(study: StudyFolder) -> list[tuple[str, str]]:
    fields = study.study
    seconds = sum(number(epoch.get("seconds")) for run in study.runs for epoch in run.epochs)
    return [
        ("Source potential", study.source),
        ("Methods", ", ".join(map(str, fields.get("methods") or ())) or "—"),
        ("Seeds", ", ".join(map(str, fields.get("seeds") or ())) or "—"),
        ("Sample", str(fields.get("sample") or "—")),
        ("Training time, all runs together", duration(seconds) if study.runs else "—"),
    ]
