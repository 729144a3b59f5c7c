"""Pool of large buffers: fresh pages cost up to a third of the time of a large cell.

A buffer returns to the pool when the last array on it dies. The pool keeps it for the next array of that size, and from one
prediction to the next as far as the last two predictions both needed it: as in molecular dynamics, not after a single large
cell.
"""

import ctypes
import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32

LINE = 64  # bytes of a cache line: arrays begin with one, so that a vector register's worth is in one line
POOLED_FROM = 1 << 20  # bytes; smaller arrays are left to the system's allocator, which gives pages back when it sees fit
ALWAYS_RETAINED = 256 << 20  # bytes
MAX_OVERSIZE = 1.25  # a buffer may be so much larger than the array on it


@cache
def tune_allocator() -> None:
    """Let glibc keep up to 256 MB of freed memory, for the whole process; once, at the first use of the kernels.

    By default it returns freed memory at once and takes fresh pages for the next call, a tenth of the time for some hundred
    atoms.
    """
    trim_threshold, mmap_threshold = -1, -3  # of mallopt
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(trim_threshold, 256 << 20)
        ctypes.CDLL(None).mallopt(mmap_threshold, 32 << 20)


def empty(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """An array of any content that begins at a cache line."""
    size = math.prod(shape) * 4
    if size < POOLED_FROM:
        return torch.empty(shape, dtype=torch.float32).numpy()  # which begins there
    buffer = np.asarray(_PooledBuffer(_pool.acquire(size)))
    return buffer[:size].view(np.float32).reshape(shape)


def zeros(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """An array of zeros that begins at a cache line."""
    array = empty(shape)
    array.fill(0)
    return array


class _PooledBuffer:
    """Owner of a buffer, which returns to the pool with the last array on it."""

    def __init__(self, buffer: np.ndarray):
        self.buffer, self.__array_interface__ = buffer, buffer.__array_interface__

    def __del__(self):
        _pool.release(self.buffer)


class BufferPool:
    """Buffers that are not in use at present."""

    def __init__(self):
        self._free: list[np.ndarray] = []
        self._lock = threading.RLock()  # an array may die wherever Python collects garbage
        self._predictions = self._in_use = self._peak = self._previous_peak = 0
        self._retained = ALWAYS_RETAINED

    def acquire(self, size: int) -> np.ndarray:
        """At least ``size`` bytes that begin at a cache line."""
        with self._lock:
            fitting = [buffer for buffer in self._free if size <= buffer.size <= MAX_OVERSIZE * size]
            buffer = min(fitting, key=len, default=None)
            if buffer is None:
                buffer = np.empty(size + LINE, dtype=np.uint8)  # on large pages: NumPy asks for them
                buffer = buffer[-buffer.ctypes.data % LINE :][:size]
            else:
                self._remove(buffer)
            self._in_use += buffer.size
            self._peak = max(self._peak, self._in_use)
        return buffer

    def release(self, buffer: np.ndarray) -> None:
        """Make a buffer free for the next array."""
        with self._lock:
            self._in_use -= buffer.size
            self._free.append(buffer)
            self._trim()

    @contextmanager
    def prediction(self) -> Iterator[None]:
        """Retain every buffer until the prediction inside is done; trim the pool after it."""
        with self._lock:
            self._predictions += 1
            self._peak = self._in_use
        try:
            yield
        finally:
            with self._lock:
                self._predictions -= 1
                self._retained = max(ALWAYS_RETAINED, min(self._peak, self._previous_peak))
                self._previous_peak = self._peak
                self._trim()

    def _trim(self) -> None:
        while not self._predictions and sum(map(len, self._free)) > self._retained:
            self._remove(max(self._free, key=len))

    def _remove(self, buffer: np.ndarray) -> None:
        self._free = [other for other in self._free if other is not buffer]


_pool = BufferPool()


def retained_buffers() -> AbstractContextManager[None]:
    """Scope of one prediction: its buffers are retained until it is done."""
    return _pool.prediction()
