"""Writing a store piece by piece, with memory for one piece; it appears under its name only when it is complete.

Numbers go to one scratch file a column, which later becomes a column of the store; ids and extras to a scratch file of Arrow
streams. A journal says how long each scratch file was at the last checkpoint: a writer that was killed goes on from there.
"""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from xclimb.data.frames import COLUMNS, Frames, join_extras
from xclimb.data.store import FORMAT, MANIFEST, SCHEMA, SCOPES, SHARD_ATOMS, from_arrow, open_shard, sha256
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, XclimbError

_TEXT = ("material_id", "frame_id")
_NUMBERS = [name for name in COLUMNS if name not in _TEXT] + ["n_atoms"]
_PIECE = 20_000  # frames copied in one go
_WIDEST = 256  # characters: longer text is kept as Arrow keeps it
_JOB, _JOURNAL = "job.json", "journal.jsonl"


class StoreWriter:
    """Write a store piece by piece.

    Use as a context manager: an error, or Ctrl-C, inside leaves nothing behind and an existing store untouched; with a ``job``,
    what was written up to the last :meth:`checkpoint` stays beside the store's place, for the same job to go on from.

    Args:
        path: folder to write.
        overwrite: replace an existing store.
        shard_atoms: begin another shard when this many atoms are reached.
        job: what is being written, as plain values; the same job finds what an interrupted one left.

    Raises:
        DataError: if something stands at ``path`` that may not be replaced, or another process writes there.
    """

    def __init__(
        self, path: str | os.PathLike, overwrite: bool = False, shard_atoms: int = SHARD_ATOMS, job: dict | None = None
    ):
        self.path = Path(path)
        _require_free(self.path, overwrite)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.resumable = job is not None
        self.shard_atoms = shard_atoms
        self.theory: LevelOfTheory | None = None
        self.provenance: dict = {}
        self.state: Any = None  # of the last checkpoint of an interrupted writer
        self._shards: list[dict] = []
        self._lock: BinaryIO | None = None
        if job is None:
            self.work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.writing-", dir=self.path.parent))
        else:
            self.work = self.path.with_name(f".{self.path.name}.unfinished")
            self._take_up(json.dumps(job, sort_keys=True, indent=1))
        self._sides: dict[str, BinaryIO] = {}
        self.folder = self.work / "store"
        self.folder.mkdir(exist_ok=True)
        self._open = self._opened()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        bad_input = kind is None or issubclass(kind, XclimbError)
        try:
            if kind is None:
                self._commit()
        finally:
            for file in (*self._open.files.values(), *self._sides.values()):
                file.close()
            if bad_input or not self.resumable:  # else: interrupted, out of memory, disk full
                shutil.rmtree(self.work, ignore_errors=True)
            if self._lock is not None:
                self._lock.close()

    def append(self, frames: Frames) -> None:
        """Add frames.

        Raises:
            TheoryError: if they are at another level of theory than those before.
            DataError: on an extra column that is neither numbers nor text.
        """
        if self.theory is None:
            self.theory = frames.theory
        self.theory.require_same(frames.theory, "the frames of a store")
        self.theory = self.theory.joined(frames.theory)
        self._open.append(frames)
        if self._open.atoms >= self.shard_atoms:
            self._close_shard()

    def side(self, name: str) -> BinaryIO:
        """A further file to append to, cut back as the columns are when an interrupted writer goes on.

        Files that are called ``*.csv`` become part of the store.
        """
        if name not in self._sides:
            self._sides[name] = (self.work / name).open("ab")
        return self._sides[name]

    def checkpoint(self, state: Any) -> None:
        """Note how far everything is; a killed writer of the same job begins here, with this ``state``."""
        entry = {
            "shards": self._shards,
            "lengths": self._open.lengths() | _lengths(self._sides.values()),
            "atoms": self._open.atoms,
            "theory": None if self.theory is None else self.theory.to_dict(),
            "state": state,
        }
        with (self.work / _JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        for scratch in self.work.glob("*.scratch"):  # of shards that are finished now
            if int(scratch.name.split("-")[0]) < self._open.number:
                scratch.unlink()

    def frame_ids(self) -> list[str]:
        """Ids of all frames written so far, for a writer that goes on."""
        finished = [_written_ids(self.folder / shard["files"]["system"]["name"]) for shard in self._shards]
        return [name for ids in (*finished, *(piece["frame_id"].tolist() for piece in self._open.pieces())) for name in ids]

    def written(self) -> list[Frames]:
        """All frames as they will lie in the store, shard by shard, memory-mapped."""
        if self._open.atoms:
            self._close_shard()
        return [open_shard(self.folder, shard, self.theory or LevelOfTheory()) for shard in self._shards]

    def rewrite(self, change: Callable[[Frames, int], Frames]) -> None:
        """Pass what was written through ``change(frames, number of the first)``, once; a resumed writer starts before it."""
        scratch, folder = self.work / "kept", self.work / "kept-store"
        for place in (scratch, folder):
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        first = 0
        shards: list[dict] = []
        for frames in self.written():
            shard = _Shard(scratch, folder, len(shards))
            for start in range(0, len(frames), _PIECE):
                shard.append(change(frames[start : start + _PIECE], first + start))
            first += len(frames)
            shards.append(shard.finish())
        self.folder, self._shards = folder, shards

    def _take_up(self, job: str) -> None:
        """The folder of an interrupted writer of this very job, cut back to its last checkpoint; else a fresh one."""
        self.work.mkdir(exist_ok=True)
        self._lock = _locked(self.work)
        mine = self.work / _JOB
        entry = _last_entry(self.work / _JOURNAL) if mine.is_file() and mine.read_text(encoding="utf-8") == job else None
        if entry is None:
            for old in self.work.iterdir():
                if old.name != "lock":
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            mine.write_text(job, encoding="utf-8")
            return
        self.state, self._shards = entry["state"], entry["shards"]
        self.theory = None if entry["theory"] is None else LevelOfTheory.from_dict(entry["theory"])
        for name in {path.name for path in self.work.glob("*.csv")} - entry["lengths"].keys():
            (self.work / name).unlink()
        for name, length in entry["lengths"].items():
            os.truncate(self.work / name, length)
        self._resumed_atoms = entry["atoms"]

    def _opened(self) -> "_Shard":
        shard = _Shard(self.work, self.folder, len(self._shards))
        shard.atoms, self._resumed_atoms = getattr(self, "_resumed_atoms", 0), 0
        return shard

    def _close_shard(self) -> None:
        self._shards.append(self._open.finish())
        self._open = self._opened()

    def _commit(self) -> None:
        if self.theory is None:
            self.append(Frames.empty())
        if self._open.atoms or not self._shards:
            self._shards.append(self._open.finish())
        manifest = {
            "format": FORMAT,
            "schema": SCHEMA,
            "frames": sum(shard["frames"] for shard in self._shards),
            "atoms": sum(shard["atoms"] for shard in self._shards),
            "theory": (self.theory or LevelOfTheory()).to_dict(),
            "shards": self._shards,
            "provenance": self.provenance,
        }
        for name, file in self._sides.items():
            file.close()
            if name.endswith(".csv"):
                shutil.copyfile(self.work / name, self.folder / name)
        self.folder.chmod(0o755)  # a store is data to share
        _write_synced(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        if self.path.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.replaced-", dir=self.path.parent))
            self.path.rename(replaced / "store")
            self.folder.rename(self.path)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            self.folder.rename(self.path)


def _lengths(files: Iterable[BinaryIO]) -> dict[str, int]:
    """Size of each file, all of it handed to the system."""
    sizes = {}
    for file in files:
        file.flush()
        sizes[Path(file.name).name] = file.tell()
    return sizes


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _require_free(path: Path, overwrite: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / MANIFEST).is_file():
        raise DataError(f"{path} exists and is no store: it will not be replaced, choose another name")
    if not overwrite:
        raise DataError(f"{path} is a store already: choose another name, or overwrite=True (--overwrite) to replace it")


def _locked(folder: Path) -> BinaryIO | None:
    """A lock that the system takes away with the process; None where there are none (Windows)."""
    try:
        import fcntl
    except ImportError:
        return None
    file = (folder / "lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise DataError(f"another process is writing {folder}: wait for it, or end it") from None
    return file


def _last_entry(journal: Path) -> dict | None:
    """The last whole line of a journal."""
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.is_file() else []
    for line in reversed(lines):
        with suppress(ValueError):
            return json.loads(line)
    return None


class _Shard:
    """One pair of files in the making."""

    def __init__(self, work: Path, folder: Path, number: int):
        self.work, self.folder, self.number, self.atoms = work, folder, number, 0
        self.files = {name: (work / f"{number:05d}-{name}.scratch").open("ab") for name in (*_NUMBERS, "text")}

    def append(self, frames: Frames) -> None:
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
        return _lengths(self.files.values())

    def close(self) -> None:
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


def _written_ids(path: Path) -> list[str]:
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
