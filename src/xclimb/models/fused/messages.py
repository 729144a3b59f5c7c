"""The messages of CHGNet and their gradient, compiled: rows in tiles that stay in the cache of a core.

The messages of the three updates are one operation. Row r (a direction of a bond, a side of an angle) has

    x_r             = own[p_r] + other[q_r] + W f_r            first layer, projected where each part lives
    core_r, gate_r  = V silu(x_r) + c                          hidden layer (none in the angle update: core, gate = x)
    total[t_r]     += w[v_r] * silu(norm(core_r)) * sigmoid(norm(gate_r))

The gradient computes the intermediates of a tile again, so that nothing is kept but the inputs of each update; only where
rows are few, what takes longest to compute is kept.

numba does not see that what it keeps compiled on disk depends on another file: after a change in vectors.py,
products.py or gates.py, delete the ``__pycache__`` folder beside this file.
"""

from typing import NamedTuple, no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from jaxtyping import Float32
from numba import njit
from numba.extending import intrinsic

from xclimb.models.fused.gates import HALVES, normalised_gate, silu_slope, standardised, standardised_reverse
from xclimb.models.fused.products import add_outer, multiply
from xclimb.models.fused.vectors import INT64, decay, emit, sigmoid
from xclimb.models.paths import WIDTH

TILE = 96  # rows; the arrays [TILE, 2 F] of a tile take 0.05 MB each, a fraction of the L2 cache of a core
WORK = 10  # arrays [TILE, 2 F] that the passes work in; backward takes 5, the second gradient all

compiled = njit(cache=True, nogil=True, error_model="numpy")


class Kept(NamedTuple):
    """What is kept of the intermediates from one pass to the next, of all rows or of none.

    Predictions keep z and, where there is a hidden layer, silu'(x); the way back writes over them. Training, which has three
    passes after the first, keeps x and, where there is a hidden layer, z.
    """

    z: Float32[np.ndarray, "2 kept two_width"]
    slope: Float32[np.ndarray, "2 kept two_width"]
    x: Float32[np.ndarray, "2 kept two_width"]


# -- one row -------------------------------------------------------------------------------------------


@intrinsic
@no_type_check
def _sum_row(typingctx, inner, i, own, p, other, q, x):
    """``x_i = inner_i + own_p + other_q``."""

    def body(inner, i, own, p, other, q, x):
        for half in HALVES:
            x.store(inner.load(i, half) + own.load(p, half) + other.load(q, half), i, half)

    return emit(body, inner, i, own, p, other, q, x)


@intrinsic
@no_type_check
def _silu_row(typingctx, inner, i, own, p, other, q, h):
    """``h_i = silu(x_i)``, x as in :func:`_sum_row`."""

    def body(inner, i, own, p, other, q, h):
        for half in HALVES:
            x = inner.load(i, half) + own.load(p, half) + other.load(q, half)
            h.store(x * sigmoid(x), i, half)

    return emit(body, inner, i, own, p, other, q, h)


@intrinsic
@no_type_check
def _silu_and_slope_row(typingctx, inner, i, own, p, other, q, h, slope):
    """The same, and the slope ``silu'(x)``."""

    def body(inner, i, own, p, other, q, h, slope):
        for half in HALVES:
            x = inner.load(i, half) + own.load(p, half) + other.load(q, half)
            s = sigmoid(x)
            h.store(x * s, i, half)
            slope.store(silu_slope(x, s), i, half)

    return emit(body, inner, i, own, p, other, q, h, slope)


@intrinsic
@no_type_check
def _silu_and_slope_of_row(typingctx, x, i, h, slope):
    """The same of an x that was kept."""

    def body(x, i, h, slope):
        for half in HALVES:
            value = x.load(i, half)
            s = sigmoid(value)
            h.store(value * s, i, half)
            slope.store(silu_slope(value, s), i, half)

    return emit(body, x, i, h, slope)


@intrinsic
@no_type_check
def _message_row(typingctx, z, i, ends, normed, weights, v, total, t):
    """``total_t += w_v * silu(norm(core_i)) * sigmoid(norm(gate_i))``."""

    def body(z, i, ends, normed, weights, v, total, t):
        core_scale, core_shift, gate_scale, gate_shift = (ends.load(INT64(row)) for row in range(4))
        core = standardised(z.load(i, 0), normed)[0] * core_scale + core_shift
        gate = standardised(z.load(i, WIDTH), normed)[0] * gate_scale + gate_shift
        core_decay, gate_decay = decay(core), decay(gate)
        above = core.one_where_positive(core_decay) * gate.one_where_positive(gate_decay)
        message = core * above / ((1.0 + core_decay) * (1.0 + gate_decay))
        total.add(weights.load(v) * message, t)

    return emit(body, z, i, ends, normed, weights, v, total, t)


@no_type_check
def _reverse_of_message(z, i, ends, normed, weights, v, up, t, g_weights):
    """Reverse of :func:`_message_row`: z becomes the gradient with respect to z, that of the weights is added up."""
    core, gate = normalised_gate(z, i, ends, normed)
    asked, weight = up.load(t), weights.load(v)
    message = core.y * core.s * gate.s
    g_weights.add(asked * message, v)
    asked = asked * weight
    g_core = asked * gate.s * silu_slope(core.y, core.s)
    g_gate = asked * message * (1.0 - gate.s)
    for half, g_y, end in ((0, g_core, core), (WIDTH, g_gate, gate)):
        z.store(standardised_reverse(g_y * end.scale, end.n, end.rho, normed)[0], i, half)
    return (core, g_core), (gate, g_gate)


@intrinsic
@no_type_check
def _message_row_reverse(typingctx, z, i, ends, normed, weights, v, up, t, g_weights):
    def body(*given):
        _reverse_of_message(*given)

    return emit(body, z, i, ends, normed, weights, v, up, t, g_weights)


@intrinsic
@no_type_check
def _trained_message_row_reverse(typingctx, z, i, ends, normed, weights, v, up, t, g_weights, g_bias, g_ends):
    """The same, with the gradients of bias and ends added up."""

    def body(z, i, *given):
        *given, g_bias, g_ends = given
        for a, (end, g_y) in enumerate(_reverse_of_message(z, i, *given)):
            g_bias.add(z.load(i, a * WIDTH), INT64(a))
            g_ends.add(g_y * end.n, INT64(2 * a))
            g_ends.add(g_y, INT64(2 * a + 1))

    return emit(body, z, i, ends, normed, weights, v, up, t, g_weights, g_bias, g_ends)


@intrinsic
@no_type_check
def _scatter_row(typingctx, gradient, i, slope, g_own, p, g_other, q, g_inner, add):
    """Reverse of :func:`_sum_row`: gradient * slope goes to all three terms; ``add``: inner has that of the other side."""

    def body(gradient, i, slope, g_own, p, g_other, q, g_inner, add):
        for half in HALVES:
            value = gradient.load(i, half) * slope.load(i, half)
            g_own.add(value, p, half)
            g_other.add(value, q, half)
            g_inner.store(value + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, slope, g_own, p, g_other, q, g_inner, add)


@intrinsic
@no_type_check
def scatter_plain_row(typingctx, gradient, i, g_own, p, g_other, q, g_inner, add):
    """The same without a slope, where there is no hidden layer."""

    def body(gradient, i, g_own, p, g_other, q, g_inner, add):
        for half in HALVES:
            value = gradient.load(i, half)
            g_own.add(value, p, half)
            g_other.add(value, q, half)
            g_inner.store(value + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, g_own, p, g_other, q, g_inner, add)


@intrinsic
@no_type_check
def _copy_row(typingctx, x, i, y, j):
    """``y_j = x_i``, of WIDTH numbers."""

    def body(x, i, y, j):
        y.store(x.load(i), j)

    return emit(body, x, i, y, j)


# -- all rows -------------------------------------------------------------------------------------------


@compiled
@no_type_check
def copy(x, y):
    """``y = x``, of rows of 2 F."""
    for i in range(x.shape[0]):
        _copy_row(x, i, y, i)
        _copy_row(x[:, WIDTH:], i, y[:, WIDTH:], i)


@compiled
@no_type_check
def silu_and_slope(x, h, slope):
    """``h = silu(x)`` and silu' of rows of 2 F."""
    for i in range(x.shape[0]):
        _silu_and_slope_of_row(x, i, h, slope)


@compiled
@no_type_check
def first_layer(start, inner, own, other, index, x):
    """``x`` of a tile of one side, ``inner`` being ``W f``."""
    for i in range(x.shape[0]):
        _sum_row(inner, i, own, index[0, start + i], other, index[1, start + i], x)


@compiled
@no_type_check
def silu_layer(start, inner, own, other, index, h):
    """``h = silu(x)`` of a tile of one side."""
    for i in range(h.shape[0]):
        _silu_row(inner, i, own, index[0, start + i], other, index[1, start + i], h)


@compiled
@no_type_check
def silu_and_slope_layer(start, inner, own, other, index, h, slope):
    """``h = silu(x)`` of a tile of one side, and silu'."""
    for i in range(h.shape[0]):
        _silu_and_slope_row(inner, i, own, index[0, start + i], other, index[1, start + i], h, slope)


@compiled
@no_type_check
def hidden_layer(x, hidden_t, bias, z):
    """``z = V x + c`` for core and gate."""
    multiply(x[:, :WIDTH], hidden_t[0], bias[:1], z[:, :WIDTH])
    multiply(x[:, WIDTH:], hidden_t[1], bias[1:], z[:, WIDTH:])


@compiled
@no_type_check
def hidden_layer_reverse(g_z, layer, g_h):
    """Reverse of :func:`hidden_layer`."""
    zero = np.zeros((1, WIDTH), dtype=np.float32)
    multiply(g_z[:, :WIDTH], layer.hidden[0], zero, g_h[:, :WIDTH])
    multiply(g_z[:, WIDTH:], layer.hidden[1], zero, g_h[:, WIDTH:])


@compiled
@no_type_check
def hidden_outer(g_z, h, g_layer):
    """Add the gradient of V, the sum of ``dE/dz h^T`` over the rows."""
    add_outer(g_z[:, :WIDTH], h[:, :WIDTH], g_layer.hidden[0])
    add_outer(g_z[:, WIDTH:], h[:, WIDTH:], g_layer.hidden[1])


@compiled
@no_type_check
def intermediates(start, n, side, inner, own, other, index, layer, kept, work, h):
    """z of a tile of one side and, where there is a hidden layer, silu(x), in h, and silu'(x).

    What is kept is given as it is, but for x: z is then a copy.
    """
    z, slope = work[2, :n], work[3, :n]
    if kept.x.shape[1]:
        x = kept.x[side, start : start + n]
        copy(kept.z[side, start : start + n] if layer.hidden.shape[0] else x, z)
        if layer.hidden.shape[0]:
            silu_and_slope(x, h, slope)
    elif kept.z.shape[1]:
        return kept.z[side, start : start + n], kept.slope[side, start : start + n]
    elif layer.hidden.shape[0]:
        silu_and_slope_layer(start, inner, own, other, index[side], h, slope)
        hidden_layer(h, layer.hidden_t, layer.bias, z)
    else:
        first_layer(start, inner, own, other, index[side], z)
    return z, slope


@compiled
@no_type_check
def forward(begin, end, index, own, other, features, layer, weights, kept, total, onto_features, work):
    """Add the messages of the rows ``begin <= r < end`` of both sides to ``total [., F]``.

    ``onto_features``: every row has a total of its own, which begins as the row's features, whatever it was.

    ``index`` holds p, q, v, t of both sides, int32 ``[2, 4, n]``; own and other are ``[., 2 F]``, features ``[2, n, F]``, or
    ``[1, n, F]`` where both sides share them, weights ``[., F]`` and work ``[WORK, TILE, 2 F]``, all float32 and C-contiguous.
    For ``layer`` see :class:`xclimb.models.fused.weights.Layer`, for ``kept`` :class:`Kept`.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, h = work[0, :n], work[1, :n]
        for side in range(2):
            z = kept.z[side, start : start + n] if kept.z.shape[1] else work[2, :n]
            x = kept.x[side, start : start + n] if kept.x.shape[1] else z
            if side < features.shape[0]:
                multiply(features[side, start : start + n], layer.projection_t, zero, inner)
            if layer.hidden.shape[0] == 0:
                first_layer(start, inner, own, other, index[side], x)
                z = x
            else:
                if kept.x.shape[1]:
                    first_layer(start, inner, own, other, index[side], x)
                    silu_and_slope(x, h, work[3, :n])
                elif kept.slope.shape[1]:
                    silu_and_slope_layer(start, inner, own, other, index[side], h, kept.slope[side, start : start + n])
                else:
                    silu_layer(start, inner, own, other, index[side], h)
                hidden_layer(h, layer.hidden_t, layer.bias, z)
            if onto_features:
                at = min(side, features.shape[0] - 1)
                for i in range(n):
                    _copy_row(features[at], start + i, total, index[side, 3, start + i])
            for i in range(n):
                v, t = index[side, 2, start + i], index[side, 3, start + i]
                _message_row(z, i, layer.ends, layer.normed, weights, v, total, t)


@compiled
@no_type_check
def backward(
    begin, end, index, own, other, features, layer, weights, kept, up, g_own, g_other, g_features, begun, g_weights, g_layer,
    work
):  # fmt: skip
    """Add the gradients of ``sum(up * total)`` with respect to the arguments of :func:`forward` to the arrays g_...

    Where ``g_features`` has not been ``begun`` it may hold anything, the features themselves even.

    ``g_layer``, a :class:`xclimb.models.fused.weights.LayerGradient`, may be one of weights that are not trained.
    Where z and slope are ``kept`` they are written over, and no weights may be trained: silu(x) is not there. x is only read.
    ``up`` and ``g_features`` may be one array where the total of a row is that row's own.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    shared, trained = features.shape[0] == 1, g_layer.projection.shape[0] > 0
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, h, g_inner = work[0, :n], work[1, :n], work[4, :n]
        for side in range(2):
            if side < features.shape[0] and kept.x.shape[1] == 0 and kept.z.shape[1] == 0:
                multiply(features[side, start : start + n], layer.projection_t, zero, inner)
            z, slope = intermediates(start, n, side, inner, own, other, index, layer, kept, work, h)
            if trained:
                for i in range(n):
                    v, t = index[side, 2, start + i], index[side, 3, start + i]
                    _trained_message_row_reverse(
                        z, i, layer.ends, layer.normed, weights, v, up, t, g_weights, g_layer.bias, g_layer.ends
                    )
            else:
                for i in range(n):
                    v, t = index[side, 2, start + i], index[side, 3, start + i]
                    _message_row_reverse(z, i, layer.ends, layer.normed, weights, v, up, t, g_weights)
            if trained and layer.hidden.shape[0]:
                hidden_outer(z, h, g_layer)
            add = shared and side == 1
            if layer.hidden.shape[0]:
                hidden_layer_reverse(z, layer, h)  # h becomes dE/dh
            for i in range(n):
                p, q = index[side, 0, start + i], index[side, 1, start + i]
                if layer.hidden.shape[0]:
                    _scatter_row(h, i, slope, g_own, p, g_other, q, g_inner, add)
                else:
                    scatter_plain_row(z, i, g_own, p, g_other, q, g_inner, add)
            if side == 1 or not shared:
                g_f = g_features[0 if shared else side, start : start + n]
                if begun:
                    multiply(g_inner, layer.projection, g_f, g_f)
                else:
                    multiply(g_inner, layer.projection, zero[:, :WIDTH], g_f)
                if trained:
                    add_outer(g_inner, features[0 if shared else side, start : start + n], g_layer.projection)
