"""Which rows there are, and the kernels over all of them.

Where row r takes from and adds to: p, q, v, t of both sides, see :mod:`xclimb.models.fused.messages`.
"""

import numpy as np
from jaxtyping import Int32
from torch import Tensor

from xclimb.models.fused.edges import Edges, edges_forward, edges_reverse
from xclimb.models.fused.memory import empty, zeros
from xclimb.models.fused.messages import Kept, backward, forward
from xclimb.models.fused.threads import in_parts
from xclimb.models.fused.weights import Layer, LayerGradient
from xclimb.models.layers import LineGraph
from xclimb.models.paths import WIDTH

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


ROOM = 256 << 20  # bytes of intermediates that a prediction or a step keeps: 1.2 times as fast as to compute them again


class Room:
    """Memory for intermediates that are kept from one pass to the next; what does not fit is computed again.

    Args:
        size: bytes.
    """

    def __init__(self, size: int):
        self._left = size

    def kept(self, index: Index, layer: Layer, training: bool = False) -> Kept:
        """Room for the intermediates of all rows while there is some left, else for none."""
        n_rows, curved = index.shape[2], len(layer.hidden) > 0
        wanted = (curved, False, True) if training else (True, curved, False)  # z, slope, x
        size = sum(wanted) * 2 * n_rows * 2 * WIDTH * 4
        if size > self._left:
            return NOTHING_KEPT
        self._left -= size
        return Kept(*(empty((2, n_rows if one else 0, 2 * WIDTH)) for one in wanted))


_NOTHING = np.zeros((2, 0, 2 * WIDTH), dtype=np.float32)
NOTHING_KEPT = Kept(_NOTHING, _NOTHING, _NOTHING)


def add_messages(
    index: Index,
    inputs: tuple,
    layer: Layer,
    kept: Kept,
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
    kept: Kept,
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

    in_parts(part, len(bonds), [])


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

    in_parts(part, len(g_other), [g_at_centres])
