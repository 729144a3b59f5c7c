"""Going on with a run: what may have changed, and what may not."""

from pathlib import Path
from typing import Any

import torch

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError
from xclimb.training.run import RunFolder, describe_data, versions

# how a run is carried out, not what comes out of it
FREE = frozenset({"device", "devices", "nodes", "checkpoint_minutes", "nonfinite", "spike_factor", "log_steps", "loggers"})


def former_settings(path: str | Path) -> TransferConfig:
    """All settings of the run in a folder.

    Raises:
        ConfigError: if there is none, or its settings cannot be read.
    """
    file = Path(path) / "config.yaml"
    if not file.exists():
        raise ConfigError(f"{path} holds no run to go on with (no config.yaml): give the folder of an interrupted transfer")
    return TransferConfig.load(file)


def check_unchanged(folder: RunFolder, config: TransferConfig) -> None:
    """Refuse to go on with other settings than the run was started with, or with a run that is over.

    Raises:
        ConfigError: naming each setting that is not the same, with both values.
    """
    if folder.record.get("state") == "finished":
        raise ConfigError(f"the run in {folder.path} is finished: there is nothing to go on with")
    was, now = former_settings(folder.path).model_dump(), config.model_dump()
    changed = [
        f"{name} (was {before!r}, now {after!r})"
        for name, before, after in _pairs(was, now)
        if before != after and name not in FREE
    ]
    if changed:
        raise ConfigError(
            f"the run in {folder.path} was started with other settings: {', '.join(changed)}; leave them as they were, or "
            "start a new run in another folder"
        )


def _pairs(was: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name, value in now.items():
        if isinstance(value, dict):
            found += _pairs(was.get(name) or {}, value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, was.get(name), value))
    return found


def check_same_data(folder: RunFolder, train: Frames, val: Frames) -> None:
    """Refuse to go on with other frames.

    Raises:
        DataError: saying which set is not the same.
    """
    for name, frames in (("train", train), ("val", val)):
        was = (folder.record.get("data") or {}).get(name) or {}
        if was.get("sha256") != describe_data(frames)["sha256"]:
            raise DataError(
                f"the {name} frames are not those that the run in {folder.path} was started with ({was.get('frames')} frames "
                f"then, {len(frames)} now, or other labels): give the same data, or start a new run"
            )


def exactness_notes(folder: RunFolder, threads: int) -> list[str]:
    """Notes on what keeps the rest of the run from being the same to the last bit."""
    was, now = folder.record.get("versions") or {}, versions()
    notes = [
        f"{name} is {now[name]} and was {was.get(name)}: the rest of the run may differ in the last digits."
        for name in ("xclimb", "torch")
        if was.get(name) != now[name]
    ]
    if threads != torch.get_num_threads():
        told = f"torch uses {torch.get_num_threads()} threads and used {threads}"
        notes.append(f"{told}: the rest of the run may differ in the last digits.")
    return notes
