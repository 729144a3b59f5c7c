"""Writing a store piece by piece, with memory for one piece; it appears under its name only when it is complete.

Numbers go to one scratch file a column, which later becomes a column of the store; ids and extras to a scratch file of Arrow
streams. A journal says how long each scratch file was at the last checkpoint: a writer that was killed goes on from there. The
finished store takes its place in one step, and carries :data:`COMMITTED` until the scratch files are gone: a writer that was
killed in between is known to be done.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from xclimb.data.frames import Frames
from xclimb.data.shard_writer import ShardWriter, lengths, written_ids
from xclimb.data.store import FORMAT, MANIFEST, SCHEMA, SHARD_ATOMS, open_shard
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, XclimbError
from xclimb.files import exchange, read_json, remove_leftovers, restore, to_json, write_file, write_json

COMMITTED = ".committed.json"
_PIECE = 20_000  # frames copied in one go
_JOB, _JOURNAL, _LOCK = "job.json", "journal.jsonl", "lock"


def unfinished(path: Path) -> Path:
    """The folder in which a store is written."""
    return path.with_name(f".{path.name}.unfinished")


def finish_commit(path: Path, job: dict) -> Any:
    """Finish what a writer of the store at ``path`` was killed in after the store was complete.

    Returns:
        :attr:`StoreWriter.summary` of that writer, if its job was this very one; else None.
    """
    restore(path)
    shutil.rmtree(_removed(path), ignore_errors=True)
    mark = path / COMMITTED
    if not mark.is_file():
        return None
    try:
        mark_content = read_json(mark)
        summary = mark_content["summary"] if to_json(mark_content["job"]) == to_json(job) else None
    except (ValueError, KeyError, TypeError):
        summary = None
    _settle(path)
    return summary


def _settle(path: Path) -> None:
    """Remove the scratch files of a store that is complete, then the mark that says so."""
    _discard(path)
    (path / COMMITTED).unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Remove the folder in which a store is written; at no moment is it half there."""
    removed = _removed(path)
    shutil.rmtree(removed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(unfinished(path), removed)
    shutil.rmtree(removed, ignore_errors=True)


def _removed(path: Path) -> Path:
    return path.with_name(f".{path.name}.removed")


class StoreWriter:
    """Write a store piece by piece.

    Use as a context manager: an error, or Ctrl-C, inside leaves nothing behind and an existing store untouched; with a ``job``,
    what was written up to the last :meth:`checkpoint` stays beside the store's place, for the same job to go on from.

    Args:
        path: folder to write.
        overwrite: replace an existing store.
        shard_atoms: begin another shard when this many atoms are reached.
        job: description of the job, as JSON values; the same job continues an interrupted one, unless the store that it
            replaces is another by then.

    Attributes:
        provenance: where the data come from; set it before the end.
        summary: what :func:`finish_commit` gives to the same job if this process is killed in its last clean-up.

    Raises:
        DataError: if something stands at ``path`` that may not be replaced, or another process writes there.
    """

    def __init__(
        self, path: str | os.PathLike, overwrite: bool = False, shard_atoms: int = SHARD_ATOMS, job: dict | None = None
    ):
        self.path = Path(path)
        restore(self.path)
        _require_free(self.path, overwrite)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.shard_atoms = shard_atoms
        self.theory: LevelOfTheory | None = None
        self.provenance: dict = {}
        self.summary: Any = None
        self.state: Any = None  # of the last checkpoint of an interrupted writer
        self._job = job
        self._shards: list[dict] = []
        self._resumed_atoms = 0
        self._lock: BinaryIO | None = None
        if job is None:
            self.work = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.writing-", dir=self.path.parent))
        else:
            self.work = unfinished(self.path)
            self._take_up(to_json({"job": job, "replaces": _stamp(self.path / MANIFEST)}))
        self._sides: dict[str, BinaryIO] = {}
        self.folder = self.work / "store"
        self.folder.mkdir(exist_ok=True)
        self._open = self._opened()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        resumable = self._job is not None and kind is not None and not issubclass(kind, XclimbError)
        try:
            if kind is None:
                self._commit()
        except BaseException:  # interrupted, out of memory, disk full
            resumable = self._job is not None
            raise
        finally:
            for file in (*self._open.files.values(), *self._sides.values()):
                with suppress(OSError):  # a full disk, which has been said
                    file.close()
            if self._job is None:
                shutil.rmtree(self.work, ignore_errors=True)
            elif not resumable:
                _settle(self.path)
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
            "lengths": self._open.lengths() | lengths(self._sides.values()),
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
        finished = [written_ids(self.folder / shard["files"]["system"]["name"]) for shard in self._shards]
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
            shard = ShardWriter(scratch, folder, len(shards))
            for start in range(0, len(frames), _PIECE):
                shard.append(change(frames[start : start + _PIECE], first + start))
            first += len(frames)
            shards.append(shard.finish())
        self.folder, self._shards = folder, shards

    def _take_up(self, job: bytes) -> None:
        """The folder of an interrupted writer of this very job, cut back to its last checkpoint; else a fresh one."""
        self.work.mkdir(exist_ok=True)
        self._lock = _locked(self.work)
        mine, journal = self.work / _JOB, self.work / _JOURNAL
        entry = _last_entry(journal) if mine.is_file() and mine.read_bytes() == job else None
        if entry is None or not _is_whole(self.work, entry):
            mine.unlink(missing_ok=True)  # first: what is half removed belongs to no job
            _clear(self.work, {_LOCK})
            write_file(mine, job)
            return
        self.state, self._shards, self._resumed_atoms = entry["state"], entry["shards"], entry["atoms"]
        self.theory = None if entry["theory"] is None else LevelOfTheory.from_dict(entry["theory"])
        _clear(self.work, {_LOCK, _JOB, _JOURNAL, "store", *entry["lengths"]})  # what came after the checkpoint
        for name, length in entry["lengths"].items():
            os.truncate(self.work / name, length)
        write_file(journal, json.dumps(entry) + "\n")

    def _opened(self) -> ShardWriter:
        shard = ShardWriter(self.work, self.folder, len(self._shards))
        shard.atoms, self._resumed_atoms = self._resumed_atoms, 0
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
        remove_leftovers(self.folder)  # of a process that was killed here
        for path in self.folder.iterdir():
            _sync(path)
        self.folder.chmod(0o755)  # a store is data to share
        write_json(self.folder / MANIFEST, manifest)
        if self._job is not None:
            write_json(self.folder / COMMITTED, {"job": self._job, "summary": self.summary})
        exchange(self.folder, self.path)


def _clear(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_whole(work: Path, entry: dict) -> bool:
    """Whether all files that a checkpoint counts on are there, and as long as they were."""
    files: Iterator[dict] = (file for shard in entry["shards"] for file in shard["files"].values())
    needed = {work / "store" / file["name"]: file["bytes"] for file in files}
    needed |= {work / name: length for name, length in entry["lengths"].items()}
    return all(path.is_file() and path.stat().st_size >= length for path, length in needed.items())


def _stamp(file: Path) -> list[int] | None:
    """Size and time of a file, if there is one."""
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else None


def _sync(path: Path) -> None:
    with path.open("rb") as file:
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
    file = (folder / _LOCK).open("wb")
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


def disk_full(path: Path) -> DataError:
    """Error message where a store does not fit on its disk."""
    work = unfinished(path)
    written = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    free = shutil.disk_usage(path.parent).free
    return DataError(
        f"the disk of {path.parent.resolve()} is full ({free / 1e6:.0f} MB free): {path.name} took {written / 1e6:.0f} MB so "
        f"far, and needs twice the size of the finished store while it is written; make room and give the same command again, "
        f"which goes on from {work.name}, or write to another disk with out=..."
    )


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
