"""Frames <-> Parquet tables: one row a frame, list columns for what has one entry an atom.

Columns read: ``numbers`` (list), ``cell`` (9, rows = vectors, Å) and ``positions`` (3 an atom, Å) are needed; ``pbc`` (3),
``frame_id``, ``material_id`` and the labels ``{prefix}energy`` (eV), ``{prefix}forces`` (eV/Å), ``{prefix}stress`` (6 in Voigt
order xx yy zz yz xz xy, or 9; eV/Å^3, ASE sign) and ``{prefix}magmoms`` (µB) are optional. The prefix names the functional
(``pbe_energy``, ``r2scan_energy``), so that one table may hold the labels of several; without such prefixes, labels are
recognised by the names of :mod:`xclimb.data.label_schema` (``total_energy``, ``force``). Other scalar columns become extras.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xclimb.data.frames import LABELS, Frames
from xclimb.data.label_keys import LabelKeys, prefix_of
from xclimb.data.label_schema import missing_key, parse_key
from xclimb.data.theory import LevelOfTheory, functional_name, is_known_functional
from xclimb.errors import DataError, TheoryError
from xclimb.files import replacing
from xclimb.units import virial_to_stress, voigt_to_full

_DERIVED = ("natoms", "formula")  # recomputed from the structure, checked or dropped on reading
_STRUCTURE = frozenset({"numbers", "positions", "cell", "pbc", *_DERIVED})
_METADATA = b"xclimb"
_ROWS = 10_000  # frames of a row group


@dataclass(frozen=True)
class LabelColumns:
    """Columns of a table that hold the labels to read.

    Args:
        columns: label (or ``"virial"``) -> name of its column.
        theory: the level of theory of the labels, as far as the table states it.
        every: all label columns of the table, those of other functionals included.
    """

    columns: dict[str, str]
    theory: LevelOfTheory
    every: frozenset[str]


def label_columns(
    schema: pa.Schema, functional: str | None = None, keys: LabelKeys | None = None, name: str = "table"
) -> LabelColumns:
    """Find the label columns of one functional in a table.

    Args:
        schema: the table's schema.
        functional: which functional's labels to read; None if the table holds one only.
        keys: names of the label columns, where the user gives them; forces, stress and magmoms share the prefix of the energy.
        name: what to call the table in messages.

    Raises:
        DataError: if columns a structure needs are missing, or several functionals are there and none is chosen.
        TheoryError: if the functional asked for is not in the table.
    """
    missing = [column for column in ("numbers", "cell", "positions") if column not in schema.names]
    if missing:
        raise DataError(
            f"{name} has no column(s) {', '.join(missing)}: structures need numbers, cell (9) and positions (3 an atom)"
        )
    stored = _stored_theory(schema)
    prefixes = _prefixes(schema.names)
    every = frozenset(prefix + label for prefix in prefixes for label in LABELS)
    given = keys.columns() if keys is not None else {}
    for quantity, key in {} if keys is None else keys.given.items():
        if key not in schema.names:
            raise missing_key(name, quantity, key, [one for one in schema.names if one not in _STRUCTURE])
    if "energy" in given:
        prefix = prefix_of(given["energy"])
        stated = functional_name(prefix.rstrip("_")) if is_known_functional(prefix.rstrip("_")) else None
        return _under(prefix, _state(stored, stated), every, given)
    named = {functional_name(prefix.rstrip("_")): prefix for prefix in prefixes if prefix}
    if functional is not None and functional_name(functional) in named:
        return _under(named[functional_name(functional)], _state(stored, functional_name(functional)), every, given)
    if not named:
        return _recognised(schema, stored, given)
    if "" in prefixes and functional is not None:
        return _under("", stored, every, given)
    if functional is not None:
        raise TheoryError(
            f"{name} has no labels of {functional_name(functional)}; it has {_listed_names(named)}: choose with functional=..."
        )
    if len(prefixes) > 1:
        plain = " and unnamed ones (energy_key='energy')" if "" in prefixes else ""
        raise DataError(
            f"{name} holds labels of {_listed_names(named)}{plain}: say which to read, functional={next(iter(named))!r}"
        )
    only, prefix = next(iter(named.items()))
    return _under(prefix, _state(stored, only), every, given)


def first_functional(schema: pa.Schema) -> str | None:
    """The first functional with label columns under its name; None in a table without such columns."""
    return next((functional_name(prefix.rstrip("_")) for prefix in _prefixes(schema.names) if prefix), None)


def _prefixes(names: list[str]) -> list[str]:
    """Prefix of ``energy``, where it is a functional's name or forces / stress / magmoms stand beside it."""
    prefixes = [name.removesuffix("energy") for name in names if name == "energy" or name.endswith("_energy")]
    siblings = ("forces", "stress", "magmoms")
    return [p for p in prefixes if not p or is_known_functional(p.rstrip("_")) or any(p + label in names for label in siblings)]


def _recognised(schema: pa.Schema, theory: LevelOfTheory, given: dict[str, str]) -> LabelColumns:
    """The labels of a table without prefixes, by the names of :func:`parse_key`; the usual names first, of rivals none."""
    candidates: dict[str, list[str]] = {}
    for field in schema:
        parsed = parse_key(field.name)
        if parsed is not None and parsed.known and _fits(field.type, parsed.quantity):
            candidates.setdefault(parsed.quantity, []).append(field.name)
    rivals = candidates.get("energy", [])
    candidates["energy"] = [name for name in rivals if "free" not in name.lower()] or rivals
    columns = {quantity: many[0] for quantity, many in candidates.items() if len(many) == 1}
    own = {name: name for name in candidates if name in candidates[name]}
    columns = {label: label for label in LABELS} | columns | own | given
    if "stress" in candidates and "virial" not in given:
        columns.pop("virial", None)
    levels = {
        functional_name(one.affix) for name in columns.values() if (one := parse_key(name)) and is_known_functional(one.affix)
    }
    every = frozenset(columns.values()).union(*candidates.values())
    return LabelColumns(columns, _state(theory, levels.pop() if len(levels) == 1 else None), every)


def _fits(kind: pa.DataType, quantity: str) -> bool:
    """Whether a column can hold a label: numbers for energies, lists for all others."""
    if quantity == "energy":
        return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)
    return pa.types.is_nested(kind) or pa.types.is_null(kind)


def _under(prefix: str, theory: LevelOfTheory, every: frozenset[str], given: dict[str, str]) -> LabelColumns:
    """The labels under one prefix, but for those whose columns are given."""
    columns = {label: prefix + label for label in LABELS} | given
    return LabelColumns(columns, theory, every | frozenset(columns.values()))


def _listed_names(named: dict[str, str]) -> str:
    return ", ".join(f"{functional} ({prefix}energy)" for functional, prefix in named.items())


def _state(theory: LevelOfTheory, functional: str | None) -> LevelOfTheory:
    return theory if functional is None else theory.with_functional(functional)


def _stored_theory(schema: pa.Schema) -> LevelOfTheory:
    stored = (schema.metadata or {}).get(_METADATA)
    return LevelOfTheory.from_dict(json.loads(stored)["theory"]) if stored else LevelOfTheory()


# -- reading ----------------------------------------------------------------------------------------------------------


def frames_from_table(
    table: pa.Table | pa.RecordBatch, labels: LabelColumns, name: str = "table", stem: str = "frame", first: int = 0
) -> Frames:
    """Rows of a table -> Frames, by list offsets: no loop over rows.

    Args:
        table: rows to read.
        labels: which columns are the labels, from :func:`label_columns`.
        name: what to call the table in messages.
        stem: frames without a ``frame_id`` are called ``"<stem>#<n>"``.
        first: number of the table's first row, for those names.

    Raises:
        DataError: if a list has not the length that the frame's number of atoms asks for, naming the frame.
    """
    rows = table.num_rows
    fallback = np.array([f"{stem}#{first + n}" for n in range(rows)], dtype=np.str_)
    frame_id = _text(table, "frame_id", fallback)
    numbers, counts, _ = _flat(table["numbers"])
    _check_natoms(table, counts, frame_id, name)

    def column(key: str, per_row: np.ndarray, required: bool = False) -> np.ndarray:
        return _filled(table, key, per_row, frame_id, name, required)

    three, one, nine = counts * 3, counts, np.full(rows, 9)
    named = labels.columns
    frames = Frames(
        numbers=numbers,
        positions=column("positions", three, required=True).reshape(-1, 3),
        cells=column("cell", nine, required=True).reshape(-1, 3, 3),
        pbc=_pbc(table, rows, frame_id, name),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        energy=_scalar(table, named["energy"], rows, name),
        forces=column(named["forces"], three).reshape(-1, 3),
        stress=_stress(table, named["stress"], frame_id, name),
        magmoms=column(named["magmoms"], one),
        frame_id=frame_id,
        theory=labels.theory,
        extras=_extras(table, labels.every),
    )
    if "virial" in named:
        frames = frames.replace(stress=virial_to_stress(_stress(table, named["virial"], frame_id, name), frames.volumes))
    return frames.replace(material_id=_text(table, "material_id", frames.formulas))


def _flat(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A list column -> its values in a row, values a row (0 where null), and where a row is null. Lists of lists too."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # too long for one array of 32-bit offsets
        parts = [_flat(chunk) for chunk in array.chunks]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]
    null = np.asarray(array.is_null())
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)
    values = array.flatten()  # leaves null rows out
    if pa.types.is_nested(values.type):
        inner, widths, _ = _flat(values)
        ends = np.concatenate([[0], np.cumsum(widths)])[np.concatenate([[0], np.cumsum(lengths)])]
        return inner, np.diff(ends), null
    return np.asarray(values), lengths, null


def _filled(table, key: str, per_row: np.ndarray, frame_id: np.ndarray, name: str, required: bool) -> np.ndarray:
    """A list column with ``per_row`` values in each row, NaN where the row or the column is missing."""
    total = int(per_row.sum())
    if key not in table.schema.names:
        return np.full(total, np.nan)
    values, lengths, null = _flat(table[key])
    wrong = np.flatnonzero((lengths != per_row) & (~null | required))
    if len(wrong):
        s = int(wrong[0])
        raise DataError(
            f"{name}: {key} of frame {frame_id[s]} has {lengths[s]} values, expected {per_row[s]} "
            f"({len(wrong)} such frame(s)): repair or remove them"
        )
    if not null.any():
        return values.astype(np.float64, copy=False)
    filled = np.full(total, np.nan)
    filled[np.repeat(~null, per_row)] = values
    return filled


def _stress(table, key: str, frame_id: np.ndarray, name: str) -> np.ndarray:
    rows = len(frame_id)
    if key not in table.schema.names:
        return np.full((rows, 3, 3), np.nan)
    widths = np.asarray(_flat(table[key])[1])
    width = int(widths.max(initial=0)) or 6
    if width not in (6, 9):
        raise DataError(f"{name}: {key} has {width} values a frame, expected 6 (Voigt xx yy zz yz xz xy) or 9")
    values = _filled(table, key, np.full(rows, width), frame_id, name, required=False).reshape(rows, width)
    return voigt_to_full(values) if width == 6 else values.reshape(rows, 3, 3)


def _pbc(table, rows: int, frame_id: np.ndarray, name: str) -> np.ndarray:
    if "pbc" not in table.schema.names:
        return np.ones((rows, 3), dtype=bool)
    return _filled(table, "pbc", np.full(rows, 3), frame_id, name, required=True).reshape(rows, 3).astype(bool)


def _check_natoms(table, counts: np.ndarray, frame_id: np.ndarray, name: str) -> None:
    if "natoms" in table.schema.names:
        stated = np.asarray(pc.fill_null(table["natoms"], -1))
        wrong = np.flatnonzero((stated != counts) & (stated >= 0))
        if len(wrong):
            s = int(wrong[0])
            raise DataError(
                f"{name}: frame {frame_id[s]} states natoms = {stated[s]} but has {counts[s]} numbers: repair the file"
            )


def _scalar(table, key: str, rows: int, name: str) -> np.ndarray:
    if key not in table.schema.names:
        return np.full(rows, np.nan)
    kind = table.schema.field(key).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise DataError(f"{name}: column {key} has type {kind}, expected a number (eV)")
    return np.asarray(pc.fill_null(table[key].cast(pa.float64()), np.nan))


def _text(table, key: str, fallback) -> np.ndarray:
    """A column as text; where it or an entry is missing, the fallback's (an array, or a function that makes one)."""
    column = table[key] if key in table.schema.names else None
    if column is not None and column.null_count == 0:
        return np.asarray(column.cast(pa.large_string())).astype(np.str_).reshape(table.num_rows)
    names = fallback() if callable(fallback) else fallback
    if column is None:
        return names
    text = np.asarray(pc.fill_null(column.cast(pa.large_string()), "")).astype(np.str_)
    return np.where(np.asarray(column.is_null()), names, text)


def _extras(table, labels: frozenset[str]) -> dict[str, np.ndarray]:
    """Scalar columns that are neither structure, label nor name; nulls become NaN or empty text."""
    taken = {"frame_id", "material_id", "numbers", "cell", "positions", "pbc", *_DERIVED, *labels}
    extras = {}
    for field in table.schema:
        if field.name in taken:
            continue
        column, kind = table[field.name], field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            text = pc.fill_null(column.cast(pa.large_string()), "")
            extras[field.name] = np.asarray(text).astype(np.str_).reshape(table.num_rows)
        elif column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            extras[field.name] = np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            extras[field.name] = np.asarray(column)
    return extras


# -- writing ----------------------------------------------------------------------------------------------------------


def to_table(frames: Frames, labels: frozenset[str] | None = None) -> pa.Table:
    """Frames -> a table that :func:`frames_from_table` reads back without loss; labels no frame has are left out.

    Lists as Arrow has them: ``[n]`` numbers and magmoms, ``[n][3]`` positions and forces, ``[3][3]`` cell and stress; null
    where a frame lacks a label.

    Args:
        frames: some ten thousand, since lists of a table count in 32 bits.
        labels: those to write; by default those that any frame has.

    Raises:
        DataError: on an extra column that is no column of numbers or text.
    """
    rows, n = len(frames), frames.n_atoms
    three = np.full(rows, 3)
    columns = {
        "frame_id": pa.array(frames.frame_id.tolist(), pa.string()),
        "material_id": pa.array(frames.material_id.tolist(), pa.string()),
        "formula": pa.array(frames.formulas().tolist(), pa.string()),
        "natoms": pa.array(n),
        "numbers": _lists(frames.numbers, n),
        "cell": _lists(frames.cells.reshape(-1, 3), three),
        "pbc": _lists(frames.pbc.reshape(-1), three),
        "positions": _lists(frames.positions, n),
        "energy": pa.array(frames.energy, mask=np.isnan(frames.energy)),
        "forces": _lists(frames.forces, n, label=True),
        "stress": _lists(frames.stress.reshape(-1, 3), three, label=True),
        "magmoms": _lists(frames.magmoms, n, label=True),
    }
    given = labels_of(frames) if labels is None else labels
    columns = {name: column for name, column in columns.items() if name not in LABELS or name in given}
    for name, value in frames.extras.items():
        values = np.asarray(value)
        if values.ndim != 1 or values.dtype.kind not in "biufU" or name in columns or name in LABELS:
            raise DataError(
                f"extra column {name!r} cannot be written: it must be one number or text a frame, under a name of its own"
            )
        columns[name] = pa.array(values.tolist(), pa.string()) if values.dtype.kind == "U" else pa.array(values)
    metadata = {_METADATA: json.dumps({"schema": 1, "theory": frames.theory.to_dict()}).encode()}
    return pa.table(columns).replace_schema_metadata(metadata)


def labels_of(frames: Frames) -> frozenset[str]:
    """The labels that any frame has."""
    return frozenset(name for name in LABELS if not np.isnan(getattr(frames, name)).all())


def _lists(values: np.ndarray, per_row: np.ndarray, label: bool = False) -> pa.Array:
    """A list column ``[S][n]``, or ``[S][n][3]``; null in rows of a label that hold nothing but NaN."""
    row = np.repeat(np.arange(len(per_row)), per_row)
    known = ~np.isnan(values).reshape(len(values), values.size // max(len(values), 1)).all(axis=1) if label else None
    mask = None
    if known is not None:
        mask = (np.bincount(row, known, len(per_row)) == 0) & (per_row > 0)
        values, per_row = values[~mask[row]], np.where(mask, 0, per_row)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    inner = pa.ListArray.from_arrays(np.arange(0, values.size + 1, 3, dtype=np.int32), flat) if values.ndim == 2 else flat
    offsets = pa.array(np.concatenate([[0], np.cumsum(per_row)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, inner, mask=None if mask is None else pa.array(mask))


def to_parquet(frames: Frames, path: str | os.PathLike) -> Path:
    """Write Frames to a Parquet file that ``xclimb.read`` reads back without loss, the level of theory in its metadata.

    Raises:
        DataError: on an extra column that cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = labels_of(frames)
    first = to_table(frames[:_ROWS], labels)
    with replacing(path) as beside, pq.ParquetWriter(beside, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for start in range(_ROWS, len(frames), _ROWS):
            writer.write_table(to_table(frames[start : start + _ROWS], labels))
    return path
