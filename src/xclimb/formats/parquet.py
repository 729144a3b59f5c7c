"""Frames out of Parquet files, a batch of rows at a time: tables of xclimb's own kind, and of MatPES records."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from xclimb.data.label_keys import LabelKeys
from xclimb.data.parquet import LabelColumns, frames_from_table, label_columns, to_parquet
from xclimb.errors import DataError
from xclimb.formats.base import Part, Source
from xclimb.formats.materials_project import which_energy
from xclimb.formats.materials_project.records import decode_records

__all__ = ["first_line", "iter_parquet", "to_parquet"]
ROWS = 20_000  # a batch: some ten MB for crystals of 10 to 100 atoms
_RECORDS = 1000  # records of nested objects take more


def iter_parquet(
    source: Source, functional: str | None = None, keys: LabelKeys | None = None, energy: str | None = None
) -> Iterator[Part]:
    """Frames of a Parquet file, batch by batch; the schema is described in :mod:`xclimb.data.parquet`.

    A table with a column ``structure`` (MatPES on the Hugging Face hub) has records as JSON files have.

    Args:
        source: the file.
        functional: which functional's labels, where the file has those of several.
        keys: names of the label columns, where the user gives them.
        energy: which energy of records, see :func:`xclimb.formats.materials_project.which_energy`.

    Raises:
        DataError: if the file is damaged, has no rows, lacks a column, or holds several functionals and none is chosen.
        TheoryError: if the file has no labels of the functional.
    """
    path, first = source.path, 0
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows == 0:
            raise DataError(f"{path} has no rows: there is nothing to read")
        if "structure" in file.schema_arrow.names:
            for batch in file.iter_batches(batch_size=_RECORDS):
                rows = [(n, record, (None, None)) for n, record in enumerate(batch.to_pylist(), first)]
                yield from decode_records(rows, "entry", which_energy(energy), source.stem, str(path))
                first += batch.num_rows
            return
        labels = label_columns(file.schema_arrow, functional, keys, str(path))
        wanted = [name for name in file.schema_arrow.names if not _is_foreign(name, labels)]
        for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
            yield Part(frames_from_table(batch, labels, str(path), source.stem, first), first)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is a damaged Parquet file ({first_line(error)}): fetch or write it again") from None


def _is_foreign(name: str, labels: LabelColumns) -> bool:
    """Labels of another functional are never read from the disk."""
    return name in labels.every and name not in labels.columns.values()


def first_line(error: BaseException) -> str:
    """The first line of another library's message, short enough to stand in a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]
