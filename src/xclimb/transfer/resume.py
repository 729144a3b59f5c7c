"""Going on with a run: what may have changed, and what may not."""

import shlex
from pathlib import Path
from typing import Any

import torch

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError, DataError, XclimbError, counted
from xclimb.models.zoo import load
from xclimb.runs.folder import RunFolder, describe_data, versions
from xclimb.runs.states import Saved, restore
from xclimb.training.engine import Engine
from xclimb.training.trainer import Trainer
from xclimb.transfer.job import Job
from xclimb.transfer.methods import get_method

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


def check_same_run(folder: RunFolder, job: Job) -> None:
    """Refuse to go on with a run that is over, with other settings than it was started with, or with other frames.

    Raises:
        ConfigError: naming each setting that is not the same, with both values; or saying how to train on from a finished run.
        DataError: saying which set of frames is not the same.
    """
    if folder.record.state == "finished":
        raise ConfigError(_finished(folder, job))
    was, now = former_settings(folder.path).model_dump(), job.config.model_dump()
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
    data = folder.record.data
    if "test" in data and job.test is None:
        raise DataError(f"the run in {folder.path} was started with test frames: give them again, or start a new run")
    for name, frames in job.sets.items():
        before = data.get(name)
        if before is None or before.sha256 != describe_data(frames)["sha256"]:
            raise DataError(
                f"the {name} frames are not those that the run in {folder.path} was started with ("
                f"{before.frames if before else 'no'} frames then, {len(frames)} now, or other labels): give the same data, or "
                "start a new run"
            )


def _finished(folder: RunFolder, job: Job) -> str:
    """More epochs are another run: the learning rates of this one were planned to its end."""
    was = former_settings(folder.path)
    more = job.config.epochs - was.epochs if job.config.epochs > was.epochs else was.epochs
    trained = get_method(was.method.name).references_rate(was.method, was.learning_rate) is not None
    method = "trainable" if trained else "frozen"  # which leaves references as the run made them
    changed = f"--source {folder.path} --method {method} --epochs {more} --out {folder.path}-more"
    return (
        f"the run in {folder.path} is finished: its learning rates were planned to its end, so more epochs are a new run, "
        f"which starts from its best potential: xclimb transfer {_data_options(folder.record.inputs)} {changed}"
    )


def _data_options(inputs: dict[str, Any]) -> str:
    """The data of a run as words of the command line."""
    words = [] if inputs.get("data") else ["DATA"]
    for name, value in inputs.items():
        for word in value if isinstance(value, list) else [value] if value else []:
            words += [word] if name == "data" else [f"--{name.replace('_', '-')}", word]
    return shlex.join(words)


def can_go_on(job: Job) -> bool:
    """Whether the folder of a job holds that same job, not finished, with a saved state that is whole."""
    try:
        folder = RunFolder(job.path, resume=True)
        check_same_run(folder, job)
        return folder.states.newest() is not None
    except XclimbError:
        return False


def _pairs(was: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = []
    for name, value in now.items():
        if isinstance(value, dict):
            pairs += _pairs(was.get(name) or {}, value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, was.get(name), value))
    return pairs


def go_on(job: Job, engine: Engine, folder: RunFolder | None, saved: Saved) -> tuple[Trainer, list[str]]:
    """A trainer where a saved state left it and the notes of the run; its folder is set back to that moment.

    Raises:
        CheckpointError: if the state is not one of this run.
    """
    potential = load(job.path / "checkpoints" / "start", device=str(engine.device), dtype=job.config.dtype)
    trainer = Trainer(job.config, potential, job.train, job.val, engine, get_method(job.config.method.name), job.replay)
    restore(trainer, saved.tensors, saved.card["trainer"])
    engine.barrier()  # before anything is written, all have read what is there
    if folder is None:
        return trainer, []
    notes = [*folder.record.notes, *saved.notes, *_exactness_notes(folder, saved.card["threads"])]
    folder.go_on(job.config.to_yaml(), trainer.history, trainer.step)
    folder.update(notes=notes, settings=job.config.model_dump(mode="json"))
    folder.checkpoint("best", trainer.best)  # of the state: a later one is computed again
    return trainer, notes


def _exactness_notes(folder: RunFolder, threads: int) -> list[str]:
    """Notes on what keeps the rest of the run from being the same to the last bit."""
    was, now = folder.record.versions, versions()
    notes = [
        f"{name} is {now[name]} and was {was.get(name)}: the rest of the run may differ in the last digits."
        for name in ("xclimb", "torch")
        if was.get(name) != now[name]
    ]
    if threads != torch.get_num_threads():
        detail = f"{counted(torch.get_num_threads(), 'thread')} now and {threads} before"
        notes.append(f"{detail}: sums add up in another order, so the rest of the run differs in the last digits.")
    return notes
