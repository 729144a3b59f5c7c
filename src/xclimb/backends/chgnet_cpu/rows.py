"""Index arrays of rows, the cache of activations, and the kernels over all rows in threads.

Row r gathers from and adds to p, q, v, t in both directions, see :mod:`xclimb.backends.chgnet_cpu.messages`.
"""

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from xclimb.backends.chgnet_cpu.buffers import empty, zeros
from xclimb.backends.chgnet_cpu.edges import Edges, edges_backward, edges_forward
from xclimb.backends.chgnet_cpu.messages import Activations, backward, forward
from xclimb.backends.chgnet_cpu.vectors import WIDTH
from xclimb.backends.chgnet_cpu.weights import Layer, LayerGradient
from xclimb.backends.chgnet_cpu.workers import parallel_rows
from xclimb.models.chgnet.layers import LineGraph

Index = Int32[np.ndarray, "2 4 rows"]


def bond_rows(centres: Tensor, neighbours: Tensor) -> Index:
    """A row is a direction of a bond."""
    here, there, bond = centres.numpy(), neighbours.numpy(), np.arange(len(centres))
    return _index((here, there, bond, here), (there, here, bond, there))


def angle_rows(line: LineGraph) -> Index:
    """A row is an angle seen from one of its edges."""
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    return _index((first, second_bond, second_bond, first_bond), (second, first_bond, first_bond, second_bond))


def with_own_totals(index: Index) -> Index:
    """The same rows, each with a total of its own, of weight 1."""
    rows, n = index.copy(), index.shape[2]
    rows[:, 2] = 0
    rows[:, 3] = np.arange(2 * n).reshape(2, n)
    return rows


def _index(*directions: tuple[np.ndarray, ...]) -> Index:
    index = np.empty((2, 4, len(directions[0][0])), dtype=np.int32)
    for direction, columns in enumerate(directions):
        for place, column in enumerate(columns):
            index[direction, place] = column
    return index


CACHE_BYTES = 256 << 20  # activations that a prediction or a step saves: 1.2 times as fast as to compute them again


class ActivationCache:
    """Memory for activations that are saved from one pass to the next, up to a limit; beyond it they are computed again.

    Args:
        size: bytes.
    """

    def __init__(self, size: int):
        self._left = size

    def allocate(self, index: Index, layer: Layer, training: bool = False) -> Activations:
        """Arrays for the activations of all rows while memory is left, else of no row."""
        n_rows, has_hidden = index.shape[2], len(layer.hidden) > 0
        used = (has_hidden, False, True) if training else (True, has_hidden, False)  # z, slope, x
        size = sum(used) * 2 * n_rows * 2 * WIDTH * 4
        if size > self._left:
            return NO_ACTIVATIONS
        self._left -= size
        return Activations(*(empty((2, n_rows if one else 0, 2 * WIDTH)) for one in used))


_EMPTY = np.zeros((2, 0, 2 * WIDTH), dtype=np.float32)
NO_ACTIVATIONS = Activations(_EMPTY, _EMPTY, _EMPTY)


def add_messages(
    index: Index,
    inputs: tuple,
    layer: Layer,
    saved: Activations,
    totals: np.ndarray,
    unique_totals: bool,
    residual: bool = False,
) -> None:
    """:func:`xclimb.backends.chgnet_cpu.messages.forward` over all rows.

    ``inputs`` are own, other, features and weights; ``unique_totals``: no two rows share a total, so that threads need no copy.
    """
    *features, weights = inputs

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = totals if first or unique_totals else zeros(totals.shape)
        forward(begin, end, index, *features, layer, weights, saved, mine, residual, work)
        return [mine]

    parallel_rows(part, index.shape[2], [totals])


def add_gradients(
    index: Index,
    inputs: tuple,
    layer: Layer,
    saved: Activations,
    g_total: np.ndarray,
    g_features: np.ndarray,
    sums: list[np.ndarray],
    accumulate: bool = False,
    unique_weights: bool = False,
    groups: np.ndarray | None = None,
) -> None:
    """:func:`xclimb.backends.chgnet_cpu.messages.backward` over all rows.

    ``sums`` are the gradients of own, other and weights, then those of the layer's own weights (a ``LayerGradient``);
    ``unique_weights``: no two rows share a weight; ``groups [rows]``: rows that are numbered differently here share no own.
    """
    *features, weights = inputs
    disjoint = {0: groups is not None, 2: unique_weights}  # no two threads write to one place; else each has a copy

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = [x if first or disjoint.get(place) else zeros(x.shape) for place, x in enumerate(sums)]
        g_own, g_other, g_weights, *of_layer = mine
        g_layer = LayerGradient(*of_layer)
        backward(
            begin, end, index, *features, layer, weights, saved, g_total, g_own, g_other, g_features, accumulate, g_weights,
            g_layer, work,
        )  # fmt: skip
        return mine

    parallel_rows(part, index.shape[2], sums, groups)


def edge_inputs(
    bonds: np.ndarray,
    at_centres: np.ndarray,
    endpoints: tuple[np.ndarray, np.ndarray],
    weights: Edges,
    own: np.ndarray,
    other: np.ndarray,
) -> None:
    """:func:`xclimb.backends.chgnet_cpu.edges.edges_forward` over all short bonds."""

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        edges_forward(begin, end, bonds, at_centres, *endpoints, weights, own, other, work)
        return []

    parallel_rows(part, len(bonds), [])


def edge_gradients(
    g_own: np.ndarray,
    g_other: np.ndarray,
    endpoints: tuple[np.ndarray, np.ndarray],
    weights: Edges,
    g_bonds: np.ndarray,
    g_at_centres: np.ndarray,
) -> None:
    """:func:`xclimb.backends.chgnet_cpu.edges.edges_backward` over all short bonds."""

    def part(begin: int, end: int, work: np.ndarray, first: bool) -> list[np.ndarray]:
        mine = g_at_centres if first else zeros(g_at_centres.shape)
        edges_backward(begin, end, g_own, g_other, *endpoints, weights, g_bonds, mine, work)
        return [mine]

    parallel_rows(part, len(g_other), [g_at_centres])
