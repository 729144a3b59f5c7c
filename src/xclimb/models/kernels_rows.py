"""What happens between the matrix products of a message, row by row, compiled by numba.

A row is one direction of a bond, or one side of an angle. All arrays are float32 and C-contiguous; a tile of rows stays
in the cache from one kernel to the next. Constants are float32 as well: a Python float would turn the arithmetic into
float64. Inner loops write one array each, so that the compiler can prove them free of overlap and vectorises them.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_EPS = np.float32(1e-5)  # of torch's LayerNorm

# exp(-x) = 2^-k exp(-r) with x = k ln 2 + r, |r| < ln 2 / 2; ln 2 in two parts, so that k ln 2 is exact
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C2, _C3, _C4, _C5, _C6 = (
    np.float32(c) for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3)
)
# beyond this x, silu and sigmoid are at their limits in float32; the pre-trained networks have hidden values down to
# -800, where exp would make subnormal numbers, on which a CPU is many times slower
_LARGEST = np.float32(40)

# sums may be taken in any order (in a fixed one for a given machine), NaN stays NaN
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
# no reassociation: it would join the two parts of ln 2
_compiled_as_written = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})


@intrinsic
@no_type_check
def _two_to_minus(typingctx, k):
    """``2^-k`` for an int32 ``0 <= k < 127``, by its exponent bits."""

    def build(context, builder, signature, arguments):
        int32 = ir.IntType(32)
        exponent = builder.sub(int32(127), arguments[0])
        return builder.bitcast(builder.shl(exponent, int32(23)), ir.FloatType())

    return types.float32(types.int32), build


@_compiled_as_written
@no_type_check
def sigmoid(x):
    """``1 / (1 + exp(-x))`` to a few units in the last place, with nothing in it that hinders vectorising."""
    size = abs(x)
    size = size if size < _LARGEST else _LARGEST
    k = np.int32(size * _LOG2_E + _HALF)
    r = np.float32(k) * _LN2_HIGH - size + np.float32(k) * _LN2_LOW  # -ln 2 / 2 .. ln 2 / 2, minus the remainder
    decay = _ONE + r + r * r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6))))
    decay = decay * _two_to_minus(k)  # exp(-|x|), never above 1
    return (_ONE if x >= _ZERO else decay) / (_ONE + decay)


# -- the hidden layer ---------------------------------------------------------------------------------


@_compiled
@no_type_check
def gather(start, inner, own, at_own, other, at_other, x):
    """``x_r = inner_r + own[at_own_r] + other[at_other_r]``, ``[n, 2 F]``, for n rows from ``start`` on."""
    for i in range(x.shape[0]):
        p, q = at_own[start + i], at_other[start + i]
        for f in range(x.shape[1]):
            x[i, f] = inner[i, f] + own[p, f] + other[q, f]


@_compiled
@no_type_check
def silu(x):
    """SiLU of each element, in place."""
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            x[i, f] = x[i, f] * sigmoid(x[i, f])


@_compiled
@no_type_check
def silu_and_slope(x, slope):
    """SiLU of each element, in place, and its slope ``silu'(x)``."""
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            slope[i, f] = sigmoid(x[i, f])
        for f in range(x.shape[1]):
            x[i, f] *= slope[i, f]
        for f in range(x.shape[1]):
            slope[i, f] += x[i, f] * (_ONE - slope[i, f])  # s + x s (1 - s)


@_compiled
@no_type_check
def scatter(start, gradient, own, at_own, other, at_other, inner, add):
    """Reverse of :func:`gather`: each gradient goes to all three terms; ``add``: inner has that of the other side already."""
    for i in range(gradient.shape[0]):
        p, q = at_own[start + i], at_other[start + i]
        for f in range(gradient.shape[1]):
            own[p, f] += gradient[i, f]
        for f in range(gradient.shape[1]):
            other[q, f] += gradient[i, f]
        for f in range(gradient.shape[1]):
            inner[i, f] = gradient[i, f] + (inner[i, f] if add else _ZERO)


@_compiled
@no_type_check
def multiply(x, by):
    """Product element by element, in place."""
    for i in range(x.shape[0]):
        for f in range(x.shape[1]):
            x[i, f] *= by[i, f]


# -- the gate: silu(norm(core)) * sigmoid(norm(gate)) ---------------------------------------------------


@_compiled
@no_type_check
def _standardise(z, i, part, ends, norm):
    """Row i of core or gate, bias added, to zero mean and unit variance, in place; what it was divided by, inverted."""
    width = z.shape[2]
    size = np.float32(width)
    mean, variance = _ZERO, _ZERO
    for f in range(width):
        z[i, part, f] += ends[part, 0, f]
        mean += z[i, part, f]
    if not norm:
        return _ONE
    mean /= size
    for f in range(width):
        z[i, part, f] -= mean
        variance += z[i, part, f] * z[i, part, f]
    scale = _ONE / np.sqrt(variance / size + _EPS)
    for f in range(width):
        z[i, part, f] *= scale
    return scale


@_compiled
@no_type_check
def _standardise_reverse(z, i, part, gradient, scale, norm):
    """Row i of z, standardised, becomes the gradient with respect to what :func:`_standardise` was given."""
    width = z.shape[2]
    size = np.float32(width)
    mean, along = _ZERO, _ZERO
    if norm:
        for f in range(width):
            mean += gradient[part, f]
            along += gradient[part, f] * z[i, part, f]
    mean, along = mean / size, along / size
    for f in range(width):
        z[i, part, f] = scale * (gradient[part, f] - mean - z[i, part, f] * along)


@_compiled
@no_type_check
def add_messages(start, z, ends, norm, weights, at_weight, total, at_total):
    """``total[at_total_r] += weights[at_weight_r] * silu(core_r) * sigmoid(gate_r)``; z ``[n, 2, F]`` is overwritten."""
    for i in range(z.shape[0]):
        w, t = at_weight[start + i], at_total[start + i]
        _standardise(z, i, 0, ends, norm)
        _standardise(z, i, 1, ends, norm)
        for f in range(z.shape[2]):
            core = z[i, 0, f] * ends[0, 1, f] + ends[0, 2, f]
            gate = z[i, 1, f] * ends[1, 1, f] + ends[1, 2, f]
            z[i, 0, f] = core * sigmoid(core) * sigmoid(gate)
        for f in range(z.shape[2]):
            total[t, f] += weights[w, f] * z[i, 0, f]


@_compiled
@no_type_check
def add_messages_reverse(start, z, ends, norm, weights, at_weight, g_total, at_total, g_weights):
    """Reverse of :func:`add_messages`: z becomes the gradient with respect to z; that of the weights is added up."""
    width = z.shape[2]
    gradient = np.empty((2, width), dtype=np.float32)
    message, up = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    for i in range(z.shape[0]):
        w, t = at_weight[start + i], at_total[start + i]
        core_scale = _standardise(z, i, 0, ends, norm)
        gate_scale = _standardise(z, i, 1, ends, norm)
        for f in range(width):
            up[f] = g_total[t, f] * weights[w, f]
        for f in range(width):
            core = z[i, 0, f] * ends[0, 1, f] + ends[0, 2, f]
            gate = z[i, 1, f] * ends[1, 1, f] + ends[1, 2, f]
            s, g = sigmoid(core), sigmoid(gate)
            message[f] = core * s * g
            gradient[0, f] = up[f] * g * s * (_ONE + core * (_ONE - s)) * ends[0, 1, f]
            gradient[1, f] = up[f] * core * s * g * (_ONE - g) * ends[1, 1, f]
        for f in range(width):
            g_weights[w, f] += g_total[t, f] * message[f]
        _standardise_reverse(z, i, 0, gradient, core_scale, norm)
        _standardise_reverse(z, i, 1, gradient, gate_scale, norm)
