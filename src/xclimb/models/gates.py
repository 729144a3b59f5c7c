r"""What happens to a message between the matrix products, with its first and second derivatives, compiled by numba.

A row is one message, of 2 F features: core and gate side by side. With ``s`` the sigmoid,

    x = inner + own[p] + other[q],   h = silu(x)                hidden layer (h = x where there is none)
    z = V h                                                     by the caller, core and gate each with its own V
    y = gamma n + beta,   n = rho (z + c - <z + c>)             rho = 1 / sqrt(<(z + c - <z + c>)^2> + eps)
    m = silu(y_core) s(y_gate),   total[t] += w[v] m

where ``<.>`` is the mean over the F features of core or of gate.

*Reverse.* With ``G = w dE/dtotal`` and ``J`` the Jacobian of the norm, which is symmetric,

    dE/dy_core = G silu'(y_core) s(y_gate),   dE/dy_gate = G silu(y_core) s'(y_gate)
    dE/dz = J b,   b = gamma dE/dy,           J b = rho (b - <b> - n <n b>)
    dE/dx = silu'(x) dE/dh

*Second.* The gradient of a gradient is computed as the gradient of a directional derivative: the cotangents of ``dE/du`` are
a direction ``u'`` in which the inputs move, and asked for is the gradient of ``phi = sum dE/dtotal total'``, with

    x' = inner' + own'[p] + other'[q],   h' = silu'(x) x',   z' = V h',   n' = J z',   y' = gamma n',
    m' = silu'(y_core) s(y_gate) y'_core + silu(y_core) s'(y_gate) y'_gate,   total'[t] += w'[v] m + w[v] m'

The gradient of phi with respect to a primed quantity is the dE/d(.) of the reverse pass. With respect to the others it is,
with ``G' = w' dE/dtotal``,

    dphi/dy_core = G' dm/dy_core + G (silu''(y_core) s(y_gate) y'_core + silu'(y_core) s'(y_gate) y'_gate), and so for the gate
    dphi/dz = J (gamma dphi/dy) - rho (n <b n'> + <n z'> J b + <n b> n')        the last three terms: the gradient of b J z'
    dphi/dx = silu'(x) dphi/dh + silu''(x) x' dE/dh

All arrays are C-contiguous, of one precision. Constants are float32: a Python number would turn float32 into float64. Inner
loops write one array each, begin at 0 and see whole arrays, no slices: so the compiler can prove that nothing overlaps and
nothing is counted from the end, and vectorises them.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from numba import njit

from xclimb.models.sigmoid import sigmoid

_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_EPS = np.float32(1e-5)  # of torch's LayerNorm

# sums may be taken in any order (in a fixed one for a given machine), NaN stays NaN
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


@_compiled
@no_type_check
def _silu_slope(x, s):
    """``silu'(x)``, from ``s = s(x)``."""
    return s + x * s * (_ONE - s)


@_compiled
@no_type_check
def _silu_bend(x, s):
    """``silu''(x)``."""
    return s * (_ONE - s) * (_TWO + x * (_ONE - _TWO * s))


# -- the hidden layer ---------------------------------------------------------------------------------


@_compiled
@no_type_check
def _sum(inner, own, other, i, p, q, x, to):
    """x of row i, into row ``to`` of an array; ``p`` and ``q`` are numbers here."""
    for f in range(x.shape[1]):
        x[to, f] = inner[i, f] + own[p, f] + other[q, f]


@_compiled
@no_type_check
def _scatter(gradient, of, g_inner, g_own, g_other, i, p, q, add):
    """Row ``of`` of a gradient with respect to x goes to all three terms of row i."""
    for f in range(gradient.shape[1]):
        g_inner[i, f] = gradient[of, f] + (g_inner[i, f] if add else _ZERO)
    for f in range(gradient.shape[1]):
        g_own[p, f] += gradient[of, f]
    for f in range(gradient.shape[1]):
        g_other[q, f] += gradient[of, f]


@_compiled
@no_type_check
def hidden(inner, own, other, p, q, curved, h):
    """``h``, ``[n, 2 F]``; not ``curved``: there is no hidden layer, and h is x."""
    for i in range(h.shape[0]):
        _sum(inner, own, other, i, p[i], q[i], h, i)
        if curved:
            for f in range(h.shape[1]):
                h[i, f] *= sigmoid(h[i, f])


@_compiled
@no_type_check
def hidden_tangent(inner, own, other, inner_dot, own_dot, other_dot, p, q, curved, h):
    """``h'`` above ``h``, ``[2 n, 2 F]``."""
    n, both = inner.shape
    s = np.empty(both, dtype=h.dtype)
    for i in range(n):
        _sum(inner, own, other, i, p[i], q[i], h, n + i)
        _sum(inner_dot, own_dot, other_dot, i, p[i], q[i], h, i)
        if curved:
            for f in range(both):
                s[f] = sigmoid(h[n + i, f])
            for f in range(both):
                h[i, f] *= _silu_slope(h[n + i, f], s[f])
            for f in range(both):
                h[n + i, f] *= s[f]


@_compiled
@no_type_check
def hidden_reverse(inner, own, other, p, q, curved, g_h, add, g_inner, g_own, g_other):
    """Add ``dE/dx`` of each row to the gradients of its terms (not ``add``: write that of inner); ``g_h`` is overwritten."""
    n, both = g_h.shape
    x = np.empty((1, both), dtype=g_h.dtype)
    for i in range(n):
        if curved:
            _sum(inner, own, other, i, p[i], q[i], x, 0)
            for f in range(both):
                g_h[i, f] *= _silu_slope(x[0, f], sigmoid(x[0, f]))
        _scatter(g_h, i, g_inner, g_own, g_other, i, p[i], q[i], add)


@_compiled
@no_type_check
def hidden_second(inner, own, other, inner_dot, own_dot, other_dot, p, q, curved, g_h, add, g_inner, g_own, g_other):
    """The same with ``dphi/dx``; ``g_h``: ``dE/dh`` above ``dphi/dh``, is overwritten."""
    n, both = inner.shape
    x, x_dot, s = np.empty((1, both), dtype=g_h.dtype), np.empty((1, both), dtype=g_h.dtype), np.empty(both, dtype=g_h.dtype)
    for i in range(n):
        if curved:
            _sum(inner, own, other, i, p[i], q[i], x, 0)
            _sum(inner_dot, own_dot, other_dot, i, p[i], q[i], x_dot, 0)
            for f in range(both):
                s[f] = sigmoid(x[0, f])
            for f in range(both):
                bent = _silu_bend(x[0, f], s[f]) * x_dot[0, f] * g_h[i, f]
                g_h[n + i, f] = _silu_slope(x[0, f], s[f]) * g_h[n + i, f] + bent
        _scatter(g_h, n + i, g_inner, g_own, g_other, i, p[i], q[i], add)


# -- norm, gate and weighted sum ------------------------------------------------------------------------
# z and what has its shape: [n, 2, F], core (a = 0) and gate (a = 1); ends [3, 2, F]: c, gamma, beta. Local arrays are one row.


@_compiled
@no_type_check
def _row(z):
    return np.empty((2, z.shape[2]), z.dtype)


@_compiled
@no_type_check
def _normalise(z, i, a, ends, normed, n):
    """``n`` of core or gate; gives rho, 1 without a norm."""
    size = np.float32(n.shape[1])
    mean, square = _ZERO, _ZERO
    for f in range(n.shape[1]):
        n[a, f] = z[i, a, f] + ends[0, a, f]
    if not normed:
        return _ONE
    for f in range(n.shape[1]):
        mean += n[a, f]
    mean /= size
    for f in range(n.shape[1]):
        square += (n[a, f] - mean) * (n[a, f] - mean)
    rho = _ONE / np.sqrt(square / size + _EPS)
    for f in range(n.shape[1]):
        n[a, f] = (n[a, f] - mean) * rho
    return rho


@_compiled
@no_type_check
def _gate_inputs(n, ends, y, s):
    """``y`` and its sigmoid."""
    for a in range(2):
        for f in range(y.shape[1]):
            y[a, f] = n[a, f] * ends[1, a, f] + ends[2, a, f]
        for f in range(y.shape[1]):
            s[a, f] = sigmoid(y[a, f])


@_compiled
@no_type_check
def _through_norm(b, n, a, rho, normed):
    """``J b`` in place of b; gives ``<n b>``."""
    size = np.float32(b.shape[1])
    mean, along = _ZERO, _ZERO
    if not normed:
        return along
    for f in range(b.shape[1]):
        mean += b[a, f]
        along += n[a, f] * b[a, f]
    mean, along = mean / size, along / size
    for f in range(b.shape[1]):
        b[a, f] = rho * (b[a, f] - mean - n[a, f] * along)
    return along


@_compiled
@no_type_check
def _scaled(ends, g_y, b):
    """``b = gamma dE/dy``."""
    for a in range(2):
        for f in range(b.shape[1]):
            b[a, f] = ends[1, a, f] * g_y[a, f]


@_compiled
@no_type_check
def _slopes(y, s, up, g_y):
    """``dE/dy`` from G."""
    for f in range(up.shape[0]):
        g_y[0, f] = up[f] * s[1, f] * _silu_slope(y[0, f], s[0, f])
    for f in range(up.shape[0]):
        g_y[1, f] = up[f] * y[0, f] * s[0, f] * s[1, f] * (_ONE - s[1, f])


@_compiled
@no_type_check
def _bends(y, s, y_dot, up, up_dot, gg_y):
    """``dphi/dy`` from G, G' and y'."""
    for f in range(up.shape[0]):
        slope = _silu_slope(y[0, f], s[0, f])
        bent = _silu_bend(y[0, f], s[0, f]) * y_dot[0, f] + slope * (_ONE - s[1, f]) * y_dot[1, f]
        gg_y[0, f] = s[1, f] * (up_dot[f] * slope + up[f] * bent)
    for f in range(up.shape[0]):
        silu, g_slope = y[0, f] * s[0, f], s[1, f] * (_ONE - s[1, f])
        bent = _silu_slope(y[0, f], s[0, f]) * y_dot[0, f] + silu * (_ONE - _TWO * s[1, f]) * y_dot[1, f]
        gg_y[1, f] = g_slope * (up_dot[f] * silu + up[f] * bent)


@_compiled
@no_type_check
def message(z, ends, normed, weights, v, t, total):
    """Add the weighted messages of the rows to their totals."""
    n, y, s = _row(z), _row(z), _row(z)
    m = np.empty(z.shape[2], z.dtype)
    for i in range(z.shape[0]):
        w, to = v[i], t[i]
        _normalise(z, i, 0, ends, normed, n)
        _normalise(z, i, 1, ends, normed, n)
        _gate_inputs(n, ends, y, s)
        for f in range(m.shape[0]):
            m[f] = y[0, f] * s[0, f] * s[1, f]
        for f in range(m.shape[0]):
            total[to, f] += weights[w, f] * m[f]


@_compiled
@no_type_check
def message_reverse(z, ends, normed, weights, v, t, g_total, g_weights, trained, g_ends, g_z):
    """``dE/dz``; adds to the gradients of the weights and, where ``trained``, of the ends."""
    n, y, s, g_y, b = _row(z), _row(z), _row(z), _row(z), _row(z)
    m, up = np.empty(z.shape[2], z.dtype), np.empty(z.shape[2], z.dtype)
    for i in range(z.shape[0]):
        w, to = v[i], t[i]
        core_rho, gate_rho = _normalise(z, i, 0, ends, normed, n), _normalise(z, i, 1, ends, normed, n)
        _gate_inputs(n, ends, y, s)
        for f in range(m.shape[0]):
            up[f] = g_total[to, f] * weights[w, f]
        for f in range(m.shape[0]):
            m[f] = y[0, f] * s[0, f] * s[1, f]
        for f in range(m.shape[0]):
            g_weights[w, f] += g_total[to, f] * m[f]
        _slopes(y, s, up, g_y)
        _scaled(ends, g_y, b)
        _through_norm(b, n, 0, core_rho, normed)
        _through_norm(b, n, 1, gate_rho, normed)
        for a in range(2):
            for f in range(m.shape[0]):
                g_z[i, a, f] = b[a, f]
        if trained:
            for a in range(2):
                for f in range(m.shape[0]):
                    g_ends[0, a, f] += b[a, f]
                for f in range(m.shape[0]):
                    g_ends[1, a, f] += g_y[a, f] * n[a, f]
                for f in range(m.shape[0]):
                    g_ends[2, a, f] += g_y[a, f]


@_compiled
@no_type_check
def _norm_bend(n, n_dot, b, g_z, a, rho, along, along_dot, gg_z):
    """Take ``rho (n <b n'> + <n z'> J b + <n b> n')`` off."""
    both = _ZERO
    for f in range(n.shape[1]):
        both += b[a, f] * n_dot[a, f]
    both /= np.float32(n.shape[1])
    for f in range(n.shape[1]):
        gg_z[a, f] -= rho * (n[a, f] * both + along_dot * g_z[a, f] + along * n_dot[a, f])


@_compiled
@no_type_check
def message_second(z, z_dot, ends, normed, weights, weights_dot, v, t, g_total, total_dot, g_weights, trained, g_ends, g_z):
    """``dE/dz`` above ``dphi/dz``, ``[2 n, 2, F]``; adds to ``total'``, to the gradients of weights and ends."""
    rows, width = z.shape[0], z.shape[2]
    n, y, s, n_dot, y_dot = _row(z), _row(z), _row(z), _row(z), _row(z)
    g_y, gg_y, b, first, second = _row(z), _row(z), _row(z), _row(z), _row(z)
    m, m_dot, up, up_dot = (
        np.empty(width, z.dtype),
        np.empty(width, z.dtype),
        np.empty(width, z.dtype),
        np.empty(width, z.dtype),
    )
    for i in range(rows):
        w, to = v[i], t[i]
        core_rho, gate_rho = _normalise(z, i, 0, ends, normed, n), _normalise(z, i, 1, ends, normed, n)
        _gate_inputs(n, ends, y, s)
        for a in range(2):
            for f in range(width):
                n_dot[a, f] = z_dot[i, a, f]
        core_dot = _through_norm(n_dot, n, 0, core_rho, normed)  # <n z'>, and n' = J z'
        gate_dot = _through_norm(n_dot, n, 1, gate_rho, normed)
        _scaled(ends, n_dot, y_dot)
        for f in range(width):
            up[f] = g_total[to, f] * weights[w, f]
        for f in range(width):
            up_dot[f] = g_total[to, f] * weights_dot[w, f]
        for f in range(width):
            m[f] = y[0, f] * s[0, f] * s[1, f]
        for f in range(width):
            m_dot[f] = _silu_slope(y[0, f], s[0, f]) * s[1, f] * y_dot[0, f] + m[f] * (_ONE - s[1, f]) * y_dot[1, f]
        for f in range(width):
            total_dot[to, f] += weights_dot[w, f] * m[f] + weights[w, f] * m_dot[f]
        for f in range(width):
            g_weights[w, f] += g_total[to, f] * m_dot[f]
        _slopes(y, s, up, g_y)
        _bends(y, s, y_dot, up, up_dot, gg_y)
        _scaled(ends, g_y, b)
        _scaled(ends, g_y, first)
        _scaled(ends, gg_y, second)
        core_along = _through_norm(first, n, 0, core_rho, normed)  # <n b>, and dE/dz = J b
        gate_along = _through_norm(first, n, 1, gate_rho, normed)
        _through_norm(second, n, 0, core_rho, normed)
        _through_norm(second, n, 1, gate_rho, normed)
        if normed:
            _norm_bend(n, n_dot, b, first, 0, core_rho, core_along, core_dot, second)
            _norm_bend(n, n_dot, b, first, 1, gate_rho, gate_along, gate_dot, second)
        for a in range(2):
            for f in range(width):
                g_z[i, a, f] = first[a, f]
            for f in range(width):
                g_z[rows + i, a, f] = second[a, f]
        if trained:
            for a in range(2):
                for f in range(width):
                    g_ends[0, a, f] += second[a, f]
                for f in range(width):
                    g_ends[1, a, f] += g_y[a, f] * n_dot[a, f] + gg_y[a, f] * n[a, f]
                for f in range(width):
                    g_ends[2, a, f] += gg_y[a, f]
