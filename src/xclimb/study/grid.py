"""A grid of trials, each a transfer in its run folder. Finished trials are not repeated, interrupted ones continue.

Trials are independent of each other, so they may run in processes of their own; the folder is the only thing they share
with the process that waits for them.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import CheckpointError, ConfigError, DataError
from xclimb.evaluation.metrics import compare_labels
from xclimb.ingest.executor import end_with_parent
from xclimb.models.potential import Potential
from xclimb.runs.folder import describe_data, read_evaluation, read_history, read_record, read_run, write_evaluation
from xclimb.transfer.fit import run_transfer
from xclimb.transfer.job import Job
from xclimb.transfer.resume import can_go_on

Watch = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Trial:
    """One transfer of a study: the name of its folder and all its settings."""

    name: str
    config: TransferConfig


@dataclass(frozen=True, eq=False)
class Sets:
    """The frames of a study at the target's level of theory."""

    train: Frames
    val: Frames
    test: Frames

    def items(self) -> list[tuple[str, Frames]]:
        """(name, frames) of the three sets."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]


def run_grid(
    trials: Sequence[Trial],
    sets: Sets,
    folder: Path,
    source: Potential | None = None,
    workers: int = 1,
    watch: Watch | None = None,
    done: Callable[[str], None] | None = None,
) -> None:
    """Run every trial that is not finished; each leaves ``folder/<name>``.

    Args:
        trials: transfers to run, in this order.
        sets: the frames; ``test`` is only evaluated, after the training.
        folder: where the run folders go.
        source: potential to use instead of loading ``config.source``.
        workers: processes; 1 runs the trials here. Each takes its share of the cores.
        watch: called with the name of a trial and a line of its metrics.jsonl when there is a new one.
        done: called with the name of each trial that is finished, at once for those that were before.

    Raises:
        ConfigError: if a folder holds a finished run with other settings or data.
        KeyboardInterrupt: after Ctrl-C; finished trials stay finished.
    """
    left = [trial for trial in trials if not is_finished(folder / trial.name, trial.config, sets)]
    for trial in trials:
        if trial not in left and done:
            done(trial.name)
    if min(workers, len(left)) > 1:
        _run_in_processes(left, sets, folder, source, min(workers, len(left)), watch, done)
        return
    for trial in left:
        interrupted = run_trial(trial, sets, folder, source, watch=watch)
        if interrupted:
            raise KeyboardInterrupt
        if done:
            done(trial.name)


def run_trial(
    trial: Trial,
    sets: Sets,
    folder: Path,
    source: Potential | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> bool:
    """One transfer and the errors of its best potential on all three sets; True if it was interrupted.

    One that was interrupted before goes on from its last saved state; one of other settings or frames is replaced.
    """
    notify = (lambda line: watch(trial.name, line)) if watch else None
    path = folder / trial.name
    with torch_threads(threads or torch.get_num_threads()):
        if _is_trained(path, trial.config, sets):
            run = read_run(path, trial.config.device, trial.config.dtype)
        else:
            resume = can_go_on(Job(trial.config, sets.train, sets.val, path))
            how: dict[str, Any] = {"overwrite": not resume, "resume": resume, "progress": False, "on_epoch": notify}
            run = run_transfer(trial.config, sets.train, sets.val, path, source, **how)
        if run.interrupted:
            return True
        errors = {name: compare_labels(run.potential.label(frames), frames).to_dict() for name, frames in sets.items()}
    write_evaluation(run.path, errors)
    return False


def is_finished(path: Path, config: TransferConfig, sets: Sets) -> bool:
    """Whether the folder holds the finished, evaluated run of these settings and data, weights included.

    Raises:
        ConfigError: if it holds a finished run of others.
    """
    return _is_trained(path, config, sets) and "test" in read_evaluation(path).root


def _is_trained(path: Path, config: TransferConfig, sets: Sets) -> bool:
    try:
        record = read_record(path)
        read_evaluation(path)
    except (CheckpointError, DataError):
        return False
    if record.state != "finished" or not (path / "checkpoints" / "best").exists():
        return False
    # a setting that an older xclimb did not know had, in effect, its default
    former = TransferConfig.build(record.settings, str(path / "run.json")).model_dump(mode="json")
    other = [name for name, value in config.model_dump(mode="json").items() if former[name] != value]
    if other or record.data["train"].sha256 != describe_data(sets.train)["sha256"]:
        what = f"with another {other[0]}" if other else "on other training frames"
        raise ConfigError(f"{path} holds a finished run {what}: give the study another folder, or overwrite=True")
    return True


def share_of_cores(workers: int) -> int:
    """Threads for each of so many processes, such that they do not wait for each other's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """A number of torch threads for a while. More threads than free cores cost small crystals far more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _sigterm_for_workers() -> Iterator[None]:
    """Pass SIGTERM on to the workers, which save their states, and end as after Ctrl-C, which reaches them by itself.

    Outside the main thread, where Python handles no signals, nothing changes.
    """

    def end(*_: object) -> None:
        for worker in active_children():
            worker.terminate()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_in_processes(
    trials: Sequence[Trial],
    sets: Sets,
    folder: Path,
    source: Potential | None,
    workers: int,
    watch: Watch | None,
    done: Callable[[str], None] | None,
) -> None:
    threads = share_of_cores(workers)
    # spawn: a forked copy of a process that has used torch's thread pool may hang
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    left, waiting, seen = list(trials), dict[Future, Trial](), dict[str, int]()
    try:
        with _sigterm_for_workers():
            while left or waiting:
                while left and len(waiting) < workers:  # no more: what waits in the pool would begin after an interrupt
                    trial = left.pop(0)
                    waiting[pool.submit(run_trial, trial, sets, folder, source, threads)] = trial
                ended, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                if watch:
                    _report(waiting.values(), folder, seen, watch)
                for future in ended:
                    trial = waiting.pop(future)
                    if future.result():  # an error of the trial is raised here
                        raise KeyboardInterrupt
                    if done:
                        done(trial.name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _report(trials, folder: Path, seen: dict[str, int], watch: Watch) -> None:
    """Call ``watch`` for the lines that other processes added to their metrics.jsonl."""
    for trial in trials:
        path = folder / trial.name
        if not (path / "metrics.jsonl").exists():
            continue
        history = read_history(path)
        for line in history[seen.get(trial.name, 0) :]:
            watch(trial.name, line)
        seen[trial.name] = len(history)
