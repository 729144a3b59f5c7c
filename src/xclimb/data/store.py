"""The store: Frames on disk as Arrow files, opened memory-mapped and without a copy.

A store is a folder::

    manifest.json            schema version, counts, level of theory, provenance, size and SHA-256 of every file
    systems-00000.arrow      one row a frame: n_atoms, cells, pbc, energy, stress, ids, extras
    atoms-00000.arrow        one row an atom: numbers, positions, forces, magmoms

Each file holds one record batch, so a column is one piece of memory and becomes a NumPy array as it lies there; text is kept
as NumPy keeps it, in four bytes a character, so that ids need no memory either. A set beyond ``shard_atoms`` atoms is cut into
several such pairs, which :func:`iter_store` gives one by one and :func:`open_store` as one set.
:mod:`xclimb.data.store_writer` writes them.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xclimb.data.chunks import Chunks
from xclimb.data.frames import COLUMNS, Frames, join_extras
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError

SCHEMA = 2
MANIFEST = "manifest.json"
SHARD_ATOMS = 2**27  # about 8 GB of atom columns: MPtrj fits into one shard
FORMAT = "xclimb-store"
SCOPES = {"system": "systems", "atom": "atoms"}


def is_store(path: str | os.PathLike) -> bool:
    """Whether the folder is a store."""
    return (Path(path) / MANIFEST).is_file()


def read_manifest(path: str | os.PathLike) -> dict:
    """The manifest of a store.

    Raises:
        DataError: if there is no store at ``path``, or a newer xclimb wrote it.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist: give the folder of a store (xclimb ingest makes one)")
    if not is_store(path):
        raise DataError(
            f"{path} is no store (it has no {MANIFEST}): read data files with xclimb.read, or make a store with ingest"
        )
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        known = manifest["format"] == FORMAT
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        known = False
    if not known:
        raise DataError(f"{path / MANIFEST} is no manifest of an xclimb store, or damaged: write the store again")
    if manifest["schema"] > SCHEMA:
        raise DataError(f"{path} has store schema {manifest['schema']}, this xclimb reads up to {SCHEMA}: upgrade xclimb")
    return manifest


def open_store(path: str | os.PathLike, *, verify: bool = False) -> Frames:
    """Open a store memory-mapped: columns are views of the files, read when they are used.

    The arrays are read-only. Columns of a store of several shards are :class:`xclimb.data.chunks.Chunks`, which fetch rows from
    where they lie.

    Args:
        path: the store's folder; with a part of its split behind a colon (``"STORE:train"``) that part, in memory.
        verify: read everything once and compare with the checksums; sizes are compared always.

    Raises:
        DataError: if the store is missing, incomplete, damaged or too new.
    """
    from xclimb.data.stored_split import named_part, open_part

    named = named_part(path)
    if named is not None:
        return open_part(*named)
    parts = list(iter_store(path, verify=verify))
    return parts[0] if len(parts) == 1 else _together(parts)


def _together(parts: list[Frames]) -> Frames:
    """Shards as one set, nothing of them joined but what some shards lack."""
    columns: dict[str, Any] = {name: Chunks([getattr(part, name) for part in parts]) for name in COLUMNS}
    everywhere = set.intersection(*(set(part.extras) for part in parts))
    extras: dict[str, Any] = {
        name: Chunks([part.extras[name] for part in parts]) for name in parts[0].extras if name in everywhere
    }
    lacking = [{name: value for name, value in part.extras.items() if name not in everywhere} for part in parts]
    extras |= join_extras(lacking, [len(part) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.n_atoms for part in parts]))])
    return Frames(**columns, offsets=offsets, theory=parts[0].theory, extras=extras)


def iter_store(path: str | os.PathLike, *, verify: bool = False) -> Iterator[Frames]:
    """The shards of a store one by one, memory-mapped; arguments and errors as for :func:`open_store`."""
    path = Path(path)
    manifest = read_manifest(path)
    theory = LevelOfTheory.from_dict(manifest["theory"])
    for shard in manifest["shards"]:
        yield open_shard(path, shard, theory, verify=verify)


def open_shard(path: Path, shard: dict, theory: LevelOfTheory, *, verify: bool = False) -> Frames:
    """One shard of the store in a folder, memory-mapped, by its entry in the manifest."""
    batches = {scope: _mapped(path / entry["name"], entry, verify) for scope, entry in shard["files"].items()}
    return _frames(batches, shard, theory, path)


def _mapped(path: Path, entry: dict, verify: bool) -> pa.RecordBatch:
    if not path.is_file():
        raise DataError(f"{path} is missing from the store: copy the store again, whole")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DataError(
            f"{path} has {size} bytes, the manifest says {entry['bytes']}: truncated or changed, copy the store again"
        )
    if verify and sha256(path) != entry["sha256"]:
        raise DataError(f"{path} does not have the checksum of the manifest: damaged or changed, copy the store again")
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is a damaged Arrow file: copy the store again") from None


def _frames(batches: dict[str, pa.RecordBatch], shard: dict, theory: LevelOfTheory, path: Path) -> Frames:
    columns = {}
    try:
        for name, column in COLUMNS.items():
            values = from_arrow(batches[column.scope][name], column.shape)
            columns[name] = values.view(np.bool_) if column.dtype is np.bool_ else values
        extras = {
            name: _typed(from_arrow(batches["system"][f"extra:{name}"], tuple(how["shape"])), how["dtype"])
            for name, how in shard["extras"].items()
        }
        offsets = np.concatenate([[0], np.cumsum(from_arrow(batches["system"]["n_atoms"], ()))])
        return Frames(**columns, offsets=offsets, theory=theory, extras=extras)
    except (KeyError, ValueError, DataError) as error:
        raise DataError(
            f"{path}: the files do not fit the manifest ({error}): damaged or changed, copy the store again"
        ) from None


def from_arrow(array: pa.Array, shape: tuple[int, ...]) -> np.ndarray:
    """A column as it lies in the file, one entry of ``shape`` a row."""
    if pa.types.is_fixed_size_binary(array.type):
        text = np.frombuffer(array.buffers()[1], dtype=f"<U{array.type.byte_width // 4}", count=len(array))
        return text.reshape(len(array), *shape)
    if pa.types.is_large_string(array.type):  # very long text, and stores of schema 1
        return np.array(array.to_pylist(), dtype=np.str_).reshape(len(array), *shape)
    flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    kind = np.dtype(flat.type.to_pandas_dtype())
    if not len(flat):
        return np.zeros((0, *shape), dtype=kind)
    # Arrow's own to_numpy() would import pandas, which takes longer than everything else here
    values = np.frombuffer(flat.buffers()[-1], dtype=kind, count=len(flat), offset=flat.offset * kind.itemsize)
    return values.reshape(len(array), *shape)


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    return values if kind == "text" or values.dtype.str == kind else values.astype(np.dtype(kind))


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
