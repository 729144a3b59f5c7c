"""The report page: one self-contained HTML file, and the numbers as CSV beside it, out of a run, study or shift folder."""

import math
from collections.abc import Iterable
from pathlib import Path

from xclimb.errors import DataError
from xclimb.files import to_csv
from xclimb.report.folder import Row, ShiftFolder, StudyFolder, read_folder
from xclimb.report.html import replace_file
from xclimb.report.pages import assemble
from xclimb.report.run_summary import rows_of
from xclimb.report.shift_files import write_shift


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
    if isinstance(content, ShiftFolder):
        return write_shift(content.report, page.parent, page.name)
    try:
        if isinstance(content, StudyFolder):
            html, rows = assemble("study", content), content.results
        else:
            html, rows = assemble("run", content), rows_of(content)
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
