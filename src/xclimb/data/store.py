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
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from xclimb.data.chunks import Chunks
from xclimb.data.frames import COLUMNS, Frames, join_extras
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, TheoryError, XclimbWarning
from xclimb.files import read_json

SCHEMA = 2
MANIFEST = "manifest.json"
SHARD_ATOMS = 2**27  # about 8 GB of atom columns: MPtrj fits into one shard
FORMAT = "xclimb-store"
SCOPES = {"system": "systems", "atom": "atoms"}
QUICK = 2**28  # bytes of a store whose checksums are compared whenever it is opened: some tenths of a second
_AGAIN = "restore it from a copy, or ingest the original files again"

_Count = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    """A file of a shard; its name says nothing of another folder."""

    name: str = Field(pattern=r"^(systems|atoms)-\d{5,}\.arrow$")
    bytes: _Count
    sha256: str


class _Files(BaseModel):
    system: _Entry
    atom: _Entry


class _Extra(BaseModel):
    dtype: str
    shape: list[_Count]


class _Shard(BaseModel):
    frames: _Count
    atoms: _Count
    files: _Files
    extras: dict[str, _Extra]


class _Manifest(BaseModel, strict=True):
    """Required entries of a manifest; others are kept."""

    format: Literal["xclimb-store"]
    frames: _Count
    atoms: _Count
    theory: dict[str, Any]
    shards: list[_Shard] = Field(min_length=1)
    provenance: dict[str, Any]


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
    file = path / MANIFEST
    try:
        manifest = read_json(file)
        schema, known = manifest["schema"], manifest["format"] == FORMAT
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): {_AGAIN}") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known or not isinstance(schema, int):
        raise DataError(f"{file} is no manifest of an xclimb store, or damaged: {_AGAIN}")
    if schema > SCHEMA:
        raise DataError(f"{path} has store schema {schema}, this xclimb reads up to {SCHEMA}: upgrade xclimb")
    try:
        _Manifest.model_validate(manifest)
        LevelOfTheory.from_dict(manifest["theory"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} is damaged ({where}: {first['msg'].lower()}): {_AGAIN}") from None
    except TheoryError as error:
        raise DataError(f"{file} is damaged ({error}): {_AGAIN}") from None
    return manifest


def verify_store(path: str | os.PathLike) -> None:
    """Read every file of a store and compare it with the checksum in the manifest.

    Raises:
        DataError: naming the first file that is missing or not what was written.
    """
    path = Path(path)
    for shard in read_manifest(path)["shards"]:
        for entry in shard["files"].values():
            _check_file(path / entry["name"], entry, verify=True)


def open_store(path: str | os.PathLike, *, verify: bool | None = None) -> Frames:
    """Open a store memory-mapped: columns are views of the files, read when they are used.

    The arrays are read-only. Columns of a store of several shards are :class:`xclimb.data.chunks.Chunks`, which fetch rows from
    where they lie.

    Args:
        path: the store's folder; with a part of its split behind a colon (``"STORE:train"``) that part, in memory.
        verify: read everything once and compare with the checksums; False compares sizes only, and by default checksums are
            compared too in a store of up to 256 MB, while a larger one is opened with a warning that they were not.

    Raises:
        DataError: if the store is missing, incomplete, damaged or too new.
    """
    from xclimb.data.stored_split import named_part, open_part

    named = named_part(path)
    if named is not None:
        return open_part(*named)
    if verify is None:
        verify = _is_quick(Path(path))
    parts = list(iter_store(path, verify=verify))
    return parts[0] if len(parts) == 1 else _together(parts)


def _is_quick(path: Path) -> bool:
    """Whether checksums of a store take no time; if not, say that they are not compared."""
    size = sum(entry["bytes"] for shard in read_manifest(path)["shards"] for entry in shard["files"].values())
    if size > QUICK:
        text = f"{path} ({size / 1e9:.1f} GB) is opened without comparing checksums: verify=True reads it once and does"
        warnings.warn(text, XclimbWarning, stacklevel=3)
    return size <= QUICK


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
    """The shards of a store one by one, memory-mapped; errors as for :func:`open_store`, checksums only with ``verify``."""
    path = Path(path)
    manifest = read_manifest(path)
    theory = LevelOfTheory.from_dict(manifest["theory"])
    for shard in manifest["shards"]:
        yield open_shard(path, shard, theory, verify=verify)


def open_shard(path: Path, shard: dict, theory: LevelOfTheory, *, verify: bool = False) -> Frames:
    """One shard of the store in a folder, memory-mapped, by its entry in the manifest."""
    batches = {scope: _mapped(path / entry["name"], entry, verify) for scope, entry in shard["files"].items()}
    return _frames(batches, shard, theory, path)


def _check_file(path: Path, entry: dict, verify: bool) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing from the store: {_AGAIN}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DataError(f"{path} has {size} bytes, the manifest says {entry['bytes']}: truncated or changed, {_AGAIN}")
    if verify and sha256(path) != entry["sha256"]:
        raise DataError(f"{path} does not have the checksum of the manifest: damaged or changed, {_AGAIN}")


def _mapped(path: Path, entry: dict, verify: bool) -> pa.RecordBatch:
    _check_file(path, entry, verify)
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is a damaged Arrow file: {_AGAIN}") from None


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
        if (len(offsets) - 1, int(offsets[-1])) != (shard["frames"], shard["atoms"]):
            raise ValueError(f"{len(offsets) - 1} frames of {int(offsets[-1])} atoms")
        return Frames(**columns, offsets=offsets, theory=theory, extras=extras)
    except (KeyError, ValueError, TypeError, DataError) as error:
        raise DataError(f"{path}: the files do not fit the manifest ({error}): damaged or changed, {_AGAIN}") from None


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
