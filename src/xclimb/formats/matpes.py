"""MatPES as Parquet, as on the Hugging Face hub: the records of its JSON files, one a row, with a column ``structure``."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xclimb.formats.base import Format, Part, ReadOptions, Source, register
from xclimb.formats.materials_project.records import ENERGIES, UNITS, decode_records, which_energy
from xclimb.formats.parquet import opened

_ROWS = 1000  # a batch: nested objects take more memory than columns


def iter_matpes(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Records of a Parquet file as frames, batch by batch.

    Raises:
        DataError: if the file is damaged or has no rows.
    """
    first = 0
    with opened(source.path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            rows = [(n, record, (None, None)) for n, record in enumerate(batch.to_pylist(), first)]
            yield from decode_records(rows, "entry", which_energy(options.energy), source.stem, str(source.path))
            first += batch.num_rows


def _kind(head: bytes, path: Path) -> str | None:
    if not head.startswith(b"PAR1"):
        return None
    try:
        return "matpes" if "structure" in pq.read_schema(path).names else None
    except (pa.ArrowException, OSError):
        return None  # damaged: the reader of Parquet says so


register(
    Format(
        "matpes",
        reads={"MatPES (Parquet with a `structure` column)": "as MatPES in JSON"},
        iter=iter_matpes,
        sniff=_kind,
        units=UNITS,
        energies=ENERGIES,
        program="JSON",
    )
)
