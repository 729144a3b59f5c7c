"""Frames out of Parquet files, a batch of rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xclimb.data.frames import LABELS, Frames
from xclimb.data.parquet import LabelColumns, frames_from_table, label_columns, to_parquet
from xclimb.errors import DataError

__all__ = ["first_line", "iter_parquet", "to_parquet"]
ROWS = 20_000  # a batch: some ten MB for crystals of 10 to 100 atoms


def iter_parquet(
    path: Path, functional: str | None = None, energy_key: str | None = None, stem: str | None = None
) -> Iterator[Frames]:
    """Frames of a Parquet file, batch by batch; the schema is described in :mod:`xclimb.data.parquet`.

    Args:
        path: the file.
        functional: which functional's labels, where the file has those of several.
        energy_key: name of the energy column, when it is none of the usual.
        stem: how to call frames without a ``frame_id``; the file's name by default.

    Raises:
        DataError: if the file is damaged, has no rows, lacks a column, or holds several functionals and none is chosen.
        TheoryError: if the file has no labels of the functional.
    """
    try:
        file = pq.ParquetFile(path)
        labels = label_columns(file.schema_arrow, functional, energy_key, str(path))
        if file.metadata.num_rows == 0:
            raise DataError(f"{path} has no rows: there is nothing to read")
        wanted = [name for name in file.schema_arrow.names if not _is_foreign(name, labels)]
        first = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
            yield frames_from_table(batch, labels, str(path), stem or path.stem, first)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is a damaged Parquet file ({first_line(error)}): fetch or write it again") from None


def _is_foreign(name: str, labels: LabelColumns) -> bool:
    """Labels of another functional are never read from the disk."""
    return name in labels.every and name not in {labels.prefix + label for label in LABELS}


def first_line(error: BaseException) -> str:
    """The first line of another library's message, short enough to stand in a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
