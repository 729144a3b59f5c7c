"""The report page: one self-contained HTML file, and the numbers as CSV beside it, out of a run, study or shift folder."""

from pathlib import Path

from xclimb.errors import DataError
from xclimb.files import to_csv
from xclimb.report.folder import ShiftFolder, StudyFolder, read_folder
from xclimb.report.html import replace_file
from xclimb.report.pages import assemble
from xclimb.report.run_summary import results_of
from xclimb.report.shift_files import write_shift
from xclimb.runs.schema import ResultsTable


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
        DataError: if the folder is none of them, or one of its files is damaged, or the page cannot be written.
        ReferencesError: if one of its files of references is damaged.
    """
    content = read_folder(folder)
    page = Path(folder) / "report.html" if out is None else Path(out)
    if page.suffix.lower() not in (".html", ".htm"):
        page = page / "report.html"
    if isinstance(content, ShiftFolder):
        return write_shift(content.report, page.parent, page.name)
    if isinstance(content, StudyFolder):
        html, results = assemble("study", content), content.results.select(labels="target")
    else:
        html, results = assemble("run", content), results_of(content)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        replace_file(page.with_name("results.csv"), _csv(results))
        replace_file(page, html)
    except OSError as error:
        raise DataError(
            f"the report {page} cannot be written ({error.strerror}); give a folder that can be written to with out="
        ) from None
    return page


def _csv(results: ResultsTable) -> str:
    """The results as a wide table, one line a model, seed and set; missing numbers are empty."""
    names = list(dict.fromkeys(row.metric for row in results.rows))
    varied = [name for name in ("n_train", "fold") if len({getattr(row, name) for row in results.rows}) > 1]
    columns = ["model", "seed", "kind", *varied, "split"]
    lines: dict[tuple, dict[str, float | int | None]] = {}
    for row in results.rows:
        lines.setdefault(tuple(getattr(row, name) for name in columns), {})[row.metric] = row.value
    notes: dict[tuple, list[str]] = {}
    for note in results.notes:
        notes.setdefault((note.model, note.seed, note.split), []).append(note.text)
    table: list[list] = [[*columns, *names, "notes"]]
    for trial, values in lines.items():
        cells = ["" if (value := values.get(name)) is None else f"{value:.10g}" for name in names]
        model, seed, *_, split = trial
        table.append(["" if part is None else part for part in trial] + [*cells, " ".join(notes.get((model, seed, split), []))])
    return to_csv(table)
