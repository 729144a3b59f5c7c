"""Radial and angular expansions times the first weights, forward and backward to the bond vectors, compiled.

The functions are those of :mod:`xclimb.models.chgnet.basis`, computed in float64 from the bond vectors on and a tile at a
time, so that neither basis values nor phases are ever in memory. The derivatives are written by hand: with ``r`` the length,
``x = r / r_c``, ``e(r) = u(x) sqrt(2 / r_c) / r`` the envelope and ``n`` the number of a basis function,

    d/dr [e sin(f_n x)] = e' sin(f_n x) + e (f_n / r_c) cos(f_n x)
    d/dc [sin(f_n a)] = f_n cos(f_n a) a',   d/dc [cos(f_n a)] = -f_n sin(f_n a) a'       a = arccos(k c), k = 1 - 1e-6
"""

import math
from typing import NamedTuple, no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from jaxtyping import Float32, Float64
from numba import njit

from xclimb.backends.chgnet_cpu.messages import TILE, compiled
from xclimb.backends.chgnet_cpu.products import multiply
from xclimb.backends.chgnet_cpu.vectors import WIDTH

PADDED = 32  # basis functions are filled up with zeros to a multiple
_NEARLY_ONE = 1 - 1e-6  # see Fourier
_ROUND = 6755399441055744.0  # 1.5 * 2^52: added and taken off again, it rounds to a whole number
_PI, _PI_LEFT = 3.1415926553308964, -1.7411031391008332e-09  # their sum is pi; multiples of the first are exact

_reassociated = njit(fastmath={"reassoc", "contract"}, error_model="numpy")  # sums in any order: in vector registers


class Radial(NamedTuple):
    """A radial expansion and the weights that are applied to it."""

    frequencies: Float64[np.ndarray, "padded"]
    cutoff: float  # Å
    power: int
    weights_t: Float32[np.ndarray, "heads padded width"]
    weights: Float32[np.ndarray, "heads width width"]  # of the columns, those beyond the basis are zero


class Angular(NamedTuple):
    """The expansion of angles and the weights that are applied to it, the constant's in ``start``."""

    frequencies: Float64[np.ndarray, "padded"]  # half as many as there are functions
    weights_t: Float32[np.ndarray, "padded width"]  # of sines, then of cosines
    weights: Float32[np.ndarray, "width width"]
    start: Float32[np.ndarray, "1 width"]


def padded(size: int) -> int:
    """Size of the arrays for so many basis functions."""
    return -(-size // PADDED) * PADDED


@njit(error_model="numpy")
@no_type_check
def _reduced(x):
    """r and s with ``sin x = s sin r``, ``cos x = s cos r``, ``|r| <= pi / 2``, for moderate x."""
    k = (x * (1 / math.pi) + _ROUND) - _ROUND
    half = 0.5 * k
    odd = abs(half - ((half + _ROUND) - _ROUND))  # 0 or 1/2
    return (x - k * _PI) - k * _PI_LEFT, 1.0 - 4.0 * odd


@njit(error_model="numpy")
@no_type_check
def _sine(r):
    """Taylor series for ``|r| <= pi / 2``, to 4e-14."""
    q = r * r
    series = -1 / 39916800 + q * (1 / 6227020800 + q * (-1 / 1307674368000 + q * (1 / 355687428096000)))
    return r * (1.0 + q * (-1 / 6 + q * (1 / 120 + q * (-1 / 5040 + q * (1 / 362880 + q * series)))))


@njit(error_model="numpy")
@no_type_check
def _cosine(r):
    """Taylor series for ``|r| <= pi / 2``, to 4e-15."""
    q = r * r
    series = 1 / 479001600 + q * (-1 / 87178291200 + q * (1 / 20922789888000 - q * (1 / 6402373705728000)))
    return 1.0 + q * (-1 / 2 + q * (1 / 24 + q * (-1 / 720 + q * (1 / 40320 + q * (-1 / 3628800 + q * series)))))


@njit(error_model="numpy")
@no_type_check
def _waves(x, frequencies, sines, cosines):
    """``sin(f x)`` and ``cos(f x)`` for all f; simple loops, which the compiler vectorises."""
    for m in range(len(frequencies)):
        r, sign = _reduced(frequencies[m] * x)
        sines[m], cosines[m] = sign * _sine(r), sign * _cosine(r)


@njit(error_model="numpy")
@no_type_check
def _store_scaled(factor, values, row):
    for m in range(len(values)):
        row[m] = np.float32(factor * values[m])


@njit(error_model="numpy")
@no_type_check
def _add(a, b, c):
    """``c = a + b``."""
    for i in range(len(a)):
        for k in range(WIDTH):
            c[i, k] = a[i, k] + b[i, k]


@_reassociated
@no_type_check
def _slope(a, values, b, frequencies, others, g):
    """Sum of ``g (a values + b frequencies others)``."""
    total = 0.0
    for m in range(len(values)):
        total += g[m] * (a * values[m] + b * frequencies[m] * others[m])
    return total


@njit(error_model="numpy")
@no_type_check
def _length(vectors, b):
    return math.sqrt(vectors[b, 0] ** 2 + vectors[b, 1] ** 2 + vectors[b, 2] ** 2)


@njit(error_model="numpy")
@no_type_check
def _envelope(r, radial):
    """e(r) and e'(r)."""
    x, p = r / radial.cutoff, radial.power
    if x >= 1:
        return 0.0, 0.0
    high = x ** (p - 1)
    u = 1 - high * x * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))
    slope = -high * p * (p + 1) * (p + 2) / 2 * (1 - x) ** 2
    scale = math.sqrt(2 / radial.cutoff) / r
    return u * scale, (slope / radial.cutoff - u / r) * scale


@compiled
@no_type_check
def radial_forward(begin, end, vectors, radial, out, work):
    """Rows ``begin <= b < end`` of ``out [h, B, F]``, from bond vectors ``[B, 3]`` in Å; work is ``[2 or more, TILE, 2 F]``."""
    zero, frequencies = np.zeros((1, WIDTH), dtype=np.float32), radial.frequencies
    sines, cosines = np.empty_like(frequencies), np.empty_like(frequencies)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        basis = work[0, :n, : len(frequencies)]
        for i in range(n):
            r = _length(vectors, start + i)
            e, x = _envelope(r, radial)[0], r / radial.cutoff
            _waves(x, frequencies, sines, cosines)
            _store_scaled(e, sines, basis[i])
        for head in range(len(out)):
            multiply(basis, radial.weights_t[head], zero, out[head, start : start + n])


@compiled
@no_type_check
def radial_backward(begin, end, vectors, radial, g_out, g_vectors, work):
    """Add the gradient with respect to the vectors to ``g_vectors [B, 3]``; ``g_out [h, B, F]``."""
    zero, frequencies = np.zeros((1, WIDTH), dtype=np.float32), radial.frequencies
    sines, cosines = np.empty_like(frequencies), np.empty_like(frequencies)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        g_basis = work[0, :n, :WIDTH]
        multiply(g_out[0, start : start + n], radial.weights[0], zero, g_basis)
        for head in range(1, len(g_out)):
            multiply(g_out[head, start : start + n], radial.weights[head], g_basis, g_basis)
        for i in range(n):
            b = start + i
            r = _length(vectors, b)
            (e, e_slope), x = _envelope(r, radial), r / radial.cutoff
            _waves(x, frequencies, sines, cosines)
            g_r = _slope(e_slope, sines, e / radial.cutoff, frequencies, cosines, g_basis[i]) / r
            for k in range(3):
                g_vectors[b, k] += g_r * vectors[b, k]


@njit(error_model="numpy")
@no_type_check
def _edge(directions, e):
    """The bond of a directed edge, and the sign of its direction."""
    return (e, 1.0) if e < len(directions) else (e - len(directions), -1.0)


@njit(error_model="numpy")
@no_type_check
def _nearly_cosine(directions, one, other):
    """``k c`` of the angle between two directed edges, and the bonds and the sign that both have."""
    (a, sign_a), (b, sign_b) = _edge(directions, one), _edge(directions, other)
    c = directions[a, 0] * directions[b, 0] + directions[a, 1] * directions[b, 1] + directions[a, 2] * directions[b, 2]
    return _NEARLY_ONE * sign_a * sign_b * c, a, b, sign_a * sign_b


@compiled
@no_type_check
def angular_forward(begin, end, directions, first, second, angular, out, work):
    """Rows ``begin <= g < end`` of ``out [G, F]``; unit vectors of the short bonds ``[s, 3]`` and edges of angles ``[G]``."""
    frequencies = angular.frequencies
    sines, cosines = np.empty_like(frequencies), np.empty_like(frequencies)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        basis = work[0, :n, : 2 * len(frequencies)]
        for i in range(n):
            angle = math.acos(_nearly_cosine(directions, first[start + i], second[start + i])[0])
            _waves(angle, frequencies, sines, cosines)
            _store_scaled(1.0, sines, basis[i])
            _store_scaled(1.0, cosines, basis[i, len(frequencies) :])
        multiply(basis, angular.weights_t, angular.start, out[start : start + n])


@compiled
@no_type_check
def angular_backward(begin, end, directions, first, second, angular, g_out, g_directions, work):
    """Add the gradient with respect to the directions to ``g_directions [s, 3]``; ``g_out [1 or 2, G, F]``."""
    zero, frequencies = np.zeros((1, WIDTH), dtype=np.float32), angular.frequencies
    sines, cosines = np.empty_like(frequencies), np.empty_like(frequencies)
    for start in range(begin, end, TILE):
        n = min(TILE, end - start)
        g_basis = work[0, :n, :WIDTH]
        if len(g_out) == 2:
            both = work[1, :n, :WIDTH]
            _add(g_out[0, start : start + n], g_out[1, start : start + n], both)
            multiply(both, angular.weights, zero, g_basis)
        else:
            multiply(g_out[0, start : start + n], angular.weights, zero, g_basis)
        for i in range(n):
            c, a, b, sign_ab = _nearly_cosine(directions, first[start + i], second[start + i])
            angle = math.acos(c)
            _waves(angle, frequencies, sines, cosines)
            g_angle = _slope(0.0, sines, 1.0, frequencies, cosines, g_basis[i])
            g_angle -= _slope(0.0, cosines, 1.0, frequencies, sines, g_basis[i, len(frequencies) :])
            g_c = -g_angle / math.sqrt(1 - c * c) * _NEARLY_ONE * sign_ab
            for k in range(3):
                g_directions[a, k] += g_c * directions[b, k]
                g_directions[b, k] += g_c * directions[a, k]
