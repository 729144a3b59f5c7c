"""JSON files of the Materials Project, MatPES and pymatgen, plain or compressed, streamed record by record."""

from collections.abc import Iterator

from xclimb.errors import DataError
from xclimb.formats.base import Part, Source
from xclimb.formats.compressed import Unpacked, open_compressed
from xclimb.formats.materials_project.columns import decode_columns
from xclimb.formats.materials_project.records import ENERGIES, decode_chunk
from xclimb.formats.materials_project.spans import Chunk, iter_chunks
from xclimb.formats.vasp.vasprun import energy_flavour


def iter_record_chunks(source: Source) -> Iterator[Chunk]:
    """Records of a file, some megabytes at a time.

    Raises:
        DataError: if the file breaks off, or cannot be decompressed; all records before have been given by then.
    """
    depth, kind = _layout(source)
    with open_compressed(source.path) as file:
        plain = not isinstance(file, Unpacked)
        yield from iter_chunks(file, depth, str(source.path), by_place=plain, recover=kind != "task")


def decode(chunk: Chunk, source: Source, energy: str | None, steps: str = "all") -> list[Part]:
    """The records of a chunk as frames; see :func:`xclimb.formats.materials_project.records.decode_chunk`."""
    chunk = chunk.filled(source.path)
    kind = _layout(source)[1]
    which = energy_flavour(energy) if kind == "task" else which_energy(energy)
    part = decode_columns(chunk, kind, which, source.stem, str(source.path))
    return [part] if part is not None else decode_chunk(chunk, kind, which, source.stem, str(source.path), steps)


def iter_records(source: Source, energy: str | None, steps: str = "all") -> Iterator[Part]:
    """The records of a file as frames, some megabytes at a time."""
    for chunk in iter_record_chunks(source):
        yield from decode(chunk, source, energy, steps)


def which_energy(energy: str | None) -> str:
    """``"uncorrected"`` unless another of a record's energies is asked for."""
    if energy not in (None, *ENERGIES):
        raise DataError(f"energy={energy!r} is none that JSON records have: give {' or '.join(ENERGIES)}")
    return energy or ENERGIES[0]


def _layout(source: Source) -> tuple[int, str]:
    if source.layout is None:
        raise DataError(f"{source.path} has no record with a structure at its beginning: is it another file?")
    return source.layout
