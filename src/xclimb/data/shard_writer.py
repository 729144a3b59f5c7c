"""Writing the files of one shard: numbers gather in one scratch file a column, which then becomes a column of the store."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from xclimb.data.frames import COLUMNS, Frames, join_extras
from xclimb.data.store import SCOPES, from_arrow, sha256
from xclimb.errors import DataError

_TEXT = ("material_id", "frame_id")
_NUMBERS = [name for name in COLUMNS if name not in _TEXT] + ["n_atoms"]
_WIDEST = 256  # characters: longer text is kept as Arrow keeps it


def lengths(files: Iterable[BinaryIO]) -> dict[str, int]:
    """Size of each file, all of it handed to the system."""
    sizes = {}
    for file in files:
        file.flush()
        sizes[Path(file.name).name] = file.tell()
    return sizes


class ShardWriter:
    """One pair of files in the making.

    Args:
        work: folder of the scratch files.
        folder: where the two files go.
        number: of the shard.
    """

    def __init__(self, work: Path, folder: Path, number: int):
        self.work, self.folder, self.number, self.atoms = work, folder, number, 0
        self.files = {name: (work / f"{number:05d}-{name}.scratch").open("ab") for name in (*_NUMBERS, "text")}

    def append(self, frames: Frames) -> None:
        """Add frames to the scratch files."""
        for name, value in frames.extras.items():
            if value.dtype.kind not in "biufUO" or name in COLUMNS or name == "n_atoms":
                raise DataError(
                    f"extra column {name!r} cannot be stored: it must hold numbers or text, under a name of its own"
                )
        for name in _NUMBERS:
            values = frames.n_atoms if name == "n_atoms" else getattr(frames, name)
            self.files[name].write(np.ascontiguousarray(values, dtype=_disk_type(name)).data)
        self.files["text"].write(_packed({name: getattr(frames, name) for name in _TEXT}, frames.extras))
        self.atoms += frames.total_atoms

    def lengths(self) -> dict[str, int]:
        """Size of each scratch file, all of it handed to the system."""
        return lengths(self.files.values())

    def close(self) -> None:
        """Close the scratch files."""
        for file in self.files.values():
            file.close()

    def pieces(self) -> "list[dict[str, np.ndarray]]":
        """Ids and extras of each piece that was appended."""
        self.lengths()
        return _unpacked((self.work / f"{self.number:05d}-text.scratch").read_bytes())

    def finish(self) -> dict:
        """Write the two files; returns the shard's entry for the manifest."""
        pieces = self.pieces()
        self.close()
        columns: dict[str, dict[str, pa.Array]] = {scope: {} for scope in SCOPES}
        for name in _NUMBERS:
            scope, shape = ("system", ()) if name == "n_atoms" else (COLUMNS[name].scope, COLUMNS[name].shape)
            file = self.work / f"{self.number:05d}-{name}.scratch"
            flat = np.memmap(file, _disk_type(name), mode="r") if file.stat().st_size else np.zeros(0, _disk_type(name))
            columns[scope][name] = to_arrow(np.asarray(flat).reshape(-1, *shape))
        for name in _TEXT:
            columns["system"][name] = to_arrow(np.concatenate([piece.pop(name) for piece in pieces]))
        rows = columns["system"]["n_atoms"]
        described = {}
        for name, values in join_extras(pieces, [piece.pop(_ROWS).size for piece in pieces]).items():
            described[name] = {
                "dtype": "text" if values.dtype.kind == "U" else values.dtype.str,
                "shape": list(values.shape[1:]),
            }
            columns["system"][f"extra:{name}"] = to_arrow(values)
        files = {}
        for scope, stem in SCOPES.items():
            path = self.folder / f"{stem}-{self.number:05d}.arrow"
            _write_arrow(path, columns[scope])
            files[scope] = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
        return {"frames": len(rows), "atoms": self.atoms, "files": files, "extras": described}


_ROWS = "\0rows"  # a name that no extra has


def _packed(text: dict[str, np.ndarray], extras: dict[str, np.ndarray]) -> bytes:
    """Ids and extras of one piece as bytes: a NumPy archive behind its length."""
    buffer = io.BytesIO()
    values = {name: value.astype(np.str_) if value.dtype.kind == "O" else value for name, value in extras.items()}
    names = json.dumps([*text, *values])
    columns = {f"c{n}": value for n, value in enumerate((*text.values(), *values.values()))}
    np.savez(buffer, allow_pickle=False, names=np.array(names), **columns)
    return len(buffer.getbuffer()).to_bytes(8, "little") + buffer.getvalue()


def _unpacked(content: bytes) -> list[dict[str, np.ndarray]]:
    pieces, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 8], "little")
        with np.load(io.BytesIO(content[at + 8 : at + 8 + size])) as archive:
            names = json.loads(str(archive["names"]))
            piece = {name: archive[f"c{n}"] for n, name in enumerate(names)}
        pieces.append(piece | {_ROWS: np.zeros(len(piece["frame_id"]), dtype=np.int8)})
        at += 8 + size
    return pieces


def written_ids(path: Path) -> list[str]:
    """Frame ids in the file of a finished shard."""
    return from_arrow(pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)["frame_id"], ()).tolist()


def _disk_type(name: str) -> np.dtype:
    """Little-endian type of a column on disk; booleans as bytes, since Arrow packs bits and those cannot be mapped."""
    kind = np.dtype(np.int64 if name == "n_atoms" else COLUMNS[name].dtype)
    return np.dtype(np.uint8) if kind == np.bool_ else kind.newbyteorder("<")


def to_arrow(values: np.ndarray) -> pa.Array:
    """An array with one entry a row; further axes become lists of fixed size, text its characters of four bytes."""
    if values.dtype.kind == "U":
        width = max(values.dtype.itemsize // 4, 1)
        if values.ndim > 1 or width > _WIDEST:
            return pa.array(values.reshape(-1).tolist(), pa.large_string())
        characters = np.ascontiguousarray(values, dtype=f"<U{width}")
        return pa.Array.from_buffers(pa.binary(4 * width), len(values), [None, pa.py_buffer(characters.view(np.uint8))])
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = pa.array(flat.astype(np.uint8) if flat.dtype.kind == "b" else flat)
    width = int(np.prod(values.shape[1:]))
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def _write_arrow(path: Path, columns: dict[str, pa.Array]) -> None:
    batch = pa.record_batch(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
