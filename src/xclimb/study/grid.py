"""A grid of trials, each a transfer in its run folder. Finished trials are not repeated, interrupted ones continue.

Trials are independent of each other, so they may run in processes of their own; the folder is the only thing they share
with the process that waits for them. One that fails is named, and the others go on.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import CheckpointError, ConfigError, DataError, TrainingError
from xclimb.study.base import Sets, Trial

if TYPE_CHECKING:
    from xclimb.models.potential import Potential

Watch = Callable[[str, dict[str, Any]], None]
Failed = dict[str, Exception]


@dataclass(frozen=True, eq=False)
class Grid:
    """Trials, and how they are run.

    Args:
        sets: the frames; ``test`` is only evaluated, after the training.
        folder: where the run folders go.
        source: potential to use instead of loading ``config.source``.
        watch: called with the name of a trial and a line of its metrics.jsonl when there is a new one.
        done: called with the name of each trial that is finished, at once for those that were before.
    """

    sets: Sets
    folder: Path
    source: "Potential | None" = None
    watch: Watch | None = None
    done: Callable[[str], None] | None = None

    def finish(self, trial: Trial) -> None:
        """Report a finished trial."""
        if self.done:
            self.done(trial.name)


def run_grid(trials: Sequence[Trial], grid: Grid, workers: int = 1) -> Failed:
    """Run every trial that is not finished; each leaves ``folder/<name>``.

    Args:
        trials: transfers to run, in this order.
        grid: data, folder and callbacks.
        workers: processes; 1 runs the trials here. Each takes its share of the cores.

    Returns:
        Name -> error of each trial that failed.

    Raises:
        ConfigError: if a folder holds a finished run with other settings or data.
        KeyboardInterrupt: after Ctrl-C; finished trials stay finished.
        Exception: the first error, if every trial failed.
    """
    left = [trial for trial in trials if not is_finished(grid.folder / trial.name, trial, grid.sets)]
    for trial in trials:
        if not any(trial is other for other in left):
            grid.finish(trial)
    workers = min(workers, len(left))
    failed = _run_in_processes(left, grid, workers) if workers > 1 else _run_here(left, grid)
    if failed and len(failed) == len(trials):
        raise next(iter(failed.values()))
    return failed


def _run_here(trials: Sequence[Trial], grid: Grid) -> Failed:
    failed: Failed = {}
    for trial in trials:
        try:
            interrupted = run_trial(trial, grid.sets, grid.folder, grid.source, watch=grid.watch)
        except Exception as error:
            failed[trial.name] = error
            continue
        if interrupted:
            raise KeyboardInterrupt
        grid.finish(trial)
    return failed


def run_trial(
    trial: Trial,
    sets: Sets,
    folder: Path,
    source: "Potential | None" = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> bool:
    """One transfer and the errors of its best potential on all three sets; True if it was interrupted.

    One that was interrupted before goes on from its last saved state; one of other settings or frames is replaced.
    """
    from xclimb.evaluation.metrics import compare_labels
    from xclimb.runs.folder import read_run, write_evaluation
    from xclimb.transfer.fit import run_transfer
    from xclimb.transfer.job import Job
    from xclimb.transfer.resume import can_go_on

    sets = sets.of(trial)
    notify = (lambda line: watch(trial.name, line)) if watch else None
    path = folder / trial.name
    with torch_threads(threads):
        if _is_trained(path, trial.config, sets.train):
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


def is_finished(path: Path, trial: Trial, sets: Sets) -> bool:
    """Whether the folder holds the finished, evaluated run of this trial, weights included.

    Raises:
        ConfigError: if it holds a finished run of other settings or data.
    """
    from xclimb.runs.folder import read_evaluation

    return _is_trained(path, trial.config, sets.of(trial).train) and "test" in read_evaluation(path).root


def _is_trained(path: Path, config: TransferConfig, train: Frames) -> bool:
    from xclimb.runs.folder import describe_data, read_evaluation, read_record

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
    if other or record.data["train"].sha256 != describe_data(train)["sha256"]:
        what = f"with another {other[0]}" if other else "on other training frames"
        raise ConfigError(f"{path} holds a finished run {what}: give the study another folder, or overwrite=True")
    return True


def share_of_cores(workers: int) -> int:
    """Threads for each of so many processes, such that they do not wait for each other's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Set the number of torch threads for a while, None for no change.

    More threads than free cores cost small crystals far more than they gain.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
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


def _run_in_processes(trials: Sequence[Trial], grid: Grid, workers: int) -> Failed:
    left, killed, failed, threads = list(trials), list[Trial](), Failed(), share_of_cores(workers)
    with _sigterm_for_workers():
        while left:
            killed += _run_in_pool(left, grid, workers, threads, failed)
        for trial in killed:  # alone, so that it is known whose process is killed
            if _run_in_pool([trial], grid, 1, threads, failed):
                reason = "its process was killed twice, by lack of memory as a rule: run the same again with fewer workers"
                failed[trial.name] = TrainingError(reason)
    return failed


def _run_in_pool(left: list[Trial], grid: Grid, workers: int, threads: int, failed: Failed) -> list[Trial]:
    """Run trials until none is left or a process is killed, which ends its pool.

    Args:
        left: trials to run; those that were begun are removed.
        grid: data, folder and callbacks.
        workers: processes.
        threads: of each process.
        failed: errors by name, added to.

    Returns:
        Trials that were running when the process was killed.
    """
    # spawn: a forked copy of a process that has used torch's thread pool may hang
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    waiting, killed, seen = dict[Future, Trial](), list[Trial](), dict[str, int]()
    try:
        while waiting or (left and not killed):
            while left and not killed and len(waiting) < workers:  # no more: what waits in the pool begins after an interrupt
                trial = left.pop(0)
                waiting[pool.submit(run_trial, trial, grid.sets, grid.folder, grid.source, threads)] = trial
            ended, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            if grid.watch:
                _report(waiting.values(), grid.folder, seen, grid.watch)
            for future in ended:
                trial = waiting.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    killed.append(trial)
                elif isinstance(error, Exception):
                    failed[trial.name] = error
                elif future.result():
                    raise KeyboardInterrupt
                else:
                    grid.finish(trial)
    except BrokenProcessPool:  # between two trials: the one that could not be begun
        return [*killed, trial, *waiting.values()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return killed


def _begin() -> None:
    """Prepare a worker process."""
    from xclimb.ingest.executor import end_with_parent

    end_with_parent()


def _report(trials: Iterable[Trial], folder: Path, seen: dict[str, int], watch: Watch) -> None:
    """Call ``watch`` for the lines that other processes added to their metrics.jsonl."""
    from xclimb.runs.folder import read_history

    for trial in trials:
        path = folder / trial.name
        if not (path / "metrics.jsonl").exists():
            continue
        history = read_history(path)
        for line in history[seen.get(trial.name, 0) :]:
            watch(trial.name, line)
        seen[trial.name] = len(history)
