"""Trials as independent commands, for any batch system, and a forecast of what they cost."""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.files import write_json
from xclimb.runs.schema import read_content
from xclimb.runs.schema.base import Count, Part, Text
from xclimb.runs.schema.study import WRITER
from xclimb.study.base import Plan, Sets, Trial
from xclimb.study.grid import is_finished, run_trial, share_of_cores

_MEASURED = 32  # frames of the training whose speed is measured


class ListedTrial(Part):
    """One trial in trials.json, see :class:`xclimb.study.base.Trial`."""

    name: Text
    settings: dict[str, Any]
    rows: list[Count] | None
    model: Text


class TrialList(Part):
    """Content of trials.json.

    Args:
        threads: of each trial.
        trials: all of the study.
    """

    threads: Count
    trials: list[ListedTrial]


def write_trials(trials: list[Trial], plan: Plan, folder: Path, workers: int) -> None:
    """Write what the trials of a study need into its folder: trials.json and data/.

    Args:
        trials: of the study.
        plan: the study.
        folder: of the study.
        workers: transfers at a time on one machine, which share its cores.
    """
    from xclimb.data.store_writer import write_store

    for name, frames in plan.sets.items():
        write_store(frames, folder / "data" / name, overwrite=True)
    listed = [
        ListedTrial(
            name=trial.name,
            settings=trial.config.model_dump(mode="json"),
            rows=None if trial.rows is None else trial.rows.tolist(),
            model=trial.model,
        )
        for trial in trials
    ]
    write_json(folder / "trials.json", TrialList(threads=share_of_cores(workers), trials=listed).model_dump())


def run_listed(folder: Path, number: int, threads: int | None = None) -> tuple[str, bool]:
    """Run one trial of a folder that :func:`write_trials` wrote, or go on with it; the numbers are those of the whole study.

    Args:
        folder: of the study.
        number: of the trial, from 0.
        threads: of torch; None: those that were written.

    Returns:
        Name of the trial, and whether it was interrupted.

    Raises:
        CheckpointError: if the folder holds no trials.
        ConfigError: if there is no trial of this number.
    """
    from xclimb.data.store import open_store

    content = read_content(folder / "trials.json", TrialList, f"{WRITER} --prepare")
    if not 0 <= number < len(content.trials):
        raise ConfigError(f"{folder} has no trial {number}: they count from 0 to {len(content.trials) - 1}")
    one = content.trials[number]
    rows = None if one.rows is None else np.array(one.rows)
    trial = Trial(one.name, TransferConfig.build(one.settings, str(folder / "trials.json")), rows, one.model)
    sets = Sets(*(open_store(folder / "data" / name) for name in ("train", "val", "test")))
    if is_finished(folder / "runs" / trial.name, trial, sets):
        return trial.name, False
    return trial.name, run_trial(trial, sets, folder / "runs", threads=threads or content.threads)


@dataclass(frozen=True)
class Forecast:
    """Cost of a study.

    Args:
        trials: number of transfers.
        steps: optimizer steps of all of them, about.
        hours: on this machine with one worker.
        rate: measured speed of training, atoms/s.
    """

    trials: int
    steps: int
    hours: float
    rate: float


def forecast(trials: list[Trial], plan: Plan) -> Forecast:
    """Forecast the cost of a study by the speed of a short training of its largest trial's kind, here and now.

    Args:
        trials: of the study.
        plan: the study.
    """
    training, predicting = _measure(trials[-1], plan.sets)
    steps, seconds = 0, 0.0
    val, test = plan.sets.val.total_atoms, plan.sets.test.total_atoms
    for trial in trials:
        train, config = plan.sets.of(trial).train, trial.config
        batches = max(math.ceil(len(train) / config.batch_size), math.ceil(train.total_atoms / config.batch_atoms))
        steps += config.epochs * math.ceil(batches / config.accumulate)
        seconds += config.epochs * train.total_atoms / training
        seconds += ((config.epochs + 2) * val + train.total_atoms + test) / predicting
    return Forecast(len(trials), steps, seconds / 3600, training)


def _measure(trial: Trial, sets: Sets) -> tuple[float, float]:
    """Speed of training and of prediction, atoms/s; the first epoch, which compiles, does not count."""
    from xclimb.transfer.fit import run_transfer

    some, held = sets.of(trial).train[:_MEASURED], sets.val[:_MEASURED]
    config = trial.config.model_copy(update={"epochs": 2, "audit_frames": 0, "warmup_epochs": 0.0})
    with tempfile.TemporaryDirectory() as folder:
        run = run_transfer(config, some, held, Path(folder) / "run", progress=False)
    began = time.perf_counter()
    run.potential.label(held)
    predicting = held.total_atoms / (time.perf_counter() - began)
    return float(run.history[-1]["atoms_per_second"] or predicting), predicting
