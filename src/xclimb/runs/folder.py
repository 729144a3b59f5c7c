"""Run folder of one transfer: settings, data, history, checkpoints and errors.

    config.yaml        all settings, resolved            metrics.jsonl    one line an epoch, from epoch 0 (before any step)
    run.json           source, method, versions, data    references.json  the elemental references of the best potential
    checkpoints/best/  the best potential                checkpoints/last/  the potential after the last epoch
    evaluation.json    errors of the best potential on the validation frames, and of step 0 and the best on test frames
    predictions.json   labels of a sample of them, before any step and by the best potential
    steps.jsonl        loss and rate every so many steps   events.jsonl   what was left out, jumped or diverged, with frames

    folds/K/           of a cross-fitted transfer: the run folder of the network trained without part K of the materials

and, until the run is finished, what it takes to go on: checkpoints/start/ (the potential at step 0), checkpoints/states/.

Every file is written beside its place and renamed, every line of a .jsonl is flushed: killing the process at any time
leaves a folder that reads.
"""

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from xclimb.data.frames import Frames
from xclimb.errors import CheckpointError, ConfigError
from xclimb.evaluation.metrics import Metrics
from xclimb.files import remove_leftovers, restore, write_file, write_json
from xclimb.models.potential import Potential
from xclimb.references import AtomRef
from xclimb.runs.schema import Epoch, Evaluation, Predictions, RunRecord, line_schema, read_lines
from xclimb.runs.schema.run import WRITER, read_evaluation, read_record
from xclimb.runs.states import States

if sys.platform != "win32":
    import fcntl


def to_builtin(value: Any) -> Any:
    """Convert nested values to built-in types for JSON: NumPy scalars and arrays to Python's, non-finite floats to None."""
    if isinstance(value, dict):
        return {str(name): to_builtin(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtin(item) for item in value]
    if hasattr(value, "tolist"):
        return to_builtin(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    from xclimb.models.base import ARCHITECTURES

    packages = {"python": python_version()}
    own = [package for architecture in ARCHITECTURES.values() for package in architecture.packages]
    for package in dict.fromkeys(("xclimb", "torch", "numpy", *own, "ase")):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    return packages


def describe_data(frames: Frames) -> dict[str, Any]:
    """Counts of a data set and its checksum."""
    materials = len(set(frames.material_id.tolist()))
    return {"frames": len(frames), "atoms": frames.total_atoms, "materials": materials, "sha256": frames.checksum()}


FILES = ("run.json", "config.yaml", "metrics.jsonl", "steps.jsonl", "events.jsonl", "metrics.csv", "references.json",
         "evaluation.json", "predictions.json")  # fmt: skip
_STARTING = ".starting"  # there until run.json is


class RunFolder:
    """Writer of a run folder.

    Args:
        path: the folder; nothing is touched before :meth:`start` or :meth:`go_on`.
        overwrite: allow a folder with a run in it, which is replaced.
        resume: the folder must hold a run, which goes on.

    Raises:
        ConfigError: if the folder is not empty, is a file, or holds no run to go on with.
        DataError: if its run.json is damaged.
    """

    def __init__(self, path: Path, overwrite: bool = False, resume: bool = False):
        self.path = path
        self.states = States(path / "checkpoints" / "states")
        self._record: dict[str, Any] = {}
        self._locked: int | None = None
        if path.is_file():
            raise ConfigError(f"{path} is a file: give the name of a folder for the run")
        if resume:
            if not (path / "run.json").exists():
                raise ConfigError(f"{path} holds no run to go on with: start it without resume")
            self._record = read_record(path).model_dump(exclude_unset=True)
        elif path.exists() and any(path.iterdir()) and not (path / _STARTING).exists():
            if not overwrite and (path / "run.json").exists():
                raise ConfigError(
                    f"{path} is not empty, it holds a run: go on with --resume {path}, give another folder, or overwrite=True "
                    "to replace it"
                )
            if not overwrite:
                raise ConfigError(f"{path} is not empty: give another folder, or overwrite=True to replace the run in it")
            if not (path / "run.json").exists() and not (path / "checkpoints").exists():
                raise ConfigError(f"{path} is not empty and holds no run to replace: give another folder")

    @property
    def record(self) -> RunRecord:
        """Content of run.json."""
        return RunRecord.model_validate(self._record)

    def _lock(self) -> None:
        """Take the folder for this process alone, until it ends.

        Raises:
            ConfigError: if another process is writing in it.
        """
        if sys.platform == "win32" or self._locked is not None:
            return
        self._locked = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise ConfigError(f"another process is training in {self.path}: wait for it, or give another folder") from None
        except OSError:  # a file system without locks
            self.release()

    def release(self) -> None:
        """Let other processes write in the folder."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def start(self, config_yaml: str, record: dict[str, Any]) -> None:
        """Make the folder, without the files of a former run; write the settings and run.json, state ``running``."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        (self.path / _STARTING).touch()  # a start that is killed may be repeated
        remove_leftovers(self.path)
        # only what a run writes: a mistyped folder must not lose anything else
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        for name in ("checkpoints", "folds"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_file(self.path / "config.yaml", config_yaml)
        write_file(self.path / "metrics.jsonl", "")
        self._record = {}
        self.update(**record, state="running")
        (self.path / _STARTING).unlink()

    def go_on(self, config_yaml: str, history: list[dict[str, Any]], step: int) -> None:
        """Make the folder what it was when a state was saved: lines that came later are written again."""
        self._lock()
        self.states.tidy()
        remove_leftovers(self.path)
        for name in ("best", "last"):
            restore(self.path / "checkpoints" / name)
        write_file(self.path / "config.yaml", config_yaml)
        write_file(self.path / "metrics.jsonl", "".join(_line(line, "metrics.jsonl") for line in history))
        for name in ("steps.jsonl", "events.jsonl"):
            if (self.path / name).exists():
                lines, _ = read_lines(self.path / name, line_schema(name), WRITER)
                kept = [content for line in lines if (content := line.model_dump(exclude_unset=True))["step"] <= step]
                write_file(self.path / name, "".join(_line(content, name) for content in kept))
        self._record.pop("error", None)
        self.update(state="running")

    def update(self, **entries: Any) -> None:
        """Set entries of run.json."""
        self._record |= to_builtin(entries)
        RunRecord.model_validate(self._record)
        write_json(self.path / "run.json", self._record)

    def log(self, line: dict[str, Any], name: str = "metrics.jsonl") -> None:
        """Append one line, of an epoch, a step or an event."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(_line(line, name))

    def checkpoint(self, name: str, potential: Potential) -> None:
        """Save a potential as ``checkpoints/<name>``; a former one stays until the new one is complete."""
        potential.save(self.path / "checkpoints" / name)
        if name == "best":
            write_json(self.path / "references.json", potential.references.to_dict())

    def predict(self, predictions: dict[str, Any]) -> None:
        """Write the predictions of the splits as dense JSON."""
        content = to_builtin(predictions)
        Predictions.model_validate(content)
        write_file(self.path / "predictions.json", json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")

    def finish(self, errors: dict[str, Any], best_epoch: int) -> None:
        """Write the errors (``val``, ``test`` ``before`` and ``after``); what it takes to go on is removed."""
        self._close("finished", errors, best_epoch)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove what it takes to go on with the run."""
        self.states.clear()
        shutil.rmtree(self.path / "checkpoints" / "start", ignore_errors=True)

    @property
    def was_cleaning_up(self) -> bool:
        """Whether the run is finished, and its process was killed before :meth:`clean_up` was done."""
        left = self.states.folder.exists() or (self.path / "checkpoints" / "start").exists()
        return left and self._record.get("state") == "finished"

    def stop(self, errors: dict[str, Any], best_epoch: int) -> None:
        """The same for a run that ends early and may go on."""
        self._close("interrupted", errors, best_epoch)

    def _close(self, state: str, errors: dict[str, Any], best_epoch: int) -> None:
        write_evaluation(self.path, errors)
        self.update(state=state, best_epoch=best_epoch)


def is_training(path: Path) -> bool | None:
    """Whether a process of this machine is training in a run folder; None where that cannot be known."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return False


def _line(line: dict[str, Any], name: str) -> str:
    """Line of the .jsonl of this name."""
    content = to_builtin(line)
    line_schema(name).model_validate(content)
    return json.dumps(content, allow_nan=False) + "\n"


def write_evaluation(folder: Path, errors: dict[str, Any]) -> None:
    """Write evaluation.json: errors of each set, or those ``before`` and ``after``."""
    Evaluation.model_validate(errors)
    write_json(folder / "evaluation.json", errors)


@dataclass(frozen=True)
class Run:
    """Result of a transfer.

    Args:
        path: the run folder.
        potential: the potential that the guard kept (its own copy of the weights).
        metrics: errors of the best potential on the validation set.
        history: one dictionary an epoch, as in metrics.jsonl; the first is before any step.
        best_epoch: epoch of the best potential; 0 means that no step made it better.
        share: of the way from step 0 to that epoch at which it lies: below 1 where a quantity was worse at the epoch itself.
        method: name of the method.
        interrupted: whether a signal ended the run before its last epoch.
        rank: number of this process among those that trained; rank zero prints.
        notes: sentences that a reader of the numbers should know.
        test: errors on the test frames, ``"before"`` training and ``"after"`` it, of the best potential; empty without them.
    """

    path: Path
    potential: Potential
    metrics: Metrics
    history: list[dict[str, Any]]
    best_epoch: int
    method: str
    interrupted: bool = False
    rank: int = 0
    notes: tuple[str, ...] = field(default=())
    test: dict[str, Metrics] = field(default_factory=dict)
    share: float = 1.0

    @property
    def references(self) -> AtomRef:
        """Elemental references of the best potential."""
        return self.potential.references

    def __repr__(self) -> str:
        errors = f"val {self.metrics.energy_mae:.1f} meV/atom, {self.metrics.forces_mae:.1f} meV/Å"
        state = ", interrupted" if self.interrupted else ""
        return f"Run({self.method}, {errors}, best epoch {self.best_epoch} of {len(self.history) - 1}{state}, {self.path})"


def read_run(path: Path, device: str = "cpu", dtype: str = "float32", rank: int = 0) -> Run:
    """The run in a folder, as :func:`xclimb.transfer` gave it.

    Raises:
        CheckpointError: if the folder is not complete.
    """
    record, evaluation = read_record(path), read_evaluation(path).root
    if record.best_epoch is None or "val" not in evaluation:
        raise CheckpointError(f"{path} holds no run that came to its first epoch: start it again")
    tested = evaluation.get("test")
    test = {"before": tested.before, "after": tested.after} if tested else {}
    return Run(
        path=path,
        potential=Potential.load(path / "checkpoints" / "best", device, dtype),
        metrics=evaluation["val"].after.metrics(),
        history=read_history(path),
        best_epoch=record.best_epoch,
        method=record.method,
        interrupted=record.state == "interrupted",
        rank=rank,
        notes=tuple(record.notes),
        test={when: errors.metrics() for when, errors in test.items() if errors},
        share=record.guard.share if record.guard else 1.0,
    )


def read_history(path: Path) -> list[dict[str, Any]]:
    """The epochs of a run folder; a last line that a killed process left half written is left out.

    Raises:
        CheckpointError: if the folder has no metrics.jsonl.
        DataError: if a line before the last is damaged.
    """
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        raise CheckpointError(f"{path} is no run folder: it has no metrics.jsonl")
    lines, _ = read_lines(file, Epoch, WRITER)
    return [line.model_dump(exclude_unset=True) for line in lines]
