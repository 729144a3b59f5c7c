"""Files and frames that a table of rejects names."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from xclimb.errors import DataError
from xclimb.files import from_cell
from xclimb.ingest.tasks import Done

Wanted = dict[str, set[int] | None]


def rejected_files(table: Path) -> Wanted:
    """File -> numbers of its rejected frames, or None where the file could not be read to its end.

    Raises:
        DataError: if the table is missing, none, or empty.
    """
    if table.is_dir():
        raise DataError(f"{table} is a folder: give the rejects.csv of a store")
    if not table.is_file():
        raise DataError(f"{table} does not exist: give the rejects.csv of a store")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        wanted: Wanted = {}
        for row in rows:
            name, index = from_cell(row["file"]), int(row["index"])
            before = wanted.get(name, set())
            wanted[name] = None if index < 0 or before is None else before | {index}
    except (KeyError, ValueError, TypeError):
        raise DataError(f"{table} is no table of rejects: give the rejects.csv of a store") from None
    if not wanted:
        raise DataError(f"{table} names no frame: there is nothing to try again")
    return wanted


def only_rejected(done: Done, wanted: Wanted, store: Path) -> Done:
    """Drop the frames that nobody asked for from the result of a task."""
    if done.source.path == store:
        return done
    rows = wanted.get(str(done.source.path))
    if rows is None:  # the whole file
        return done
    parts, prints = [], []
    for part, numbers in zip(done.parts, done.fingerprints, strict=True):
        chosen = np.isin(part.places, list(rows))
        rejects = [reject for reject in part.rejects if reject.index in rows]
        parts.append(replace(part, frames=part.frames[chosen], rejects=rejects, places=part.places[chosen]))
        prints.append(numbers[chosen] if len(numbers) else numbers)
    return replace(done, parts=parts, fingerprints=prints)
