"""Which rows there are, and the threads they are shared among.

Where row r takes from and adds to: p, q, v, t of both sides, see :mod:`xclimb.models.fused.messages`.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor

from xclimb.models.fused.edges import Edges, edges_forward, edges_reverse
from xclimb.models.fused.memory import zeros
from xclimb.models.fused.messages import TILE, WORK, backward, forward
from xclimb.models.fused.weights import Layer, LayerGradient
from xclimb.models.layers import LineGraph
from xclimb.models.paths import WIDTH

ROWS_PER_THREAD, EDGES_PER_THREAD = 512, 2048  # fewer are not worth a thread: it takes a tenth of a millisecond to wake

Index = Int32[np.ndarray, "2 4 rows"]


def bond_rows(centres: Tensor, neighbours: Tensor) -> Index:
    """A row is a direction of a bond."""
    here, there, bond = centres.numpy(), neighbours.numpy(), np.arange(len(centres))
    return _index((here, there, bond, here), (there, here, bond, there))


def angle_rows(line: LineGraph) -> Index:
    """A row is an angle seen from one of its edges."""
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    return _index((first, second_bond, second_bond, first_bond), (second, first_bond, first_bond, second_bond))


def apart(index: Index) -> Index:
    """The same rows, each with a total of its own that nothing weighs."""
    rows, n = index.copy(), index.shape[2]
    rows[:, 2] = 0
    rows[:, 3] = np.arange(2 * n).reshape(2, n)
    return rows


def _index(*sides: tuple[np.ndarray, ...]) -> Index:
    index = np.empty((2, 4, len(sides[0][0])), dtype=np.int32)
    for side, columns in enumerate(sides):
        for place, column in enumerate(columns):
            index[side, place] = column
    return index


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


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that wait for work, as many as there are cores; made anew in a forked process."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="xclimb")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def in_parts(
    part: Callable, n_rows: int, sums: list[np.ndarray], together: np.ndarray | None = None, least: int = ROWS_PER_THREAD
) -> None:
    """Run ``part`` over all rows, in as many threads as torch has; what each adds up apart is joined in a fixed order.

    ``part(begin, end, work, first)`` gives what it has added up, for the first part ``sums`` themselves. Rows that are
    numbered alike in ``together [n_rows]``, in ascending order, stay in one part; fewer rows than ``least`` are not worth one.
    """
    threads = getattr(_kept, "threads", None) or torch.get_num_threads()
    parts = max(1, min(threads, n_rows // least))
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
    others = [_helpers().submit(part, cuts[k], cuts[k + 1], work[k], False) for k in range(1, parts)]
    part(cuts[0], cuts[1], work[0], True)
    for other in others:
        for whole, mine in zip(sums, other.result(), strict=True):
            if mine is not whole:
                whole += mine


def add_messages(
    index: Index,
    inputs: tuple,
    layer: Layer,
    kept: np.ndarray,
    totals: np.ndarray,
    own_totals: bool,
    onto_features: bool = False,
) -> None:
    """:func:`xclimb.models.fused.messages.forward` over all rows.

    ``inputs`` are own, other, features and weights; ``own_totals``: no two rows share a total, so that threads may.
    """
    *features, weights = inputs

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = totals if first or own_totals else zeros(totals.shape)
        forward(begin, end, index, *features, layer, weights, kept, mine, onto_features, work)
        return [mine]

    in_parts(part, index.shape[2], [totals])


def add_gradients(
    index: Index,
    inputs: tuple,
    layer: Layer,
    kept: np.ndarray,
    up: np.ndarray,
    g_features: np.ndarray,
    sums: list[np.ndarray],
    begun: bool = False,
    own_weights: bool = False,
    together: np.ndarray | None = None,
) -> None:
    """:func:`xclimb.models.fused.messages.backward` over all rows.

    ``sums`` are the gradients of own, other and weights, then those of the layer's own weights (a ``LayerGradient``);
    ``own_weights``: no two rows share a weight; ``together [rows]``: rows that are numbered differently here share no own.
    """
    *features, weights = inputs
    apart = {0: together is not None, 2: own_weights}  # no two threads write to one place; else each adds up its own

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = [x if first or apart.get(place) else zeros(x.shape) for place, x in enumerate(sums)]
        g_own, g_other, g_weights, *of_layer = mine
        g_layer = LayerGradient(*of_layer)
        backward(
            begin, end, index, *features, layer, weights, kept, up, g_own, g_other, g_features, begun, g_weights, g_layer, work
        )  # fmt: skip
        return mine

    in_parts(part, index.shape[2], sums, together)


def edge_inputs(
    bonds: np.ndarray,
    at_centres: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    weights: Edges,
    own: np.ndarray,
    other: np.ndarray,
) -> None:
    """:func:`xclimb.models.fused.edges.edges_forward` over all short bonds."""

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        edges_forward(begin, end, bonds, at_centres, *ends, weights, own, other, work)
        return []

    in_parts(part, len(bonds), [], least=EDGES_PER_THREAD)


def edge_gradients(
    g_own: np.ndarray,
    g_other: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    weights: Edges,
    g_bonds: np.ndarray,
    g_at_centres: np.ndarray,
) -> None:
    """:func:`xclimb.models.fused.edges.edges_reverse` over all short bonds."""

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = g_at_centres if first else zeros(g_at_centres.shape)
        edges_reverse(begin, end, g_own, g_other, *ends, weights, g_bonds, mine, work)
        return [mine]

    in_parts(part, len(g_other), [g_at_centres], least=EDGES_PER_THREAD)
