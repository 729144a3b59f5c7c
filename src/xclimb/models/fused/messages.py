"""The messages of CHGNet and their gradient, compiled: rows in tiles that stay in the cache of a core.

The messages of the three updates are one operation. Row r (a direction of a bond, a side of an angle) has

    x_r             = own[p_r] + other[q_r] + W f_r            first layer, projected where each part lives
    core_r, gate_r  = V silu(x_r) + c                          hidden layer (none in the angle update: core, gate = x)
    total[t_r]     += w[v_r] * silu(norm(core_r)) * sigmoid(norm(gate_r))

The gradient computes the intermediates of a tile again, so that nothing is kept but the inputs of each update; only where
rows are few, what takes longest to compute is kept.

numba does not see that what it keeps compiled on disk depends on another file: after a change in vectors.py or products.py,
delete the ``__pycache__`` folder beside this file.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from numba import njit
from numba.extending import intrinsic

from xclimb.models.fused.products import multiply
from xclimb.models.fused.vectors import INT64, Row, decay, emit, sigmoid
from xclimb.models.paths import WIDTH

TILE = 96  # rows; the five arrays [TILE, 2 F] of a tile take 0.25 MB, a fraction of the L2 cache of a core
_HALVES = (0, WIDTH)  # columns of core and of gate
_EPS = 1e-5  # of torch's LayerNorm

_compiled = njit(cache=True, nogil=True, error_model="numpy")


# -- one row -------------------------------------------------------------------------------------------


@intrinsic
@no_type_check
def _sum_row(typingctx, inner, i, own, p, other, q, x):
    """``x_i = inner_i + own_p + other_q``."""

    def body(inner, i, own, p, other, q, x):
        for half in _HALVES:
            x.store(inner.load(i, half) + own.load(p, half) + other.load(q, half), i, half)

    return emit(body, inner, i, own, p, other, q, x)


@intrinsic
@no_type_check
def _silu_row(typingctx, x, i):
    """SiLU, in place."""

    def body(x, i):
        for half in _HALVES:
            value = x.load(i, half)
            x.store(value * sigmoid(value), i, half)

    return emit(body, x, i)


@intrinsic
@no_type_check
def _silu_and_slope_row(typingctx, x, i, slope):
    """SiLU, in place, and its slope ``silu'(x) = s + x s (1 - s)``."""

    def body(x, i, slope):
        for half in _HALVES:
            value = x.load(i, half)
            s = sigmoid(value)
            silu = value * s
            x.store(silu, i, half)
            slope.store(s + silu * (1.0 - s), i, half)

    return emit(body, x, i, slope)


def _standardised(z: Row, normed) -> tuple[Row, Row]:
    """A row of zero mean and unit variance, and what it was multiplied by; as it is and 1 if not ``normed``."""
    centred = z - (z.sum() * (1 / WIDTH)).only_if(normed, 0.0)
    variance = (centred * centred).sum() * (1 / WIDTH)
    scale = (1.0 / (variance + _EPS).sqrt()).only_if(normed, 1.0)
    return centred * scale, scale


def _standardised_reverse(gradient: Row, standardised: Row, scale: Row, normed) -> Row:
    """The gradient with respect to what :func:`_standardised` was given."""
    mean = (gradient.sum() * (1 / WIDTH)).only_if(normed, 0.0)
    along = ((gradient * standardised).sum() * (1 / WIDTH)).only_if(normed, 0.0)
    return scale * (gradient - mean - standardised * along)


@intrinsic
@no_type_check
def _message_row(typingctx, z, i, ends, normed, weights, v, total, t):
    """``total_t += w_v * silu(norm(core_i)) * sigmoid(norm(gate_i))``."""

    def body(z, i, ends, normed, weights, v, total, t):
        core_scale, core_shift, gate_scale, gate_shift = (ends.load(INT64(row)) for row in range(4))
        core = _standardised(z.load(i, 0), normed)[0] * core_scale + core_shift
        gate = _standardised(z.load(i, WIDTH), normed)[0] * gate_scale + gate_shift
        core_decay, gate_decay = decay(core), decay(gate)
        above = core.one_where_positive(core_decay) * gate.one_where_positive(gate_decay)
        message = core * above / ((1.0 + core_decay) * (1.0 + gate_decay))
        total.add(weights.load(v) * message, t)

    return emit(body, z, i, ends, normed, weights, v, total, t)


@intrinsic
@no_type_check
def _message_row_reverse(typingctx, z, i, ends, normed, weights, v, up, t, g_weights):
    """Reverse of :func:`_message_row`: z becomes the gradient with respect to z, that of the weights is added up."""

    def body(z, i, ends, normed, weights, v, up, t, g_weights):
        core_scale, core_shift, gate_scale, gate_shift = (ends.load(INT64(row)) for row in range(4))
        core_z, core_norm = _standardised(z.load(i, 0), normed)
        gate_z, gate_norm = _standardised(z.load(i, WIDTH), normed)
        core, gate = core_z * core_scale + core_shift, gate_z * gate_scale + gate_shift
        core_decay, gate_decay = decay(core), decay(gate)
        over = 1.0 / ((1.0 + core_decay) * (1.0 + gate_decay))
        s = core.one_where_positive(core_decay) * (1.0 + gate_decay) * over  # sigmoid(core)
        g = gate.one_where_positive(gate_decay) * (1.0 + core_decay) * over  # sigmoid(gate)
        asked, weight = up.load(t), weights.load(v)
        message = core * s * g
        g_weights.add(asked * message, v)
        asked = asked * weight
        g_core = asked * g * (s * (1.0 + core * (1.0 - s))) * core_scale
        g_gate = asked * message * (1.0 - g) * gate_scale
        z.store(_standardised_reverse(g_core, core_z, core_norm, normed), i, 0)
        z.store(_standardised_reverse(g_gate, gate_z, gate_norm, normed), i, WIDTH)

    return emit(body, z, i, ends, normed, weights, v, up, t, g_weights)


@intrinsic
@no_type_check
def _scatter_row(typingctx, gradient, i, slope, g_own, p, g_other, q, g_inner, add):
    """Reverse of :func:`_sum_row`: gradient * slope goes to all three terms; ``add``: inner has that of the other side."""

    def body(gradient, i, slope, g_own, p, g_other, q, g_inner, add):
        for half in _HALVES:
            value = gradient.load(i, half) * slope.load(i, half)
            g_own.add(value, p, half)
            g_other.add(value, q, half)
            g_inner.store(value + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, slope, g_own, p, g_other, q, g_inner, add)


# -- all rows -------------------------------------------------------------------------------------------


@_compiled
@no_type_check
def silu(x):
    """SiLU of each element of ``[n, 2 F]``, in place."""
    for i in range(x.shape[0]):
        _silu_row(x, i)


@_compiled
@no_type_check
def silu_and_slope(x, slope):
    """SiLU of each element of ``[n, 2 F]``, in place, and its slope."""
    for i in range(x.shape[0]):
        _silu_and_slope_row(x, i, slope)


@_compiled
@no_type_check
def _first_layer(start, inner, own, other, index, x):
    for i in range(x.shape[0]):
        _sum_row(inner, i, own, index[0, start + i], other, index[1, start + i], x)


@_compiled
@no_type_check
def _hidden_layer(x, layer, z):
    """``z = V x + c`` for core and gate."""
    multiply(x[:, :WIDTH], layer.hidden_t[0], layer.bias[:1], z[:, :WIDTH])
    multiply(x[:, WIDTH:], layer.hidden_t[1], layer.bias[1:], z[:, WIDTH:])


@_compiled
@no_type_check
def _slope_and_z(kept, side, start, n, work):
    """Where silu' and z of n rows are: kept from one pass to the other, or in the work arrays."""
    if kept.shape[2]:
        return kept[0, side, start : start + n], kept[1, side, start : start + n]
    return work[2, :n], work[3, :n]


@_compiled
@no_type_check
def forward(begin, end, index, own, other, features, layer, weights, total, kept, work):
    """Add the messages of the rows ``begin <= r < end`` of both sides to ``total [., F]``.

    ``index`` holds p, q, v, t of both sides, int32 ``[2, 4, n]``; own and other are ``[., 2 F]``, features ``[2, n, F]``, or
    ``[1, n, F]`` where both sides share them, weights ``[., F]`` and work ``[5, TILE, 2 F]``, all float32 and C-contiguous.
    ``kept``: room for silu' and z of both sides ``[2, 2, n, 2 F]``, or for none ``[2, 2, 0, 2 F]``.
    For ``layer`` see :class:`xclimb.models.fused.network.Layer`.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, x = work[0, :n], work[1, :n]
        for side in range(2):
            slope, z = _slope_and_z(kept, side, start, n, work)
            if side < features.shape[0]:
                multiply(features[side, start : start + n], layer.projection_t, zero, inner)
            if layer.hidden.shape[0]:
                _first_layer(start, inner, own, other, index[side], x)
                if kept.shape[2]:
                    silu_and_slope(x, slope)
                else:
                    silu(x)
                _hidden_layer(x, layer, z)
            else:
                _first_layer(start, inner, own, other, index[side], z)
            for i in range(n):
                v, t = index[side, 2, start + i], index[side, 3, start + i]
                _message_row(z, i, layer.ends, layer.normed, weights, v, total, t)


@_compiled
@no_type_check
def backward(begin, end, index, own, other, features, layer, weights, kept, up, g_own, g_other, g_features, g_weights, work):
    """Add the gradients of ``sum(up * total)`` with respect to the arguments of :func:`forward` to the arrays g_...

    ``up`` and ``g_features`` may be one array where the total of a row is that row's own.
    """
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    shared = features.shape[0] == 1
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, x, g_inner = work[0, :n], work[1, :n], work[4, :n]
        for side in range(2):
            slope, z = _slope_and_z(kept, side, start, n, work)
            if kept.shape[2] == 0:
                if side < features.shape[0]:
                    multiply(features[side, start : start + n], layer.projection_t, zero, inner)
                if layer.hidden.shape[0]:
                    _first_layer(start, inner, own, other, index[side], x)
                    silu_and_slope(x, slope)
                    _hidden_layer(x, layer, z)
                else:
                    _first_layer(start, inner, own, other, index[side], z)
            for i in range(n):
                v, t = index[side, 2, start + i], index[side, 3, start + i]
                _message_row_reverse(z, i, layer.ends, layer.normed, weights, v, up, t, g_weights)
            if layer.hidden.shape[0]:
                multiply(z[:, :WIDTH], layer.hidden[0], zero[:, :WIDTH], x[:, :WIDTH])
                multiply(z[:, WIDTH:], layer.hidden[1], zero[:, :WIDTH], x[:, WIDTH:])
            else:
                x[:], slope[:] = z, np.float32(1)
            add = shared and side == 1
            for i in range(n):
                p, q = index[side, 0, start + i], index[side, 1, start + i]
                _scatter_row(x, i, slope, g_own, p, g_other, q, g_inner, add)
            if side == 1 or not shared:
                g_f = g_features[0 if shared else side, start : start + n]
                multiply(g_inner, layer.projection, g_f, g_f)
