"""The folder of one transfer: everything that it was made of and what came out.

    config.yaml        all settings, resolved            metrics.jsonl    one line an epoch, from epoch 0 (before any step)
    run.json           source, method, versions, data    references.json  the elemental references of the best potential
    checkpoints/best/  the best potential                checkpoints/last/  the potential after the last epoch
    evaluation.json    errors of the best potential on the splits

Every file is written beside its place and renamed, every line of metrics.jsonl is flushed: killing the process at any time
leaves a folder that reads.
"""

import json
import math
import os
import shutil
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from xclimb.analysis.metrics import Metrics
from xclimb.data.frames import Frames
from xclimb.errors import CheckpointError, ConfigError
from xclimb.models.potential import Potential
from xclimb.references import AtomRef


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place, then rename it: readers see the old text or the new, never a part."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    """JSON with NaN as null (NaN is no JSON)."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The inverse of :func:`write_json`.

    Raises:
        CheckpointError: if the file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise CheckpointError(f"{path} is missing: {path.parent} is no complete run or study folder") from None
    except ValueError:
        raise CheckpointError(f"{path} is not valid JSON: the file is damaged, repeat the run") from None


def plain(value: Any) -> Any:
    """Nested values as JSON has them: NumPy scalars and arrays to Python's, floats that are not finite to None."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": python_version()}
    for package in ("xclimb", "torch", "numpy", "chgnet", "ase"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe_data(frames: Frames) -> dict[str, Any]:
    """Counts of a data set and its checksum."""
    materials = len(set(frames.material_id.tolist()))
    return {"frames": len(frames), "atoms": frames.total_atoms, "materials": materials, "sha256": frames.checksum()}


class RunFolder:
    """Writer of a run folder.

    Args:
        path: the folder; nothing is touched before :meth:`start`.
        overwrite: allow a folder with a run in it, which is replaced.

    Raises:
        ConfigError: if the folder is not empty, or is a file.
    """

    def __init__(self, path: Path, overwrite: bool = False):
        self.path = path
        if path.is_file():
            raise ConfigError(f"{path} is a file: give the name of a folder for the run")
        if path.exists() and any(path.iterdir()):
            if not overwrite:
                raise ConfigError(f"{path} is not empty: give another folder, or overwrite=True to replace the run in it")
            if not (path / "run.json").exists() and not (path / "checkpoints").exists():
                raise ConfigError(f"{path} is not empty and holds no run to replace: give another folder")
        self._record: dict[str, Any] = {}

    def _clear(self) -> None:
        # only what a run writes: a mistyped folder must not lose anything else
        for name in ("config.yaml", "run.json", "metrics.jsonl", "references.json", "evaluation.json"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def start(self, config_yaml: str, record: dict[str, Any]) -> None:
        """Make the folder, without what a former run left in it; write the settings and run.json, state ``running``."""
        self._clear()
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.yaml", config_yaml)
        write_text(self.path / "metrics.jsonl", "")
        self.update(**record, state="running")

    def update(self, **entries: Any) -> None:
        """Set entries of run.json."""
        self._record |= entries
        write_json(self.path / "run.json", self._record)

    def log(self, line: dict[str, Any]) -> None:
        """Append one epoch to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(line), allow_nan=False) + "\n")

    def checkpoint(self, name: str, potential: Potential) -> None:
        """Save a potential as ``checkpoints/<name>``; a former one stays until the new one is complete."""
        potential.save(self.path / "checkpoints" / name)
        if name == "best":
            write_json(self.path / "references.json", potential.references.to_dict())

    def evaluation(self, metrics: dict[str, Metrics]) -> None:
        """Write the errors of the best potential on each split."""
        write_json(self.path / "evaluation.json", {split: found.to_dict() for split, found in metrics.items()})


@dataclass(frozen=True)
class Run:
    """What a transfer gives.

    Args:
        path: the run folder.
        potential: the best potential by validation loss (its own copy of the weights).
        metrics: errors of the best potential on the validation set.
        history: one dictionary an epoch, as in metrics.jsonl; the first is before any step.
        best_epoch: epoch of the best potential; 0 means that no step made it better.
        method: name of the method.
        interrupted: whether Ctrl-C ended the run before its last epoch.
        notes: sentences that a reader of the numbers should know.
    """

    path: Path
    potential: Potential
    metrics: Metrics
    history: list[dict[str, Any]]
    best_epoch: int
    method: str
    interrupted: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def references(self) -> AtomRef:
        """Elemental references of the best potential."""
        return self.potential.references

    def __repr__(self) -> str:
        errors = f"val {self.metrics.energy_mae:.1f} meV/atom, {self.metrics.forces_mae:.1f} meV/Å"
        state = ", interrupted" if self.interrupted else ""
        return f"Run({self.method}, {errors}, best epoch {self.best_epoch} of {len(self.history) - 1}{state}, {self.path})"


def read_history(path: Path) -> list[dict[str, Any]]:
    """The epochs of a run folder; a last line that a killed process left half written is left out.

    Raises:
        CheckpointError: if the folder has no metrics.jsonl.
    """
    try:
        lines = (Path(path) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise CheckpointError(f"{path} is no run folder: it has no metrics.jsonl") from None
    history = []
    for number, line in enumerate(lines):
        try:
            history.append(json.loads(line))
        except ValueError:
            if number + 1 < len(lines):
                raise CheckpointError(f"{path}/metrics.jsonl, line {number + 1} is damaged: repeat the run") from None
    return history
