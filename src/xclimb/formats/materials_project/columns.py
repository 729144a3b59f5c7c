"""Records of MPtrj, MP-r2SCAN and MatPES straight into columns by Arrow's JSON reader, without a Python object an atom.

Whole crystals with labels of the right shape, or none, are decoded here: most of every file. A record that is otherwise goes
through :mod:`xclimb.formats.materials_project.records` one by one, which knows what it means or names what is wrong with it; so
does a whole chunk that Arrow cannot read, or whose records are of another kind. The two agree on every record.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from xclimb.data.frames import Frames
from xclimb.data.store import from_arrow
from xclimb.data.theory import LevelOfTheory, functional_name
from xclimb.errors import TheoryError
from xclimb.formats.base import Part
from xclimb.formats.materials_project.records import USED, atomic_numbers, decode_some
from xclimb.formats.materials_project.spans import Chunk, keys_of
from xclimb.units import vasp_kbar_to_ev_a3, voigt_to_full

_NUMBERS = pa.list_(pa.float64())
_VECTORS = pa.list_(_NUMBERS)
_SPECIES = pa.struct({"element": pa.string(), "occu": pa.float64()})
_SITE = pa.struct({
    "species": pa.list_(_SPECIES), "abc": _NUMBERS, "xyz": _NUMBERS, "label": pa.string(),
    "properties": pa.struct({"magmom": pa.float64()}),
})  # fmt: skip
_LATTICE = pa.struct({"matrix": _VECTORS, "pbc": pa.list_(pa.bool_())})
_STRUCTURE = pa.struct({"lattice": _LATTICE, "sites": pa.list_(_SITE), "charge": pa.float64()})
# columns that change what a record means: json_records knows how
_ODD = {"force", "forces", "magmom", "magmoms", "bader_magmoms", "material_id", "frame_id", "entry_id", "mp_id"}
_ODD |= {"parameters", "correction", "charge"}


@dataclass(frozen=True)
class _Kind:
    """One kind of records: what its columns are called."""

    marker: str  # every record of the kind has it
    energies: dict[str, str]  # uncorrected, corrected -> column
    forces: str
    stress: pa.DataType
    magmoms: str
    material: str | None
    frame: str | None

    def schema(self) -> pa.Schema:
        columns = {"structure": _STRUCTURE, **dict.fromkeys(self.energies.values(), pa.float64()), self.forces: _VECTORS}
        columns |= {"stress": self.stress, self.magmoms: _NUMBERS, "functional": pa.string()}
        return pa.schema(columns | {name: pa.string() for name in (self.material, self.frame) if name})


_NESTED = _Kind(
    "uncorrected_total_energy", {"uncorrected": "uncorrected_total_energy", "corrected": "corrected_total_energy"},
    "force", _VECTORS, "magmom", "mp_id", None,
)  # fmt: skip
_MATPES = _Kind("matpes_id", {"uncorrected": "energy"}, "forces", _NUMBERS, "bader_magmoms", None, "matpes_id")


def decode_columns(chunk: Chunk, kind: str, energy: str, stem: str, file: str) -> Part | None:
    """The records of a chunk as frames; arguments as for :func:`xclimb.formats.materials_project.records.decode_chunk`.

    Returns:
        None if the chunk holds records of another kind, or anything that Arrow does not read.
    """
    texts = [chunk.text[begin:end] for begin, end in chunk.spans.tolist()]
    columns = _kind(texts[0], energy) if kind == "entry" else None
    if columns is None:
        return None
    keys = keys_of(chunk)
    try:
        table = _read(texts, columns)
        frames, regular = _frames(table, columns, energy, keys)
    except (pa.ArrowException, UnicodeDecodeError, _OtherwiseError):
        return None
    places = chunk.first + np.arange(len(texts))
    if regular.all():
        return Part(frames, chunk.first, [], places)
    others = [(int(places[n]), texts[n], keys[n]) for n in np.flatnonzero(~regular)]
    return _merged(Part(frames, chunk.first, [], places[regular]), decode_some(others, kind, energy, stem, file))


class _OtherwiseError(Exception):
    """The records are of no kind that is known here."""


def _kind(first: bytes, energy: str) -> _Kind | None:
    try:
        record = orjson.loads(first)
    except orjson.JSONDecodeError:
        return None
    kind = next((one for one in (_NESTED, _MATPES) if one.marker in record), None)
    return kind if kind and energy in kind.energies else None


def _read(texts: list[bytes], kind: _Kind) -> dict[str, pa.Array]:
    """The records as a table: column -> array. A further column is there if any record has it."""
    text = b"\n".join(texts)
    table = pj.read_json(
        pa.BufferReader(text),
        pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
        pj.ParseOptions(explicit_schema=kind.schema(), unexpected_field_behavior="infer"),
    )
    if table.num_rows != len(texts) or (_ODD - set(kind.schema().names)).intersection(table.column_names):
        raise _OtherwiseError
    return {name: table.column(name).combine_chunks() for name in table.column_names}


def _merged(regular: Part, others: list[Part]) -> Part | None:
    """Frames read in two ways, in the order of the file; None if they are at different levels of theory."""
    parts = [regular, *others]
    try:
        frames = Frames.concatenate([part.frames for part in parts if len(part.frames)] or [regular.frames])
    except TheoryError:
        return None
    places = np.concatenate([part.places for part in parts])
    order = np.argsort(places)
    return Part(frames[order], regular.first, [reject for part in others for reject in part.rejects], places[order])


# -- columns of records to columns of frames ------------------------------------------------------------------------------


def _frames(
    table: dict[str, pa.Array], kind: _Kind, energy: str, keys: list[tuple[str | None, str | None]]
) -> tuple[Frames, np.ndarray]:
    """The frames of the regular records, and a mask of these among all ``[n]``."""
    sites, lattice = table["structure"].field("sites"), table["structure"].field("lattice")
    counts = _lengths(sites)
    site = sites.flatten()
    row = np.repeat(np.arange(len(counts)), counts)  # of each site
    numbers = _elements(site.field("species"))
    abc, whole = _values(site.field("abc"), np.full(len(row), 3))
    cells, regular = _values(lattice.field("matrix"), np.full(len(counts), 3), 3)
    pbc, periodic = _periodic(lattice.field("pbc"))
    forces, fit = _values(table[kind.forces], counts, 3)
    regular &= periodic & (counts > 0) & (fit | _missing(table[kind.forces])) & ~_missing(table[kind.marker])
    regular[row[(numbers == 0) | ~whole]] = False
    stress, fit = _values(table["stress"], *((_full(counts, 3), 3) if kind.stress == _VECTORS else (_full(counts, 6), 1)))
    regular &= fit | _missing(table["stress"])
    magmoms, fit = _moments(table[kind.magmoms], site, counts, kind)
    regular &= fit
    value = table[kind.energies[energy]]
    regular &= ~_missing(value) if energy == "corrected" else True
    cells = cells.reshape(-1, 3, 3)
    stress = stress.reshape(-1, 3, 3) if kind.stress == _VECTORS else voigt_to_full(stress.reshape(-1, 6))
    ids = _ids(table, kind, keys)
    chosen = regular[row] if not regular.all() else slice(None)
    frames = Frames(
        numbers=numbers[chosen],
        positions=np.einsum("ai,aij->aj", abc.reshape(-1, 3), cells[row])[chosen],
        cells=cells[regular],
        pbc=pbc[regular],
        offsets=np.concatenate([[0], np.cumsum(counts[regular])]),
        energy=_floats(value)[regular],
        forces=forces[chosen],
        stress=vasp_kbar_to_ev_a3(stress[regular]),
        magmoms=magmoms[chosen],
        material_id=ids[0][regular],
        frame_id=ids[1][regular],
        theory=_theory(table, energy),
        extras={name: values[regular] for name, values in _extras(table).items() if _stated(values[regular])},
    )
    nameless = frames.material_id == ""
    if nameless.any():
        frames = frames.replace(material_id=np.where(nameless, frames.formulas(), frames.material_id))
    return frames, regular


def _full(counts: np.ndarray, n: int) -> np.ndarray:
    return np.full(len(counts), n)


def _values(lists: pa.Array, expected: np.ndarray, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A list of numbers (or of lists of ``width`` numbers) a row as one array, each row with as many entries as expected.

    Returns:
        values ``[sum(expected), width]`` (``[sum(expected)]`` for a width of 1), NaN for null and for rows that do not fit;
        which rows fit.
    """
    lengths, items = _lengths(lists), lists.flatten()
    fits = lengths == expected
    row = np.repeat(np.arange(len(lengths)), lengths)
    if width > 1:
        inner, items = _lengths(items), items.flatten()
        fits[row[inner != width]] = False
        row = np.repeat(row, inner)
    values = _floats(items)
    if not fits.all():
        out = np.full((int(expected.sum()), width), np.nan)
        out[np.repeat(fits, expected)] = values[fits[row]].reshape(-1, width)
        values = out
    return (values.reshape(-1, width) if width > 1 else values.reshape(-1)), fits


def _elements(species: pa.Array) -> np.ndarray:
    """Atomic number on each site; 0 where there is none, several, a part of one, or one that is not known."""
    lengths, items = _lengths(species), species.flatten()
    if not len(items):
        return np.zeros(len(lengths), dtype=np.int32)
    names = items.field("element").dictionary_encode()
    known = atomic_numbers()
    table = np.array([*(known.get(name, 0) for name in names.dictionary.to_pylist()), 0], dtype=np.int32)
    numbers = table[_filled(names.indices, -1)]
    numbers = np.where(_floats(items.field("occu")) > 0.999, numbers, 0).astype(np.int32)
    if (lengths == 1).all():
        return numbers
    first = np.minimum(np.cumsum(lengths) - lengths, len(numbers) - 1)
    return np.where(lengths == 1, numbers[first], 0).astype(np.int32)


def _periodic(lists: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Periodic directions of each lattice ``[n, 3]``, all where it does not say; and whether that is three or nothing."""
    values, fits = _values(lists.cast(pa.list_(pa.uint8())).cast(_NUMBERS), _full(_lengths(lists), 3))
    unsaid = _lengths(lists) == 0
    return (values.reshape(-1, 3) == 1.0) | unsaid[:, None], fits | unsaid


def _moments(column: pa.Array, site: pa.Array, counts: np.ndarray, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    """Magnetic moments ``[A]``, and which records have them in order: a record's own first, then those of its sites;
    MatPES the other way round, its own being Bader moments.
    """
    own, fits = _values(column, counts)
    of_sites = _floats(site.field("properties").field("magmom"))
    stated = np.zeros(len(counts), dtype=bool)
    stated[np.repeat(np.arange(len(counts)), counts)[~np.isnan(of_sites)]] = True
    missing = _missing(column)
    from_sites = stated if kind is _MATPES else missing
    return np.where(np.repeat(from_sites, counts), of_sites, own), fits | missing | from_sites


def _ids(table: dict[str, pa.Array], kind: _Kind, keys: list[tuple[str | None, str | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Names of materials and frames: the record's own, else the keys that it stands under."""
    materials: list[Any] = table[kind.material].to_pylist() if kind.material else [None] * len(keys)
    frames: list[Any] = table[kind.frame].to_pylist() if kind.frame else [None] * len(keys)
    named = [((m if m is not None else key[0]) or "", f if f is not None else key[1]) for m, f, key in
             zip(materials, frames, keys, strict=True)]  # fmt: skip
    if any(frame is None for _, frame in named):
        raise _OtherwiseError
    return np.array([m for m, _ in named], dtype=np.str_), np.array([f for _, f in named], dtype=np.str_)


def _theory(table: dict[str, pa.Array], energy: str) -> LevelOfTheory:
    stated = set(table["functional"].unique().to_pylist())
    if len(stated) > 1:
        raise _OtherwiseError
    (functional,) = stated or {None}
    corrections = "MP2020" if energy == "corrected" else None
    return LevelOfTheory(functional and functional_name(functional), code="VASP", corrections=corrections)


def _extras(table: dict[str, pa.Array]) -> dict[str, np.ndarray]:
    """Further scalars of the records as columns, and the charge of charged cells."""
    extras = {}
    for name, column in table.items():
        kind = column.type
        if name in USED or name == "energy" or name.startswith("@") or pa.types.is_nested(kind) or pa.types.is_null(kind):
            continue
        if pa.types.is_string(kind):
            extras[name] = np.array(["" if value is None else value for value in column.to_pylist()], dtype=np.str_)
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            extras[name] = _floats(column)
        else:  # what Arrow takes for a date is text to us
            raise _OtherwiseError
    charge = _floats(table["structure"].field("charge"))
    return extras | {"charge": np.where(charge == 0.0, np.nan, charge)}


def _stated(values: np.ndarray) -> bool:
    """Whether any frame has a value."""
    return bool((values != "").any() if values.dtype.kind == "U" else not np.isnan(values).all())


def _lengths(lists: pa.Array) -> np.ndarray:
    """Entries of each list; 0 for null."""
    return _filled(lists.value_lengths(), 0).astype(np.int64)


def _missing(column: pa.Array) -> np.ndarray:
    return from_arrow(column.is_null().cast(pa.uint8()), ()).view(np.bool_)


def _floats(column: pa.Array) -> np.ndarray:
    """Numbers as float64, NaN for null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return _filled(column if column.type == pa.float64() else pc.cast(column, pa.float64(), safe=False), np.nan)


def _filled(column: pa.Array, value: int | float) -> np.ndarray:
    """A column of numbers with a value for null (Arrow's own fill_null would import pandas)."""
    values = from_arrow(column, ())
    return np.where(_missing(column), value, values) if column.null_count else values
