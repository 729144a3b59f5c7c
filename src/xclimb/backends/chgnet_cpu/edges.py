"""Projections of short edges onto the messages of their angles, forward and backward: :meth:`AngleProjection.edges`."""

from typing import NamedTuple, no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from jaxtyping import Float32
from numba.extending import intrinsic

from xclimb.backends.chgnet_cpu.gate import HALVES
from xclimb.backends.chgnet_cpu.messages import TILE, compiled
from xclimb.backends.chgnet_cpu.products import multiply
from xclimb.backends.chgnet_cpu.vectors import WIDTH, emit


class Edges(NamedTuple):
    """Weights of the bond that an angle is seen from, and of the other bond."""

    first: Float32[np.ndarray, "two_width width"]
    first_t: Float32[np.ndarray, "width two_width"]
    second: Float32[np.ndarray, "two_width width"]
    second_t: Float32[np.ndarray, "width two_width"]
    bias: Float32[np.ndarray, "1 two_width"]


@intrinsic
@no_type_check
def _sum_rows(typingctx, a, i, b, j, c, k):
    """``c_k = a_i + b_j``."""

    def body(a, i, b, j, c, k):
        for half in HALVES:
            c.store(a.load(i, half) + b.load(j, half), k, half)

    return emit(body, a, i, b, j, c, k)


@intrinsic
@no_type_check
def _add_row(typingctx, a, i, c, k):
    """``c_k += a_i``."""

    def body(a, i, c, k):
        for half in HALVES:
            c.add(a.load(i, half), k, half)

    return emit(body, a, i, c, k)


@compiled
@no_type_check
def edges_forward(begin, end, bonds, at_centres, centres, neighbours, weights, own, other, work):
    """Both directions of the bonds ``begin <= b < end``: ``own [2 s, 2 F]`` and ``other [s, 2 F]``.

    Bonds are ``[s, F]``, projections of their centres ``[A, 2 F]``, work ``[1 or more, TILE, 2 F]``.
    """
    zero, n_bonds = np.zeros((1, 2 * WIDTH), dtype=np.float32), len(other)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        along, some = work[0, :n], bonds[start : start + n]
        multiply(some, weights.second_t, zero, other[start : start + n])
        multiply(some, weights.first_t, weights.bias, along)
        for i in range(n):
            b = start + i
            _sum_rows(along, i, at_centres, centres[b], own, b)
            _sum_rows(along, i, at_centres, neighbours[b], own, n_bonds + b)


@compiled
@no_type_check
def edges_backward(begin, end, g_own, g_other, centres, neighbours, weights, g_bonds, g_at_centres, work):
    """Add the gradients with respect to the bonds, ``[s, F]``, and to the projections of their centres, ``[A, 2 F]``."""
    n_bonds = len(g_other)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        along, g_some = work[0, :n], g_bonds[start : start + n]
        for i in range(n):
            b = start + i
            _sum_rows(g_own, b, g_own, n_bonds + b, along, i)
            _add_row(g_own, b, g_at_centres, centres[b])
            _add_row(g_own, n_bonds + b, g_at_centres, neighbours[b])
        multiply(along, weights.first, g_some, g_some)
        multiply(g_other[start : start + n], weights.second, g_some, g_some)
