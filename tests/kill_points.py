"""The files that a killed process leaves, at every file event: opening for writing, write, flush, sync, rename, removal, chmod.

``python -m tests.kill_points`` copies the folder of ``ingest``, ``ingest --overwrite``, ``ingest --append`` and a short
``transfer`` before each of their events, since that is what a kill would leave, gives the same command again on every copy,
and compares what it makes of it with what the undisturbed one made. The counts go to ``docs/results/kill_points.json``.
"""

import hashlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "kill_points.json"
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.link", "os.symlink")


class _Recorder:
    """Copies a folder before each file event of this process in it, where it differs from the copy before.

    Args:
        folder: events elsewhere do not count.
        copies: an empty folder; each copy is named by the number of its event.
    """

    def __init__(self, folder: Path, copies: Path):
        self.folder, self.copies = folder, copies
        self.count, self.latest, self.copying = 0, "", threading.local()

    def happens(self) -> None:
        """Count an event, and copy the folder as it stands before it."""
        self.count += 1
        self.copying.now = True  # what copying does is no event
        digest = fingerprint(self.folder)
        if digest != self.latest:
            self.latest = digest
            shutil.copytree(self.folder, self.copies / f"{self.count:05d}")
        self.copying.now = False

    def concerns(self, path: object) -> bool:
        inside = isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(str(self.folder))
        return inside and not getattr(self.copying, "now", False)

    def audit(self, event: str, args: tuple) -> None:
        opened = event == "open" and args[2] is not None and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (opened or event in _CHANGES) and self.concerns(args[0]):
            self.happens()

    def arm(self) -> None:
        """Begin to record; for the rest of the process, since audit hooks stay."""
        import pyarrow as pa

        real_open, real_sink = io.open, pa.OSFile
        sys.addaudithook(self.audit)

        def open_recorded(file, mode="r", *args, **more):
            writes = set(mode) & set("wax+") and self.concerns(file)
            opened = real_open(file, mode, *args, **more)
            return _Recorded(opened, self) if writes else opened

        def sink(path, mode="r", **more):
            if mode != "r":  # opened below Python
                self.happens()
            return real_sink(path, mode, **more)

        io.open, os.fsync, pa.OSFile = open_recorded, lambda _: self.happens(), sink


class _Recorded:
    """A file whose writes and flushes are events; one is that half of a write is done."""

    def __init__(self, file, recorder: _Recorder):
        self._file, self._recorder = file, recorder

    def write(self, content):
        half = len(content) // 2
        self._file.write(content[:half])
        self._file.flush()
        self._recorder.happens()
        self._file.write(content[half:])
        return len(content)

    def flush(self):
        self._recorder.happens()
        self._file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


def in_fork(action: Callable[[], object]) -> bool:
    """Do something in a copy of this process, without syncing files; whether it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and threads of others: the copy uses none
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.fsync = lambda _: None
            action()
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fingerprint(folder: Path) -> str:
    """Digest of the names, modes and contents of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}\0{path.lstat().st_mode}\0".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


class Job:
    """A command that is given again on each state of its folder that a kill could leave.

    Args:
        home: an empty folder; the command works in ``home/work``.
    """

    def __init__(self, home: Path):
        self.home, self.work, copies = home, home / "work", home / "copies"
        self.work.mkdir(exist_ok=True)
        copies.mkdir()
        recorder = _Recorder(self.work, copies)

        def recorded():
            recorder.arm()
            self.run()
            (home / "events").write_text(str(recorder.count))

        assert in_fork(recorded)
        self.events = int((home / "events").read_text())
        self.states = sorted(copies.iterdir())
        self.undisturbed = self.result()

    def run(self) -> None:
        """Do the work, from wherever an earlier run of it was stopped."""
        raise NotImplementedError

    def result(self) -> object:
        """What must be the same, to the bit."""
        raise NotImplementedError

    def unreadable(self) -> str:
        """What a reader misses in the folder of a stopped run; nothing if all is well."""
        raise NotImplementedError

    def wrong(self, state: Path) -> str:
        """What goes wrong from a state; nothing if all is well."""
        shutil.rmtree(self.work)
        shutil.copytree(state, self.work)
        if problem := self.unreadable():
            return f"event {state.name}: {problem}"
        if not in_fork(self.run):
            return f"event {state.name}: the same command failed"
        return "" if self.result() == self.undisturbed else f"event {state.name}: another result, or something left behind"

    def sweep(self, most: int | None = None) -> list[str]:
        """What went wrong after a kill before each event, or before some, the same ones each time."""
        count = len(self.states) if most is None else min(most, len(self.states))
        return [problem for state in random.Random(0).sample(self.states, count) if (problem := self.wrong(state))]


class Ingest(Job):
    """``xclimb ingest`` of two small files.

    Args:
        home: an empty folder.
        kind: ``"new"``, ``"overwrite"`` or ``"append"``.
    """

    def __init__(self, home: Path, kind: str):
        from ingest.test_mp_json import nested, record

        for file in range(3):
            frames = [record(2, uncorrected_total_energy=-9.0 - file - 0.1 * k) for k in range(4)]
            bad = record(force=[[1e9, 0.0, 0.0]] * 2)
            (home / f"f{file}.json").write_text(json.dumps(nested(*frames, bad, frames[0])))
        (home / "work").mkdir()
        self.old = kind != "new"
        self.inputs, self.more = [home / "f1.json", home / "f2.json"], {kind: True} if self.old else {}
        ingest_quickly([home / "f0.json"], home / ("work" if self.old else ".") / "store")  # the forks import nothing
        super().__init__(home)

    def run(self) -> None:
        ingest_quickly(self.inputs, self.work / "store", **self.more)

    def result(self) -> dict[str, bytes]:
        return content(self.work)

    def unreadable(self) -> str:
        from xclimb.data.store import open_store

        if self.old and not len(open_store(self.work / "store", verify=True)):
            return "the old store cannot be read"
        return ""


def ingest_quickly(files: list[Path], store: Path, **more) -> None:
    """Ingest with a checkpoint after every file."""
    from xclimb.ingest import ingest, receiver

    receiver._BETWEEN = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ingest(files, store, "r2SCAN", **more)


class Transfer(Job):
    """A transfer of six steps, resumed, or started again where it had not begun."""

    def run(self) -> None:
        from transfer.disturbed import train

        path = self.work / "run"
        train(path, resume=(path / "run.json").exists())

    def result(self) -> tuple[dict, set[str]]:
        from transfer.disturbed import outcome

        return outcome(self.work / "run"), set(content(self.work))

    def unreadable(self) -> str:
        checkpoints = self.work / "run" / "checkpoints"
        missing = any((checkpoints / "last").glob("*")) and not (checkpoints / "best" / "potential.json").is_file()
        return "the best potential is missing" if missing else ""


def main() -> int:
    """Every state of every job; status 1 if anything is wrong."""
    problems, counts = 0, json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    kinds: dict[str, Callable[[Path], Job]] = {
        **{f"ingest ({kind})": lambda home, kind=kind: Ingest(home, kind) for kind in ("new", "overwrite", "append")},
        "transfer": Transfer,
    }
    with tempfile.TemporaryDirectory() as name:
        for title, make in kinds.items():
            if title not in (sys.argv[1:] or kinds):
                continue
            job = make(Path(tempfile.mkdtemp(dir=name)))
            found = job.sweep()
            problems += len(found)
            counts[title] = {"events": job.events, "states": len(job.states), "wrong": len(found)}
            RESULTS.write_text(json.dumps(counts, indent=1) + "\n")
            print(f"{title}: {job.events} events, {len(job.states)} states, {len(found)} wrong", *found, sep="\n  ", flush=True)
    return int(problems > 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
