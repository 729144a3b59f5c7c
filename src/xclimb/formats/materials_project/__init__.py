"""JSON of the Materials Project, MatPES, mlearn and pymatgen, compressed or not, streamed record by record."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xclimb.errors import DataError
from xclimb.formats.base import Format, Part, ReadOptions, Source, register
from xclimb.formats.compressed import Unpacked, head_of, open_compressed
from xclimb.formats.materials_project.columns import decode_columns
from xclimb.formats.materials_project.records import ENERGIES, UNITS, decode_chunk, which_energy
from xclimb.formats.materials_project.spans import BLANK, Chunk, iter_chunks, record_depth
from xclimb.formats.vasp.vasprun import energy_flavour

_HEAD = 1_000_000  # bytes in which the first record has to begin


def iter_record_chunks(source: Source) -> Iterator[Chunk]:
    """Records of a file, some megabytes at a time.

    Raises:
        DataError: if the file breaks off, or cannot be decompressed; all records before have been given by then.
    """
    layout = record_depth(head_of(source.path, _HEAD))
    if layout is None:
        raise DataError(f"{source.path} has no record with a structure at its beginning: is it another file?")
    depth, kind = layout
    with open_compressed(source.path) as file:
        by_place = not isinstance(file, Unpacked)
        for chunk in iter_chunks(file, depth, str(source.path), by_place=by_place, recover=kind != "task"):
            yield replace(chunk, kind=kind)


def decode(chunk: Chunk, source: Source, options: ReadOptions) -> list[Part]:
    """The records of a chunk as frames; see :func:`xclimb.formats.materials_project.records.decode_chunk`."""
    chunk = chunk.filled(source.path)
    which = energy_flavour(options.energy) if chunk.kind == "task" else which_energy(options.energy)
    part = decode_columns(chunk, chunk.kind, which, source.stem, str(source.path))
    return [part] if part is not None else decode_chunk(chunk, chunk.kind, which, source.stem, str(source.path), options.steps)


def iter_records(source: Source, options: ReadOptions) -> Iterator[Part]:
    """The records of a file as frames, some megabytes at a time."""
    for chunk in iter_record_chunks(source):
        yield from decode(chunk, source, options)


def _kind(head: bytes, path: Path) -> str | None:
    if head.lstrip(BLANK)[:1] not in (b"{", b"["):
        return None
    depth = record_depth(head) or record_depth(head_of(path, _HEAD))
    return None if depth is None else "records"


register(
    Format(
        "records",
        reads={
            "MPtrj, MP-r2SCAN (nested JSON)": (
                "structure, `uncorrected_total_energy` or `corrected_total_energy`, `force`, `stress` (kbar, VASP's sign), "
                "`magmom`; other scalars become extra columns"
            ),
            "MatPES (JSON)": (
                "`energy`, `forces`, `stress` (6 in the order xx yy zz yz xz xy, kbar, VASP's sign), magnetic moments of the "
                "sites, else `bader_magmoms`; `functional`"
            ),
            "pymatgen: ComputedStructureEntry, Structure (JSON)": (
                "energy (with or without its correction), site moments and forces; `run_type` and `hubbards` of the parameters"
            ),
            "mlearn, maml (JSON)": (
                "labels of `outputs`; `virial_stress` is kbar in VASP's sign, in the order of an OUTCAR (xx yy zz xy yz xz)"
            ),
            "Materials Project and emmet task documents (JSON)": (
                "every ionic step of `calcs_reversed` with energy, forces and stress (kbar, VASP's sign), moments of the last; "
                "else `output`; level of theory from the tags of each calculation, else `run_type` or `calc_type`"
            ),
        },
        iter=iter_records,
        sniff=_kind,
        units=UNITS,
        energies=ENERGIES,
        program="JSON",
        chunks=iter_record_chunks,
        decode=decode,
    )
)
