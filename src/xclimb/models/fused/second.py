"""The gradient of the gradient of the messages, compiled: what a loss on forces and stress asks for.

The formulas are those of the second part of :mod:`xclimb.models.fused.gates`, the tiles those of
:mod:`xclimb.models.fused.messages`; what ends in ``_dot`` is a primed quantity of the formulas.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from numba.extending import intrinsic

from xclimb.models.fused.gates import HALVES, normalised_gate, silu_bend, silu_slope, standardised_reverse
from xclimb.models.fused.messages import (
    TILE,
    compiled,
    copy,
    first_layer,
    hidden_layer,
    hidden_layer_reverse,
    hidden_outer,
    scatter_plain_row,
)
from xclimb.models.fused.products import add_outer, multiply
from xclimb.models.fused.vectors import INT64, emit, sigmoid
from xclimb.models.paths import WIDTH


@intrinsic
@no_type_check
def _silu_tangent_row(typingctx, x, x_dot, i, h, slope, bend):
    """``h = silu(x)`` and its tangent ``silu'(x) x'``, in place of x', with the slope and ``silu''(x) x'``."""

    def body(x, x_dot, i, h, slope, bend):
        for half in HALVES:
            value, dot = x.load(i, half), x_dot.load(i, half)
            s = sigmoid(value)
            steep = silu_slope(value, s)
            slope.store(steep, i, half)
            bend.store(silu_bend(value, s) * dot, i, half)
            h.store(value * s, i, half)
            x_dot.store(steep * dot, i, half)

    return emit(body, x, x_dot, i, h, slope, bend)


@intrinsic
@no_type_check
def _message_row_second(
    typingctx, z, z_dot, i, ends, normed, weights, weights_dot, v, up, t, total_dot, g_weights, g_bias, g_ends
):
    """z becomes ``dE/dz``, z' ``dphi/dz``; adds to ``total'`` and to the gradients of weights, bias and ends."""

    def body(z, z_dot, i, ends, normed, weights, weights_dot, v, up, t, total_dot, g_weights, g_bias, g_ends):
        core, gate = normalised_gate(z, i, ends, normed)
        core_n_dot, core_dot = standardised_reverse(z_dot.load(i, 0), core.n, core.rho, normed)  # J z', <n z'>
        gate_n_dot, gate_dot = standardised_reverse(z_dot.load(i, WIDTH), gate.n, gate.rho, normed)
        core_y_dot, gate_y_dot = core_n_dot * core.scale, gate_n_dot * gate.scale
        s, g = core.s, gate.s
        slope, silu, closed = silu_slope(core.y, s), core.y * s, 1.0 - g
        message, asked, weight, weight_dot = silu * g, up.load(t), weights.load(v), weights_dot.load(v)
        message_dot = slope * g * core_y_dot + message * closed * gate_y_dot
        total_dot.add(weight_dot * message + weight * message_dot, t)
        g_weights.add(asked * message_dot, v)

        asked, asked_dot = asked * weight, asked * weight_dot
        g_core, g_gate = asked * g * slope, asked * message * closed
        core_bent = silu_bend(core.y, s) * core_y_dot + slope * closed * gate_y_dot
        gate_bent = slope * core_y_dot + silu * (1.0 - 2.0 * g) * gate_y_dot
        gg_core = g * (asked_dot * slope + asked * core_bent)
        gg_gate = g * closed * (asked_dot * silu + asked * gate_bent)
        ends_ = ((core, core_n_dot, core_dot, g_core, gg_core), (gate, gate_n_dot, gate_dot, g_gate, gg_gate))
        for a, (end, n_dot, along_dot, g_y, gg_y) in enumerate(ends_):
            b = g_y * end.scale
            first, along = standardised_reverse(b, end.n, end.rho, normed)
            both = ((b * n_dot).sum() * (1 / WIDTH)).only_if(normed, 0.0)
            second, _ = standardised_reverse(gg_y * end.scale, end.n, end.rho, normed)
            second = second - end.rho * (end.n * both + first * along_dot + n_dot * along)
            z.store(first, i, a * WIDTH)
            z_dot.store(second, i, a * WIDTH)
            g_bias.add(second, INT64(a))
            g_ends.add(g_y * n_dot + gg_y * end.n, INT64(2 * a))
            g_ends.add(gg_y, INT64(2 * a + 1))

    kinds = (z, z_dot, i, ends, normed, weights, weights_dot, v, up, t, total_dot, g_weights, g_bias, g_ends)
    return emit(body, *kinds)


@intrinsic
@no_type_check
def _scatter_row_second(typingctx, g_h, gg_h, i, slope, bend, g_own, p, g_other, q, g_inner, gg_inner, add):
    """``dphi/dx`` goes to all three terms of x; that and ``dE/dx`` to inner, which may have that of the other side."""

    def body(g_h, gg_h, i, slope, bend, g_own, p, g_other, q, g_inner, gg_inner, add):
        for half in HALVES:
            g, steep = g_h.load(i, half), slope.load(i, half)
            gg = gg_h.load(i, half) * steep + bend.load(i, half) * g
            g_own.add(gg, p, half)
            g_other.add(gg, q, half)
            g_inner.store(g * steep + g_inner.load(i, half).only_if(add, 0.0), i, half)
            gg_inner.store(gg + gg_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, g_h, gg_h, i, slope, bend, g_own, p, g_other, q, g_inner, gg_inner, add)


@intrinsic
@no_type_check
def _inner_row(typingctx, gradient, i, g_inner, add):
    """The gradient goes to inner, which may have that of the other side."""

    def body(gradient, i, g_inner, add):
        for half in HALVES:
            g_inner.store(gradient.load(i, half) + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, g_inner, add)


@compiled
@no_type_check
def second(
    begin, end, index, given, given_dot, layer, kept, up, total_dot, g_own, g_other, g_features, g_weights, g_layer, work
):  # fmt: skip
    """The gradients of ``phi = sum(up * total')`` with respect to up, which is ``total'``, and to all that total is made of.

    ``given`` are own, other, features and weights as :func:`xclimb.models.fused.messages.forward` takes them and
    ``given_dot`` the direction in which they move. All gradients are added to the arrays of the caller, but
    those of the features, which are written. ``kept`` is that of the first pass, with x or without anything; work is
    ``[WORK, TILE, 2 F]``.
    """
    own, other, features, weights = given
    own_dot, other_dot, features_dot, weights_dot = given_dot
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    shared, curved, held = features.shape[0] == 1, layer.hidden.shape[0] > 0, kept.x.shape[1] > 0
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, inner_dot, h, h_dot, z, z_dot = work[0, :n], work[1, :n], work[2, :n], work[3, :n], work[4, :n], work[5, :n]
        slope, bend, g_inner, gg_inner = work[6, :n], work[7, :n], work[8, :n], work[9, :n]
        for side in range(2):
            at = 0 if shared else side
            f, f_dot = features[at, start : start + n], features_dot[at, start : start + n]
            x = kept.x[side, start : start + n] if held else h
            if side < features.shape[0]:
                multiply(f_dot, layer.projection_t, zero, inner_dot)
                if not held:
                    multiply(f, layer.projection_t, zero, inner)
            if not held:
                first_layer(start, inner, own, other, index[side], x)
            first_layer(start, inner_dot, own_dot, other_dot, index[side], h_dot)
            if curved:
                for i in range(n):
                    _silu_tangent_row(x, h_dot, i, h, slope, bend)
                hidden_layer(h_dot, layer.hidden_t, zero.reshape(2, WIDTH), z_dot)
                if held:
                    copy(kept.z[side, start : start + n], z)
                else:
                    hidden_layer(h, layer.hidden_t, layer.bias, z)
            else:
                copy(x, z)
                copy(h_dot, z_dot)
            for i in range(n):
                v, t = index[side, 2, start + i], index[side, 3, start + i]
                _message_row_second(
                    z, z_dot, i, layer.ends, layer.normed, weights, weights_dot, v, up, t, total_dot, g_weights, g_layer.bias,
                    g_layer.ends,
                )  # fmt: skip
            if curved:
                hidden_outer(z, h_dot, g_layer)  # dE/dz h'^T + dphi/dz h^T
                hidden_outer(z_dot, h, g_layer)
                hidden_layer_reverse(z, layer, h)  # from here on h holds dE/dh, h' dphi/dh
                hidden_layer_reverse(z_dot, layer, h_dot)
            add = shared and side == 1
            for i in range(n):
                p, q = index[side, 0, start + i], index[side, 1, start + i]
                if curved:
                    _scatter_row_second(h, h_dot, i, slope, bend, g_own, p, g_other, q, g_inner, gg_inner, add)
                else:
                    scatter_plain_row(z_dot, i, g_own, p, g_other, q, gg_inner, add)
                    _inner_row(z, i, g_inner, add)
            if side == 1 or not shared:
                g_f = g_features[at, start : start + n]
                multiply(gg_inner, layer.projection, zero[:, :WIDTH], g_f)
                add_outer(g_inner, f_dot, g_layer.projection)
                add_outer(gg_inner, f, g_layer.projection)
