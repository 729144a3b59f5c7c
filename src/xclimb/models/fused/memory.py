"""Large arrays whose memory is used again: fresh pages cost up to a third of the time of a large cell.

An array gives its memory back when the last reference to it goes. It is kept for the next array of that size, and from one
prediction to the next as far as the last two predictions both needed it: as in molecular dynamics, not after a single large
cell.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from jaxtyping import Float32

LINE = 64  # bytes of a cache line: arrays begin with one, so that a vector register's worth is in one line
LARGE = 1 << 20  # bytes; smaller arrays are left to the system's allocator, which gives pages back when it sees fit
ALWAYS_KEPT = 256 << 20  # bytes
WASTE = 1.25  # memory may be so much larger than what is put into it


def empty(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """An array of any content that begins at a cache line."""
    size = math.prod(shape) * 4
    if size < LARGE:
        return torch.empty(shape, dtype=torch.float32).numpy()  # which begins there
    memory = np.asarray(_Loan(_shelf.take(size)))
    return memory[:size].view(np.float32).reshape(shape)


def zeros(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """An array of zeros that begins at a cache line."""
    array = empty(shape)
    array.fill(0)
    return array


class _Loan:
    """Memory that goes back to the shelf with the last array that is made of it."""

    def __init__(self, memory: np.ndarray):
        self.memory, self.__array_interface__ = memory, memory.__array_interface__

    def __del__(self):
        _shelf.put(self.memory)


class _Shelf:
    """Memory that nobody uses at present."""

    def __init__(self):
        self._free: list[np.ndarray] = []
        self._lock = threading.RLock()  # an array may die wherever Python collects garbage
        self._predictions = self._lent = self._most = self._most_before = 0
        self._limit = ALWAYS_KEPT

    def take(self, size: int) -> np.ndarray:
        """At least ``size`` bytes that begin at a cache line."""
        with self._lock:
            fitting = [memory for memory in self._free if size <= memory.size <= WASTE * size]
            memory = min(fitting, key=len, default=None)
            if memory is None:
                memory = np.empty(size + LINE, dtype=np.uint8)  # on large pages: NumPy asks for them
                memory = memory[-memory.ctypes.data % LINE :][:size]
            else:
                self._forget(memory)
            self._lent += memory.size
            self._most = max(self._most, self._lent)
        return memory

    def put(self, memory: np.ndarray) -> None:
        """Take memory back."""
        with self._lock:
            self._lent -= memory.size
            self._free.append(memory)
            self._trim()

    @contextmanager
    def open(self) -> Iterator[None]:
        """See :func:`memory_of_one_call`."""
        with self._lock:
            self._predictions += 1
            self._most = self._lent
        try:
            yield
        finally:
            with self._lock:
                self._predictions -= 1
                self._limit = max(ALWAYS_KEPT, min(self._most, self._most_before))
                self._most_before = self._most
                self._trim()

    def _trim(self) -> None:
        while not self._predictions and sum(map(len, self._free)) > self._limit:
            self._forget(max(self._free, key=len))

    def _forget(self, memory: np.ndarray) -> None:
        self._free = [other for other in self._free if other is not memory]


_shelf = _Shelf()


def memory_of_one_call() -> AbstractContextManager[None]:
    """Around one prediction: all that it gives back is kept until it is done."""
    return _shelf.open()
