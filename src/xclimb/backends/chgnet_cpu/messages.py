"""The messages of CHGNet and their gradient, compiled: rows in tiles that stay in the cache of a core.

The messages of the three updates are one operation. Row r (a direction of a bond, an angle seen from one of its edges) has

    x_r             = own[p_r] + other[q_r] + W f_r            first layer, projected where each part lives
    core_r, gate_r  = V silu(x_r) + c                          hidden layer (none in the angle update: core, gate = x)
    total[t_r]     += w[v_r] * silu(norm(core_r)) * sigmoid(norm(gate_r))

The backward pass computes the activations of a tile again from the inputs of each update; where rows are few, those that take
longest to compute are saved.

numba does not see that its cache of compiled code depends on another file: after a change in vectors.py,
products.py or gates.py, delete the ``__pycache__`` folder beside this file.
"""

from typing import NamedTuple, no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from jaxtyping import Float32
from numba import njit
from numba.extending import intrinsic

from xclimb.backends.chgnet_cpu.gate import HALVES, gate_branches, silu_derivative, standardised, standardised_backward
from xclimb.backends.chgnet_cpu.products import add_outer, multiply
from xclimb.backends.chgnet_cpu.vectors import INT64, WIDTH, decay, emit, sigmoid

TILE = 96  # rows; the arrays [TILE, 2 F] of a tile take 0.05 MB each, a fraction of the L2 cache of a core
WORK = 10  # arrays [TILE, 2 F] that the passes work in; backward takes 5, double backward all

compiled = njit(cache=True, nogil=True, error_model="numpy")


class Activations(NamedTuple):
    """Activations that are saved from one pass to the next, of all rows or of none.

    Predictions save z and, where there is a hidden layer, silu'(x); the backward pass overwrites them. Training, with
    three passes after the first, saves x and, where there is a hidden layer, z.
    """

    z: Float32[np.ndarray, "2 saved two_width"]
    slope: Float32[np.ndarray, "2 saved two_width"]
    x: Float32[np.ndarray, "2 saved two_width"]


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
            slope.store(silu_derivative(x, s), i, half)

    return emit(body, inner, i, own, p, other, q, h, slope)


@intrinsic
@no_type_check
def _silu_and_slope_of_row(typingctx, x, i, h, slope):
    """The same of an x that was saved."""

    def body(x, i, h, slope):
        for half in HALVES:
            value = x.load(i, half)
            s = sigmoid(value)
            h.store(value * s, i, half)
            slope.store(silu_derivative(value, s), i, half)

    return emit(body, x, i, h, slope)


@intrinsic
@no_type_check
def _message_row(typingctx, z, i, affine, normed, weights, v, total, t):
    """``total_t += w_v * silu(norm(core_i)) * sigmoid(norm(gate_i))``."""

    def body(z, i, affine, normed, weights, v, total, t):
        core_scale, core_shift, gate_scale, gate_shift = (affine.load(INT64(row)) for row in range(4))
        core = standardised(z.load(i, 0), normed)[0] * core_scale + core_shift
        gate = standardised(z.load(i, WIDTH), normed)[0] * gate_scale + gate_shift
        core_decay, gate_decay = decay(core), decay(gate)
        above = core.one_where_positive(core_decay) * gate.one_where_positive(gate_decay)
        message = core * above / ((1.0 + core_decay) * (1.0 + gate_decay))
        total.add(weights.load(v) * message, t)

    return emit(body, z, i, affine, normed, weights, v, total, t)


@no_type_check
def _message_backward(z, i, affine, normed, weights, v, g_total, t, g_weights):
    """Backward of :func:`_message_row`: z becomes the gradient with respect to z, that of the weights is added up."""
    core, gate = gate_branches(z, i, affine, normed)
    g_message, weight = g_total.load(t), weights.load(v)
    message = core.y * core.s * gate.s
    g_weights.add(g_message * message, v)
    g_message = g_message * weight
    g_core = g_message * gate.s * silu_derivative(core.y, core.s)
    g_gate = g_message * message * (1.0 - gate.s)
    for half, g_y, branch in ((0, g_core, core), (WIDTH, g_gate, gate)):
        z.store(standardised_backward(g_y * branch.scale, branch.n, branch.rho, normed)[0], i, half)
    return (core, g_core), (gate, g_gate)


@intrinsic
@no_type_check
def _message_row_backward(typingctx, z, i, affine, normed, weights, v, g_total, t, g_weights):
    def body(*operands):
        _message_backward(*operands)

    return emit(body, z, i, affine, normed, weights, v, g_total, t, g_weights)


@intrinsic
@no_type_check
def _trained_message_row_backward(typingctx, z, i, affine, normed, weights, v, g_total, t, g_weights, g_bias, g_affine):
    """The same, with the gradients of bias and affine added."""

    def body(z, i, *operands):
        *operands, g_bias, g_affine = operands
        for a, (branch, g_y) in enumerate(_message_backward(z, i, *operands)):
            g_bias.add(z.load(i, a * WIDTH), INT64(a))
            g_affine.add(g_y * branch.n, INT64(2 * a))
            g_affine.add(g_y, INT64(2 * a + 1))

    return emit(body, z, i, affine, normed, weights, v, g_total, t, g_weights, g_bias, g_affine)


@intrinsic
@no_type_check
def _scatter_scaled_row(typingctx, gradient, i, slope, g_own, p, g_other, q, g_inner, add):
    """Backward of :func:`_sum_row`: gradient * slope goes to all three terms; ``add`` to that of the other direction."""

    def body(gradient, i, slope, g_own, p, g_other, q, g_inner, add):
        for half in HALVES:
            value = gradient.load(i, half) * slope.load(i, half)
            g_own.add(value, p, half)
            g_other.add(value, q, half)
            g_inner.store(value + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, slope, g_own, p, g_other, q, g_inner, add)


@intrinsic
@no_type_check
def scatter_row(typingctx, gradient, i, g_own, p, g_other, q, g_inner, add):
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
    """``x`` of a tile of one direction, ``inner`` being ``W f``."""
    for i in range(x.shape[0]):
        _sum_row(inner, i, own, index[0, start + i], other, index[1, start + i], x)


@compiled
@no_type_check
def silu_layer(start, inner, own, other, index, h):
    """``h = silu(x)`` of a tile of one direction."""
    for i in range(h.shape[0]):
        _silu_row(inner, i, own, index[0, start + i], other, index[1, start + i], h)


@compiled
@no_type_check
def silu_and_slope_layer(start, inner, own, other, index, h, slope):
    """``h = silu(x)`` of a tile of one direction, and silu'."""
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
def hidden_layer_backward(g_z, layer, g_h):
    """Backward of :func:`hidden_layer`."""
    zero = np.zeros((1, WIDTH), dtype=np.float32)
    multiply(g_z[:, :WIDTH], layer.hidden[0], zero, g_h[:, :WIDTH])
    multiply(g_z[:, WIDTH:], layer.hidden[1], zero, g_h[:, WIDTH:])


@compiled
@no_type_check
def add_hidden_gradient(g_z, h, g_layer):
    """Add the gradient of V, the sum of ``dE/dz h^T`` over the rows."""
    add_outer(g_z[:, :WIDTH], h[:, :WIDTH], g_layer.hidden[0])
    add_outer(g_z[:, WIDTH:], h[:, WIDTH:], g_layer.hidden[1])


@compiled
@no_type_check
def intermediates(start, n, direction, inner, own, other, index, layer, saved, work, h):
    """z of a tile of one direction and, where there is a hidden layer, silu(x), in h, and silu'(x).

    Saved activations are returned themselves, but where x is saved, z is a copy.
    """
    z, slope = work[2, :n], work[3, :n]
    if saved.x.shape[1]:
        x = saved.x[direction, start : start + n]
        copy(saved.z[direction, start : start + n] if layer.hidden.shape[0] else x, z)
        if layer.hidden.shape[0]:
            silu_and_slope(x, h, slope)
    elif saved.z.shape[1]:
        return saved.z[direction, start : start + n], saved.slope[direction, start : start + n]
    elif layer.hidden.shape[0]:
        silu_and_slope_layer(start, inner, own, other, index[direction], h, slope)
        hidden_layer(h, layer.hidden_t, layer.bias, z)
    else:
        first_layer(start, inner, own, other, index[direction], z)
    return z, slope


@compiled
@no_type_check
def forward(begin, end, index, own, other, features, layer, weights, saved, total, residual, work):
    """Add the messages of the rows ``begin <= r < end`` of both directions to ``total [., F]``.

    ``residual``: every row has a total of its own, which is set to the row's features first.

    ``index`` holds p, q, v, t of both directions, int32 ``[2, 4, n]``; own and other are ``[., 2 F]``, features ``[2, n, F]``,
    or ``[1, n, F]`` where both directions share them, weights ``[., F]`` and work ``[WORK, TILE, 2 F]``; float32, C-contiguous.
    For ``layer`` see :class:`xclimb.backends.chgnet_cpu.weights.Layer`, for ``saved`` :class:`Activations`.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, h = work[0, :n], work[1, :n]
        for direction in range(2):
            z = saved.z[direction, start : start + n] if saved.z.shape[1] else work[2, :n]
            x = saved.x[direction, start : start + n] if saved.x.shape[1] else z
            if direction < features.shape[0]:
                multiply(features[direction, start : start + n], layer.projection_t, zero, inner)
            if layer.hidden.shape[0] == 0:
                first_layer(start, inner, own, other, index[direction], x)
                z = x
            else:
                if saved.x.shape[1]:
                    first_layer(start, inner, own, other, index[direction], x)
                    silu_and_slope(x, h, work[3, :n])
                elif saved.slope.shape[1]:
                    silu_and_slope_layer(
                        start, inner, own, other, index[direction], h, saved.slope[direction, start : start + n]
                    )
                else:
                    silu_layer(start, inner, own, other, index[direction], h)
                hidden_layer(h, layer.hidden_t, layer.bias, z)
            if residual:
                at = min(direction, features.shape[0] - 1)
                for i in range(n):
                    _copy_row(features[at], start + i, total, index[direction, 3, start + i])
            for i in range(n):
                v, t = index[direction, 2, start + i], index[direction, 3, start + i]
                _message_row(z, i, layer.affine, layer.normed, weights, v, total, t)


@compiled
@no_type_check
def backward(
    begin, end, index, own, other, features, layer, weights, saved, g_total, g_own, g_other, g_features, accumulate, g_weights,
    g_layer, work
):  # fmt: skip
    """Add the gradients of ``sum(g_total * total)`` with respect to the arguments of :func:`forward` to the arrays g_...

    Without ``accumulate``, ``g_features`` is overwritten; it may then be the features themselves.

    ``g_layer``, a :class:`xclimb.backends.chgnet_cpu.weights.LayerGradient`, may be one of weights that are not trained.
    Where z and slope are ``saved`` they are overwritten, and no weights may be trained: silu(x) is missing. x is only read.
    ``g_total`` and ``g_features`` may be one array where the total of a row is that row's own.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    shared, trained = features.shape[0] == 1, g_layer.projection.shape[0] > 0
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, h, g_inner = work[0, :n], work[1, :n], work[4, :n]
        for direction in range(2):
            if direction < features.shape[0] and saved.x.shape[1] == 0 and saved.z.shape[1] == 0:
                multiply(features[direction, start : start + n], layer.projection_t, zero, inner)
            z, slope = intermediates(start, n, direction, inner, own, other, index, layer, saved, work, h)
            if trained:
                for i in range(n):
                    v, t = index[direction, 2, start + i], index[direction, 3, start + i]
                    _trained_message_row_backward(
                        z, i, layer.affine, layer.normed, weights, v, g_total, t, g_weights, g_layer.bias, g_layer.affine
                    )
            else:
                for i in range(n):
                    v, t = index[direction, 2, start + i], index[direction, 3, start + i]
                    _message_row_backward(z, i, layer.affine, layer.normed, weights, v, g_total, t, g_weights)
            if trained and layer.hidden.shape[0]:
                add_hidden_gradient(z, h, g_layer)
            add = shared and direction == 1
            if layer.hidden.shape[0]:
                hidden_layer_backward(z, layer, h)  # h becomes dE/dh
            for i in range(n):
                p, q = index[direction, 0, start + i], index[direction, 1, start + i]
                if layer.hidden.shape[0]:
                    _scatter_scaled_row(h, i, slope, g_own, p, g_other, q, g_inner, add)
                else:
                    scatter_row(z, i, g_own, p, g_other, q, g_inner, add)
            if direction == 1 or not shared:
                g_f = g_features[0 if shared else direction, start : start + n]
                if accumulate:
                    multiply(g_inner, layer.projection, g_f, g_f)
                else:
                    multiply(g_inner, layer.projection, zero[:, :WIDTH], g_f)
                if trained:
                    add_outer(g_inner, features[0 if shared else direction, start : start + n], g_layer.projection)
