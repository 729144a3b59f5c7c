"""Worker threads of the kernels: as many as torch has, with little overhead for waking and waiting.

A prediction of a hundred atoms has thirty sums of messages and the like, of a few milliseconds each: an executor with its
futures would take a twentieth of that.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from xclimb.backends.chgnet_cpu.messages import TILE, WORK
from xclimb.backends.chgnet_cpu.vectors import WIDTH

ROWS_PER_THREAD = 512  # fewer are not worth a thread: it takes a tenth of a millisecond to wake
_SPINS = 200  # polls of a microsecond or so for a thread to finish, before waiting for its lock

_local = threading.local()  # of each calling thread: the number of threads of the kernels, and their work arrays


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Keep torch to one thread: its others wait in a busy loop after each operation, on the cores that the kernels want."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    _local.threads = threads
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _local.threads = None


class _Worker:
    """A thread that runs one call after the other."""

    def __init__(self):
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._call: Callable[[], list[np.ndarray]] | None = None
        self._result: list[np.ndarray] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name="xclimb", daemon=True).start()

    def start(self, call: Callable[[], list[np.ndarray]]) -> None:
        """Run a call."""
        self._call = call
        self._go.release()

    def result(self) -> list[np.ndarray]:
        """Result of the call; waits for it.

        Raises:
            BaseException: the error of the call.
        """
        spins = 0
        while not self._done.acquire(blocking=spins == _SPINS):
            spins += 1
            time.sleep(0)  # releases the interpreter
        result, error = self._result, self._error
        self._result, self._error = [], None  # no reference to the arrays of a prediction remains
        _idle.append(self)
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while self._go.acquire():
            try:
                if self._call is not None:
                    self._result = self._call()
            except BaseException as error:  # raised by result()
                self._error = error
            self._call = None
            self._done.release()


_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not live on in a forked process


def _worker() -> _Worker:
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()


def parallel_rows(part: Callable, n_rows: int, sums: list[np.ndarray], groups: np.ndarray | None = None) -> None:
    """Run ``part`` over all rows, in as many threads as torch has; their partial sums are reduced in a fixed order.

    ``part(begin, end, work, first)`` returns its partial sums, the first part ``sums`` themselves. Rows that
    have the same number in ``groups [n_rows]``, in ascending order, stay in one part.
    """
    threads = getattr(_local, "threads", None) or torch.get_num_threads()
    parts = max(1, min(threads, n_rows // ROWS_PER_THREAD))
    work = getattr(_local, "work", None)
    if work is None or len(work) < parts:
        # by torch: it begins at a cache line, where NumPy would spread every vector of 64 bytes over two
        work = _local.work = torch.empty(parts, WORK, TILE, 2 * WIDTH, dtype=torch.float32).numpy()
    if parts == 1:
        part(0, n_rows, work[0], True)
        return
    cuts = [n_rows * k // parts for k in range(parts + 1)]
    if groups is not None:
        cuts[1:-1] = np.searchsorted(groups, groups[cuts[1:-1]]).tolist()
    workers = [_worker() for _ in range(1, parts)]
    for k, worker in enumerate(workers, start=1):
        worker.start(partial(part, cuts[k], cuts[k + 1], work[k], False))
    try:
        part(cuts[0], cuts[1], work[0], True)
    finally:
        others = [worker.result() for worker in workers]
    for other in others:
        for total, partial_sum in zip(sums, other, strict=True):
            if partial_sum is not total:
                total += partial_sum
