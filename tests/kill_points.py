"""Processes killed at a chosen file event: every opening for writing, write, flush, sync, rename, removal, mkdir, chmod.

``python -m tests.kill_points`` stops ``ingest``, ``ingest --overwrite``, ``ingest --append`` and a short ``transfer`` before
each of their events in turn, and compares what the same command makes of the rest with what an undisturbed one makes.
"""

import io
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

KILLED = 137
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")


class _Events:
    """Counts the file events of this process below a folder, and ends it before one of them.

    Args:
        folder: events elsewhere do not count.
        last: number of the event that does not happen any more; 0 lets all happen.
    """

    def __init__(self, folder: Path, last: int):
        self.folder, self.last, self.count = str(folder), last, 0

    def happens(self, before_end: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        if self.count == self.last:
            before_end()
            os._exit(KILLED)

    def concerns(self, path: object) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(self.folder)

    def audit(self, event: str, args: tuple) -> None:
        opened = event == "open" and args[2] is not None and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (opened or event in _CHANGES) and self.concerns(args[0]):
            self.happens()

    def arm(self) -> None:
        """Begin to count; for the rest of the process, since audit hooks stay."""
        import pyarrow as pa

        real_open, real_sync, real_sink = io.open, os.fsync, pa.OSFile
        sys.addaudithook(self.audit)

        def open_counted(file, mode="r", *args, **more):
            opened = real_open(file, mode, *args, **more)
            return _Counted(opened, self) if set(mode) & set("wax+") and self.concerns(file) else opened

        def sync(descriptor):
            self.happens()
            real_sync(descriptor)

        def sink(path, mode="r", **more):
            if mode != "r":  # opened below Python
                self.happens()
            return real_sink(path, mode, **more)

        io.open, os.fsync, pa.OSFile = open_counted, sync, sink


class _Counted:
    """A file whose writes and flushes are events; the write that is the last event is half done."""

    def __init__(self, file, events: _Events):
        self._file, self._events = file, events

    def write(self, content):
        def half():
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._events.happens(half)
        return self._file.write(content)

    def flush(self):
        self._events.happens()
        self._file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def in_fork(action: Callable[[], object], folder: Path, last: int = 0) -> tuple[int, int]:
    """Do something in a copy of this process until an event; its status (0 done, 137 killed, 1 an error) and its events."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and threads of others: the copy uses none
        child = os.fork()
    if child == 0:
        status, events = 1, _Events(folder, last)
        try:
            events.arm()
            action()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os.write(writing, str(events.count).encode())
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        count = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(count or 0)


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Ingest:
    """``xclimb ingest`` of two small files, killed at an event and given again.

    Args:
        home: an empty folder.
        kind: ``"new"``, ``"overwrite"`` or ``"append"``.
    """

    def __init__(self, home: Path, kind: str):
        import json

        from ingest.test_mp_json import nested, record

        self.home, self.more = home, {} if kind == "new" else {kind: True}
        for file in range(3):
            frames = [record(2, uncorrected_total_energy=-9.0 - file - 0.1 * k) for k in range(4)]
            bad = record(force=[[1e9, 0.0, 0.0]] * 2)
            self.place("data", f"f{file}.json").write_text(json.dumps(nested(*frames, bad, frames[0])))
        self.run("before", ["f0.json"])  # in this process: the copies then import nothing
        if kind != "new":
            self.run("calm", ["f0.json"])
        status, self.events = in_fork(lambda: self.run("calm", ["f1.json", "f2.json"], **self.more), home)
        assert status == 0

    def place(self, *names: str) -> Path:
        path = self.home.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, store: str, files: list[str], **more):
        from xclimb.ingest import ingest, receiver

        receiver._BETWEEN = 0.0  # a checkpoint after every file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            paths = [self.place("data", name) for name in files]
            return ingest(paths, self.place("stores", store, "store"), "r2SCAN", **more)

    def wrong(self, last: int) -> str:
        """What is wrong after a kill at an event; nothing if all is well."""
        import shutil

        from xclimb.data.store import open_store

        home = self.place("stores", "killed", "store").parent
        shutil.rmtree(home, ignore_errors=True)
        if self.more:
            shutil.copytree(self.place("stores", "before"), home)
        else:
            home.mkdir()
        status, _ = in_fork(lambda: self.run("killed", ["f1.json", "f2.json"], **self.more), self.home, last)
        if status != KILLED:
            return f"event {last}: the ingest ended with {status}"
        if self.more and not len(open_store(home / "store", verify=True)):
            return f"event {last}: the old store cannot be read"
        status, _ = in_fork(lambda: self.run("killed", ["f1.json", "f2.json"], **self.more), self.home)
        if status:
            return f"event {last}: the same command ended with {status}"
        calm = content(self.place("stores", "calm"))
        return "" if content(home) == calm else f"event {last}: another store, or something left behind"


class Transfer:
    """A transfer of six steps, killed at an event and resumed, or started again where it had not begun.

    Args:
        home: an empty folder.
    """

    def __init__(self, home: Path):
        from transfer.disturbed import outcome

        self.home = home
        status, self.events = in_fork(lambda: self.run(home / "calm"), home)
        assert status == 0
        self.calm = outcome(home / "calm")
        self.files = content(home / "calm").keys()

    def run(self, path: Path, **more):
        from transfer.disturbed import train

        return train(path, **more)

    def wrong(self, last: int) -> str:
        """What is wrong after a kill at an event; nothing if all is well."""
        import shutil

        from transfer.disturbed import outcome

        path = self.home / "killed"
        shutil.rmtree(path, ignore_errors=True)
        status, _ = in_fork(lambda: self.run(path), self.home, last)
        if status != KILLED:
            return f"event {last}: the transfer ended with {status}"
        begun = (path / "run.json").exists()
        best = path / "checkpoints" / "best"
        if begun and any((path / "checkpoints" / "last").glob("*")) and not (best / "potential.json").is_file():
            return f"event {last}: the best potential is missing"
        status, _ = in_fork(lambda: self.run(path, resume=begun), self.home)
        if status:
            return f"event {last}: {'--resume' if begun else 'the same command'} ended with {status}"
        if outcome(path) != self.calm:
            return f"event {last}: other numbers"
        left = content(path).keys() ^ self.files
        return f"event {last}: {', '.join(sorted(left))} left behind or missing" if left else ""


def sweep(job: Ingest | Transfer, events: Iterable[int]) -> list[str]:
    """What was wrong after a kill at each of some events."""
    return [problem for problem in map(job.wrong, events) if problem]


def main() -> int:
    """Every event of every job; status 1 if anything is wrong."""
    problems = 0
    with tempfile.TemporaryDirectory() as name:
        jobs = {f"ingest ({kind})": (Ingest, kind) for kind in ("new", "overwrite", "append")} | {"transfer": (Transfer,)}
        for number, (title, (kind, *more)) in enumerate(jobs.items()):
            home = Path(name, str(number))
            home.mkdir()
            job = kind(home, *more)
            found = sweep(job, range(1, job.events + 1))
            problems += len(found)
            print(f"{title}: {job.events} events, {len(found)} wrong", *found, sep="\n  ", flush=True)
    return int(problems > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
