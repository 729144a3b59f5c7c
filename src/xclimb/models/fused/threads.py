"""The threads that rows are shared among: as many as torch has, woken and waited for with as little ado as can be.

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

from xclimb.models.fused.messages import TILE, WORK
from xclimb.models.paths import WIDTH

ROWS_PER_THREAD = 512  # fewer are not worth a thread: it takes a tenth of a millisecond to wake
_SPINS = 200  # looks whether a thread is done, each of a microsecond or so, before going to sleep

_kept = threading.local()  # of each calling thread: how many threads the kernels may use, and their work arrays


@contextmanager
def kernels_on_all_threads() -> Iterator[None]:
    """Keep torch to one thread: its others wait in a busy loop after each operation, on the cores that the kernels want."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    _kept.threads = threads
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _kept.threads = None


class _Helper:
    """A thread that does one thing after the other for whoever has it."""

    def __init__(self):
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._call: Callable[[], list[np.ndarray]] | None = None
        self._result: list[np.ndarray] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name="xclimb", daemon=True).start()

    def start(self, call: Callable[[], list[np.ndarray]]) -> None:
        """Begin with a call."""
        self._call = call
        self._go.release()

    def result(self) -> list[np.ndarray]:
        """What the call gives, once it is done.

        Raises:
            BaseException: what the call raised.
        """
        spins = 0
        while not self._done.acquire(blocking=spins == _SPINS):
            spins += 1
            time.sleep(0)  # lets the other have the interpreter
        result, error = self._result, self._error
        self._result, self._error = [], None  # nothing of a prediction is held when it is done
        _idle.append(self)
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while self._go.acquire():
            try:
                if self._call is not None:
                    self._result = self._call()
            except BaseException as error:  # raised where the result is asked for
                self._error = error
            self._call = None
            self._done.release()


_idle: list[_Helper] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not live on in a forked process


def _helper() -> _Helper:
    try:
        return _idle.pop()
    except IndexError:
        return _Helper()


def in_parts(part: Callable, n_rows: int, sums: list[np.ndarray], together: np.ndarray | None = None) -> None:
    """Run ``part`` over all rows, in as many threads as torch has; what each adds up apart is joined in a fixed order.

    ``part(begin, end, work, first)`` gives what it has added up, for the first part ``sums`` themselves. Rows that are
    numbered alike in ``together [n_rows]``, in ascending order, stay in one part.
    """
    threads = getattr(_kept, "threads", None) or torch.get_num_threads()
    parts = max(1, min(threads, n_rows // ROWS_PER_THREAD))
    work = getattr(_kept, "work", None)
    if work is None or len(work) < parts:
        # by torch: it begins at a cache line, where NumPy would spread every vector of 64 bytes over two
        work = _kept.work = torch.empty(parts, WORK, TILE, 2 * WIDTH, dtype=torch.float32).numpy()
    if parts == 1:
        part(0, n_rows, work[0], True)
        return
    cuts = [n_rows * k // parts for k in range(parts + 1)]
    if together is not None:
        cuts[1:-1] = np.searchsorted(together, together[cuts[1:-1]]).tolist()
    helpers = [_helper() for _ in range(1, parts)]
    for k, helper in enumerate(helpers, start=1):
        helper.start(partial(part, cuts[k], cuts[k + 1], work[k], False))
    try:
        part(cuts[0], cuts[1], work[0], True)
    finally:
        others = [helper.result() for helper in helpers]
    for other in others:
        for whole, mine in zip(sums, other, strict=True):
            if mine is not whole:
                whole += mine
