"""The store: Frames on disk as Arrow files, opened memory-mapped and without a copy.

A store is a folder::

    manifest.json            schema version, counts, level of theory, provenance, size and SHA-256 of every file
    systems-00000.arrow      one row a frame: n_atoms, cells, pbc, energy, stress, ids, extras
    atoms-00000.arrow        one row an atom: numbers, positions, forces, magmoms

Each file holds one record batch, so a column is one piece of memory and becomes a NumPy array as it lies there. A set beyond
``shard_atoms`` atoms is cut into several such pairs, which :func:`iter_store` gives one by one.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from xclimb.data.frames import COLUMNS, Frames, join_extras
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError

SCHEMA = 1
MANIFEST = "manifest.json"
SHARD_ATOMS = 2**27  # about 8 GB of atom columns: MPtrj fits into one shard
_FORMAT = "xclimb-store"
_TEXT = ("material_id", "frame_id")
_SCOPES = {"system": "systems", "atom": "atoms"}


# -- writing ----------------------------------------------------------------------------------------------------------


class StoreWriter:
    """Write a store piece by piece, with memory for one piece; it appears under its name only when it is complete.

    Use as a context manager: an error, or Ctrl-C, inside leaves nothing behind and an existing store untouched.

    Args:
        path: folder to write.
        overwrite: replace an existing store.
        shard_atoms: begin another shard when this many atoms are reached.

    Raises:
        DataError: if something stands at ``path`` that may not be replaced.
    """

    def __init__(self, path: str | os.PathLike, overwrite: bool = False, shard_atoms: int = SHARD_ATOMS):
        self.path = Path(path)
        _require_free(self.path, overwrite)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.writing-", dir=self.path.parent))
        self.folder.chmod(0o755)  # mkdtemp keeps others out; a store is data to share
        self.shard_atoms = shard_atoms
        self.theory: LevelOfTheory | None = None
        self.provenance: dict = {}
        self._shards: list[dict] = []
        self._open: _Shard | None = None

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            if self._open is not None:
                self._open.discard()
            shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, frames: Frames) -> None:
        """Add frames.

        Raises:
            TheoryError: if they are at another level of theory than those before.
            DataError: on an extra column that is neither numbers nor text.
        """
        if self.theory is None:
            self.theory = frames.theory
        self.theory.require_same(frames.theory, "the frames of a store")
        if self._open is None:
            self._open = _Shard(self.folder, len(self._shards))
        self._open.append(frames)
        if self._open.atoms >= self.shard_atoms:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._open is not None:
            self._shards.append(self._open.finish())
            self._open = None

    def _commit(self) -> None:
        if self.theory is None:
            self.append(Frames.empty())
        theory = self.theory or LevelOfTheory()
        self._close_shard()
        manifest = {
            "format": _FORMAT,
            "schema": SCHEMA,
            "frames": sum(shard["frames"] for shard in self._shards),
            "atoms": sum(shard["atoms"] for shard in self._shards),
            "theory": theory.to_dict(),
            "shards": self._shards,
            "provenance": self.provenance,
        }
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if self.path.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.replaced-", dir=self.path.parent))
            self.path.rename(replaced / "store")
            self.folder.rename(self.path)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            self.folder.rename(self.path)


def _require_free(path: Path, overwrite: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / MANIFEST).is_file():
        raise DataError(f"{path} exists and is no store: it will not be replaced, choose another name")
    if not overwrite:
        raise DataError(f"{path} is a store already: choose another name, or overwrite=True (--overwrite) to replace it")


class _Shard:
    """One pair of files in the making: numbers go to scratch files, column by column, text and extras stay in memory."""

    def __init__(self, folder: Path, number: int):
        self.folder, self.number = folder, number
        self.names = [name for name in COLUMNS if name not in _TEXT] + ["n_atoms"]
        self.scratch = {name: (folder / f"{name}.scratch").open("wb") for name in self.names}
        self.text: dict[str, list[np.ndarray]] = {name: [] for name in _TEXT}
        self.extras: list[dict[str, np.ndarray]] = []
        self.rows: list[int] = []
        self.atoms = 0

    def append(self, frames: Frames) -> None:
        for name, value in frames.extras.items():
            if value.dtype.kind not in "biufUO" or name in COLUMNS or name == "n_atoms":
                raise DataError(
                    f"extra column {name!r} cannot be stored: it must hold numbers or text, under a name of its own"
                )
        for name, file in self.scratch.items():
            values = frames.n_atoms if name == "n_atoms" else getattr(frames, name)
            file.write(np.ascontiguousarray(values, dtype=_disk_type(name)).tobytes())
        for name, parts in self.text.items():
            parts.append(getattr(frames, name))
        self.extras.append(frames.extras)
        self.rows.append(len(frames))
        self.atoms += frames.total_atoms

    def discard(self) -> None:
        for file in self.scratch.values():
            file.close()

    def finish(self) -> dict:
        """Write the two files; returns the shard's entry for the manifest."""
        self.discard()
        columns: dict[str, dict[str, pa.Array]] = {scope: {} for scope in _SCOPES}
        for name in self.names:
            scope, shape = ("system", ()) if name == "n_atoms" else (COLUMNS[name].scope, COLUMNS[name].shape)
            file = self.folder / f"{name}.scratch"
            flat = np.memmap(file, _disk_type(name), mode="r") if file.stat().st_size else np.zeros(0, _disk_type(name))
            columns[scope][name] = _to_arrow(np.asarray(flat).reshape(-1, *shape))
        for name, parts in self.text.items():
            columns["system"][name] = _to_arrow(np.concatenate(parts))
        extras = join_extras(self.extras, self.rows)
        described = {}
        for name, values in extras.items():
            values = values.astype(np.str_) if values.dtype.kind == "O" else values
            described[name] = {
                "dtype": "text" if values.dtype.kind == "U" else values.dtype.str,
                "shape": list(values.shape[1:]),
            }
            columns["system"][f"extra:{name}"] = _to_arrow(values)
        files = {}
        for scope, stem in _SCOPES.items():
            path = self.folder / f"{stem}-{self.number:05d}.arrow"
            _write_arrow(path, columns[scope])
            files[scope] = {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}
        for name in self.names:
            (self.folder / f"{name}.scratch").unlink()
        return {"frames": sum(self.rows), "atoms": self.atoms, "files": files, "extras": described}


def _disk_type(name: str) -> np.dtype:
    """Little-endian type of a column on disk; booleans as bytes, since Arrow packs bits and those cannot be mapped."""
    kind = np.dtype(np.int64 if name == "n_atoms" else COLUMNS[name].dtype)
    return np.dtype(np.uint8) if kind == np.bool_ else kind.newbyteorder("<")


def _to_arrow(values: np.ndarray) -> pa.Array:
    """An array with one entry a row; further axes become lists of fixed size."""
    if values.dtype.kind == "U":
        return pa.array(values.reshape(-1).tolist(), pa.large_string())
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = pa.array(flat.astype(np.uint8) if flat.dtype.kind == "b" else flat)
    width = int(np.prod(values.shape[1:]))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def _write_arrow(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_store(frames: Frames, path: str | os.PathLike, provenance: dict | None = None, *, overwrite: bool = False) -> Path:
    """Write frames as a store.

    Args:
        frames: what to write.
        path: folder to make.
        provenance: where the data come from; kept in the manifest.
        overwrite: replace an existing store.

    Raises:
        DataError: if something stands at ``path`` already.
    """
    with StoreWriter(path, overwrite) as writer:
        writer.append(frames)
        writer.provenance = dict(provenance or {})
    return Path(path)


# -- reading ----------------------------------------------------------------------------------------------------------


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
        known = manifest["format"] == _FORMAT
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        known = False
    if not known:
        raise DataError(f"{path / MANIFEST} is no manifest of an xclimb store, or damaged: write the store again")
    if manifest["schema"] > SCHEMA:
        raise DataError(f"{path} has store schema {manifest['schema']}, this xclimb reads up to {SCHEMA}: upgrade xclimb")
    return manifest


def open_store(path: str | os.PathLike, *, verify: bool = False) -> Frames:
    """Open a store memory-mapped: columns of a store with one shard are views of the files, read when they are used.

    The arrays are read-only. A store of several shards is joined in memory; :func:`iter_store` avoids that.

    Args:
        path: the store's folder.
        verify: read everything once and compare with the checksums; sizes are compared always.

    Raises:
        DataError: if the store is missing, incomplete, damaged or too new.
    """
    parts = list(iter_store(path, verify=verify))
    return parts[0] if len(parts) == 1 else Frames.concatenate(parts)


def iter_store(path: str | os.PathLike, *, verify: bool = False) -> Iterator[Frames]:
    """The shards of a store one by one, memory-mapped; arguments and errors as for :func:`open_store`."""
    path = Path(path)
    manifest = read_manifest(path)
    theory = LevelOfTheory.from_dict(manifest["theory"])
    for shard in manifest["shards"]:
        batches = {scope: _mapped(path / entry["name"], entry, verify) for scope, entry in shard["files"].items()}
        yield _frames(batches, shard, theory, path)


def _mapped(path: Path, entry: dict, verify: bool) -> pa.RecordBatch:
    if not path.is_file():
        raise DataError(f"{path} is missing from the store: copy the store again, whole")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise DataError(
            f"{path} has {size} bytes, the manifest says {entry['bytes']}: truncated or changed, copy the store again"
        )
    if verify and _sha256(path) != entry["sha256"]:
        raise DataError(f"{path} does not have the checksum of the manifest: damaged or changed, copy the store again")
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (pa.ArrowException, OSError):
        raise DataError(f"{path} is a damaged Arrow file: copy the store again") from None


def _frames(batches: dict[str, pa.RecordBatch], shard: dict, theory: LevelOfTheory, path: Path) -> Frames:
    columns = {}
    try:
        for name, column in COLUMNS.items():
            values = _from_arrow(batches[column.scope][name], column.shape)
            columns[name] = values.view(np.bool_) if column.dtype is np.bool_ else values
        extras = {
            name: _typed(_from_arrow(batches["system"][f"extra:{name}"], tuple(how["shape"])), how["dtype"])
            for name, how in shard["extras"].items()
        }
        offsets = np.concatenate([[0], np.cumsum(_from_arrow(batches["system"]["n_atoms"], ()))])
        return Frames(**columns, offsets=offsets, theory=theory, extras=extras)
    except (KeyError, ValueError, DataError) as error:
        raise DataError(
            f"{path}: the files do not fit the manifest ({error}): damaged or changed, copy the store again"
        ) from None


def _from_arrow(array: pa.Array, shape: tuple[int, ...]) -> np.ndarray:
    if pa.types.is_large_string(array.type):
        return np.array(array.to_pylist(), dtype=np.str_).reshape(len(array), *shape)
    flat = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    return flat.to_numpy(zero_copy_only=True).reshape(len(array), *shape)


def _typed(values: np.ndarray, kind: str) -> np.ndarray:
    return values if kind == "text" or values.dtype.str == kind else values.astype(np.dtype(kind))
