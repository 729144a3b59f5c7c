"""The sigmoid that :mod:`xclimb.models.gates` is vectorised with."""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)

# exp(-x) = 2^-k exp(-r) with x = k ln 2 + r, |r| < ln 2 / 2; ln 2 in two parts, so that k ln 2 is exact
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C2, _C3, _C4, _C5, _C6 = (
    np.float32(c) for c in (5.0000001201e-1, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3)
)
# beyond this x, silu and sigmoid are at their limits in float32; the pre-trained networks have hidden values down to
# -800, where exp would make subnormal numbers, on which a CPU is many times slower
_LARGEST = np.float32(40)

# no reassociation: it would join the two parts of ln 2
_as_written = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})


@intrinsic
@no_type_check
def _two_to_minus(typingctx, k):
    """``2^-k`` for an int32 ``0 <= k < 127``, by its exponent bits."""

    def build(context, builder, signature, arguments):
        int32 = ir.IntType(32)
        exponent = builder.sub(int32(127), arguments[0])
        return builder.bitcast(builder.shl(exponent, int32(23)), ir.FloatType())

    return types.float32(types.int32), build


@_as_written
@no_type_check
def _sigmoid32(x):
    """``1 / (1 + exp(-x))`` to a few units in the last place, with nothing in it that hinders vectorising."""
    size = abs(x)
    size = size if size < _LARGEST else _LARGEST
    k = np.int32(size * _LOG2_E + _HALF)
    r = np.float32(k) * _LN2_HIGH - size + np.float32(k) * _LN2_LOW  # -ln 2 / 2 .. ln 2 / 2, minus the remainder
    decay = _ONE + r + r * r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6))))
    decay = decay * _two_to_minus(k)  # exp(-|x|), never above 1
    return (_ONE if x >= _ZERO else decay) / (_ONE + decay)


@no_type_check
def sigmoid(x):
    """``1 / (1 + exp(-x))`` in the precision of x; for compiled functions only."""
    raise NotImplementedError


@overload(sigmoid)
@no_type_check
def _sigmoid_of_type(x):
    if x == types.float32:
        return lambda x: _sigmoid32(x)
    return lambda x: 1.0 / (1.0 + np.exp(-x))
