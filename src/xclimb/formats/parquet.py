"""Parquet tables of xclimb's own schema, one row a frame, a batch of rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xclimb.data.parquet import LabelColumns, first_functional, frames_from_table, label_columns
from xclimb.errors import DataError
from xclimb.formats.base import EV_UNITS, Format, Part, ReadOptions, Source, first_line, register

_ROWS = 20_000  # a batch: some ten MB for crystals of 10 to 100 atoms


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; errors of Arrow until it is closed are errors in the file.

    Raises:
        DataError: if the file is damaged or has no rows.
    """
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows == 0:
            raise DataError(f"{path} has no rows: there is nothing to read")
        yield file
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is a damaged Parquet file ({first_line(error)}): fetch or write it again") from None


def iter_parquet(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Frames of a Parquet file, batch by batch; the schema is described in :mod:`xclimb.data.parquet`.

    Args:
        source: the file.
        options: names of the label columns, and the functional that chooses where the file has labels of several.

    Raises:
        DataError: if the file is damaged, has no rows, lacks a column, or holds several functionals and none is chosen.
        TheoryError: if the file has no labels of the functional.
    """
    path, first = source.path, 0
    with opened(path) as file:
        functional = options.only or options.functional
        if functional is None and options.labels == "ignored":
            functional = first_functional(file.schema_arrow)
        labels = label_columns(file.schema_arrow, functional, options.keys, str(path))
        wanted = [name for name in file.schema_arrow.names if not _is_foreign(name, labels)]
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
            yield Part(frames_from_table(batch, labels, str(path), source.stem, first), first)
            first += batch.num_rows


def _is_foreign(name: str, labels: LabelColumns) -> bool:
    """Labels of another functional are never read from the disk."""
    return name in labels.every and name not in labels.columns.values()


def _kind(head: bytes, path: Path) -> str | None:
    return "parquet" if head.startswith(b"PAR1") else None


register(
    Format(
        "parquet",
        reads={"Parquet of `xclimb export`": "everything"},
        iter=iter_parquet,
        sniff=_kind,
        units=EV_UNITS,
        priority=10,  # Parquet of other schemas comes first
    )
)
