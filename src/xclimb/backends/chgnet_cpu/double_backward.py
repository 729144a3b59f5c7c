"""Gradient of the gradient of the messages, compiled, for a loss on forces and stress.

The formulas are those of the second part of :mod:`xclimb.backends.chgnet_cpu.gate`, the tiles those of
:mod:`xclimb.backends.chgnet_cpu.messages`; names in ``_dot`` are primed quantities of the formulas.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from numba.extending import intrinsic

from xclimb.backends.chgnet_cpu.gate import (
    HALVES,
    gate_branches,
    silu_derivative,
    silu_second_derivative,
    standardised_backward,
)
from xclimb.backends.chgnet_cpu.messages import (
    TILE,
    add_hidden_gradient,
    compiled,
    copy,
    first_layer,
    hidden_layer,
    hidden_layer_backward,
    scatter_row,
)
from xclimb.backends.chgnet_cpu.products import add_outer, multiply
from xclimb.backends.chgnet_cpu.vectors import INT64, WIDTH, emit, sigmoid


@intrinsic
@no_type_check
def _silu_tangent_row(typingctx, x, x_dot, i, h, slope, curvature):
    """``h = silu(x)`` and its tangent ``silu'(x) x'``, in place of x', with the slope and ``silu''(x) x'``."""

    def body(x, x_dot, i, h, slope, curvature):
        for half in HALVES:
            value, dot = x.load(i, half), x_dot.load(i, half)
            s = sigmoid(value)
            derivative = silu_derivative(value, s)
            slope.store(derivative, i, half)
            curvature.store(silu_second_derivative(value, s) * dot, i, half)
            h.store(value * s, i, half)
            x_dot.store(derivative * dot, i, half)

    return emit(body, x, x_dot, i, h, slope, curvature)


@intrinsic
@no_type_check
def _message_row_double_backward(
    typingctx, z, z_dot, i, affine, normed, weights, weights_dot, v, g_total, t, total_dot, g_weights, g_bias, g_affine
):
    """z becomes ``dE/dz``, z' ``dphi/dz``; adds to ``total'`` and to the gradients of weights, bias and affine."""

    def body(z, z_dot, i, affine, normed, weights, weights_dot, v, g_total, t, total_dot, g_weights, g_bias, g_affine):
        core, gate = gate_branches(z, i, affine, normed)
        core_n_dot, core_dot = standardised_backward(z_dot.load(i, 0), core.n, core.rho, normed)  # J z', <n z'>
        gate_n_dot, gate_dot = standardised_backward(z_dot.load(i, WIDTH), gate.n, gate.rho, normed)
        core_y_dot, gate_y_dot = core_n_dot * core.scale, gate_n_dot * gate.scale
        s, g = core.s, gate.s
        slope, silu, closed = silu_derivative(core.y, s), core.y * s, 1.0 - g
        message, g_message, weight, weight_dot = silu * g, g_total.load(t), weights.load(v), weights_dot.load(v)
        message_dot = slope * g * core_y_dot + message * closed * gate_y_dot
        total_dot.add(weight_dot * message + weight * message_dot, t)
        g_weights.add(g_message * message_dot, v)

        g_message, g_message_dot = g_message * weight, g_message * weight_dot
        g_core, g_gate = g_message * g * slope, g_message * message * closed
        core_curvature = silu_second_derivative(core.y, s) * core_y_dot + slope * closed * gate_y_dot
        gate_curvature = slope * core_y_dot + silu * (1.0 - 2.0 * g) * gate_y_dot
        gg_core = g * (g_message_dot * slope + g_message * core_curvature)
        gg_gate = g * closed * (g_message_dot * silu + g_message * gate_curvature)
        branches = ((core, core_n_dot, core_dot, g_core, gg_core), (gate, gate_n_dot, gate_dot, g_gate, gg_gate))
        for a, (branch, n_dot, along_dot, g_y, gg_y) in enumerate(branches):
            b = g_y * branch.scale
            first, along = standardised_backward(b, branch.n, branch.rho, normed)
            both = ((b * n_dot).sum() * (1 / WIDTH)).only_if(normed, 0.0)
            second, _ = standardised_backward(gg_y * branch.scale, branch.n, branch.rho, normed)
            second = second - branch.rho * (branch.n * both + first * along_dot + n_dot * along)
            z.store(first, i, a * WIDTH)
            z_dot.store(second, i, a * WIDTH)
            g_bias.add(second, INT64(a))
            g_affine.add(g_y * n_dot + gg_y * branch.n, INT64(2 * a))
            g_affine.add(gg_y, INT64(2 * a + 1))

    kinds = (z, z_dot, i, affine, normed, weights, weights_dot, v, g_total, t, total_dot, g_weights, g_bias, g_affine)
    return emit(body, *kinds)


@intrinsic
@no_type_check
def _scatter_row_double_backward(typingctx, g_h, gg_h, i, slope, curvature, g_own, p, g_other, q, g_inner, gg_inner, add):
    """``dphi/dx`` goes to all three terms of x; that and ``dE/dx`` to inner, which may hold that of the other direction."""

    def body(g_h, gg_h, i, slope, curvature, g_own, p, g_other, q, g_inner, gg_inner, add):
        for half in HALVES:
            g, derivative = g_h.load(i, half), slope.load(i, half)
            gg = gg_h.load(i, half) * derivative + curvature.load(i, half) * g
            g_own.add(gg, p, half)
            g_other.add(gg, q, half)
            g_inner.store(g * derivative + g_inner.load(i, half).only_if(add, 0.0), i, half)
            gg_inner.store(gg + gg_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, g_h, gg_h, i, slope, curvature, g_own, p, g_other, q, g_inner, gg_inner, add)


@intrinsic
@no_type_check
def _inner_row(typingctx, gradient, i, g_inner, add):
    """The gradient goes to inner, which may hold that of the other direction."""

    def body(gradient, i, g_inner, add):
        for half in HALVES:
            g_inner.store(gradient.load(i, half) + g_inner.load(i, half).only_if(add, 0.0), i, half)

    return emit(body, gradient, i, g_inner, add)


@compiled
@no_type_check
def double_backward(
    begin, end, index, inputs, tangents, layer, saved, g_total, total_dot, g_own, g_other, g_features, g_weights, g_layer,
    work
):  # fmt: skip
    """Gradients of ``phi = sum(g_total * total')`` with respect to g_total, which is ``total'``, and to all inputs of total.

    ``inputs`` are own, other, features and weights as :func:`xclimb.backends.chgnet_cpu.messages.forward` takes them and
    ``tangents`` the direction in which they move. All gradients are added to the arrays of the caller, but
    those of the features, which are written. ``saved`` are the activations of the first pass, x and z or none; work is
    ``[WORK, TILE, 2 F]``.
    """
    own, other, features, weights = inputs
    own_dot, other_dot, features_dot, weights_dot = tangents
    zero = np.zeros((1, 2 * WIDTH), dtype=np.float32)
    shared, has_hidden, cached = features.shape[0] == 1, layer.hidden.shape[0] > 0, saved.x.shape[1] > 0
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        inner, inner_dot, h, h_dot, z, z_dot = work[0, :n], work[1, :n], work[2, :n], work[3, :n], work[4, :n], work[5, :n]
        slope, curvature, g_inner, gg_inner = work[6, :n], work[7, :n], work[8, :n], work[9, :n]
        for direction in range(2):
            at = 0 if shared else direction
            f, f_dot = features[at, start : start + n], features_dot[at, start : start + n]
            x = saved.x[direction, start : start + n] if cached else h
            if direction < features.shape[0]:
                multiply(f_dot, layer.projection_t, zero, inner_dot)
                if not cached:
                    multiply(f, layer.projection_t, zero, inner)
            if not cached:
                first_layer(start, inner, own, other, index[direction], x)
            first_layer(start, inner_dot, own_dot, other_dot, index[direction], h_dot)
            if has_hidden:
                for i in range(n):
                    _silu_tangent_row(x, h_dot, i, h, slope, curvature)
                hidden_layer(h_dot, layer.hidden_t, zero.reshape(2, WIDTH), z_dot)
                if cached:
                    copy(saved.z[direction, start : start + n], z)
                else:
                    hidden_layer(h, layer.hidden_t, layer.bias, z)
            else:
                copy(x, z)
                copy(h_dot, z_dot)
            for i in range(n):
                v, t = index[direction, 2, start + i], index[direction, 3, start + i]
                _message_row_double_backward(
                    z, z_dot, i, layer.affine, layer.normed, weights, weights_dot, v, g_total, t, total_dot, g_weights,
                    g_layer.bias, g_layer.affine,
                )  # fmt: skip
            if has_hidden:
                add_hidden_gradient(z, h_dot, g_layer)  # dE/dz h'^T + dphi/dz h^T
                add_hidden_gradient(z_dot, h, g_layer)
                hidden_layer_backward(z, layer, h)  # from here on h holds dE/dh, h' dphi/dh
                hidden_layer_backward(z_dot, layer, h_dot)
            add = shared and direction == 1
            for i in range(n):
                p, q = index[direction, 0, start + i], index[direction, 1, start + i]
                if has_hidden:
                    _scatter_row_double_backward(h, h_dot, i, slope, curvature, g_own, p, g_other, q, g_inner, gg_inner, add)
                else:
                    scatter_row(z_dot, i, g_own, p, g_other, q, gg_inner, add)
                    _inner_row(z, i, g_inner, add)
            if direction == 1 or not shared:
                g_f = g_features[at, start : start + n]
                multiply(gg_inner, layer.projection, zero[:, :WIDTH], g_f)
                add_outer(g_inner, f_dot, g_layer.projection)
                add_outer(gg_inner, f, g_layer.projection)
