"""Executors of tasks: this process, processes beside it, or a Dask cluster; results come in the order of the tasks."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from xclimb.errors import ConfigError
from xclimb.ingest.tasks import Done, Task, run_task

_AHEAD = 3  # tasks under way for each worker: keeps all busy, and memory bounded


@contextmanager
def workers_of(workers: int, scheduler: str | None) -> Iterator[tuple[Executor | None, int]]:
    """An executor (None: this process) and how many work there.

    Raises:
        ConfigError: if the scheduler cannot be reached, or Dask is not installed.
    """
    if scheduler is not None:
        with _cluster(scheduler) as client:
            yield client.get_executor(), max(1, sum(client.nthreads().values()))
    elif workers <= 1:
        yield None, 1
    else:
        context = get_context("spawn")  # a copy of a process with threads may hang
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)
        try:
            yield pool, workers
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """Let a worker end when the process that it works for is killed: it would wait for tasks for ever."""
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def _cluster(scheduler: str):
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("scheduler= needs Dask: pip install 'xclimb[dask]'") from None
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler!r} ({error}): check the address") from None
    with client:
        yield client


def run_tasks(tasks: Iterable[Task], executor: Executor | None, workers: int) -> Iterator[Done]:
    """Run tasks and give their results in order; a bounded number is submitted ahead.

    Raises:
        MemoryError: if a worker was killed, by lack of memory as a rule; an ingest can be resumed then.
    """
    if executor is None:
        yield from map(run_task, tasks)
        return
    under_way: deque[Future[Done]] = deque()
    try:
        for task in tasks:
            if len(under_way) >= _AHEAD * workers:
                yield under_way.popleft().result()
            under_way.append(executor.submit(run_task, task))
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise MemoryError(
            "a worker process was killed, by lack of memory as a rule: run the same again with fewer workers"
        ) from None
    finally:
        for future in under_way:
            future.cancel()
