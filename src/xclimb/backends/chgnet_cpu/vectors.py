"""Arithmetic on rows of 64 numbers that compiles to vector instructions, whatever the processor's are.

A compiler that has to prove by itself what may be vectorised leaves half of it; here a :class:`Row` is a row of an array
held in vector registers, as many as it takes on the processor that compiles, and its operators emit the instructions.
Code on rows reads like the equations; loops over rows are ordinary numba.
"""

from collections.abc import Callable
from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array

WIDTH = 64  # of every CHGNet that was published, and of the kernels
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_LOG2_E = 1.4426950408889634
_FLAGS = ("contract", "nsz")  # a b + c in one instruction; no other liberties


def _lanes() -> int:
    """float32 numbers in a vector register of this processor."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


LANES = _lanes()
VECTOR = ir.VectorType(FLOAT, LANES)


class Row:
    """Numbers in registers: a row of WIDTH, or one number that joins rows by standing for all of theirs.

    Args:
        builder: of the code that is being made.
        parts: vectors of LANES float32 numbers, or a single float32.
    """

    def __init__(self, builder: ir.IRBuilder, parts: list):
        self.builder, self.parts = builder, parts

    def _like(self, x, n: int) -> list:
        """The other operand as n parts of the kind of this one's."""
        kind = self.parts[0].type
        if not isinstance(x, Row):
            return [ir.Constant(kind, [x] * LANES if kind == VECTOR else x)] * n
        return x.parts if len(x.parts) == n else [splat(self.builder, x.parts[0])] * n

    def _with(self, emit: Callable, x, swap: bool = False) -> "Row":
        if isinstance(x, Row) and len(x.parts) > len(self.parts):
            return x._with(emit, self, not swap)
        pairs = zip(self.parts, self._like(x, len(self.parts)), strict=True)
        return Row(self.builder, [emit(b, a) if swap else emit(a, b) for a, b in pairs])

    def _arithmetic(self, name: str, x, swap: bool = False) -> "Row":
        emit = getattr(self.builder, name)
        return self._with(lambda a, b: emit(a, b, flags=_FLAGS), x, swap)

    def __add__(self, x):
        return self._arithmetic("fadd", x)

    def __mul__(self, x):
        return self._arithmetic("fmul", x)

    def __sub__(self, x):
        return self._arithmetic("fsub", x)

    def __rsub__(self, x):
        return self._arithmetic("fsub", x, swap=True)

    def __truediv__(self, x):
        return self._arithmetic("fdiv", x)

    def __rtruediv__(self, x):
        return self._arithmetic("fdiv", x, swap=True)

    __radd__, __rmul__ = __add__, __mul__

    def _call(self, name: str) -> "Row":
        kind = self.parts[0].type
        suffix = f"v{LANES}f32" if kind == VECTOR else "f32"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind]), f"llvm.{name}.{suffix}")
        return Row(self.builder, [self.builder.call(function, [part]) for part in self.parts])

    def __abs__(self):
        return self._call("fabs")

    def sqrt(self) -> "Row":
        """Square root of each number."""
        return self._call("sqrt")

    def times_plus(self, factor: float, term: "Row") -> "Row":
        """``factor`` times each number plus that of another row, rounded once."""
        kind = self.parts[0].type
        name = f"llvm.fma.v{LANES}f32" if kind == VECTOR else "llvm.fma.f32"
        function = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(kind, [kind] * 3), name)
        pairs = zip(self.parts, self._like(factor, len(self.parts)), term.parts, strict=True)
        return Row(self.builder, [self.builder.call(function, three) for three in pairs])

    def at_most(self, limit: float) -> "Row":
        """The smaller of each number and a limit; NaN stays NaN."""
        select, compare = self.builder.select, self.builder.fcmp_ordered
        return self._with(lambda a, b: select(compare(">", a, b), b, a), limit)

    def one_where_positive(self, otherwise: "Row") -> "Row":
        """1 where this is positive or zero, elsewhere the number of another row."""
        builder = self.builder
        pairs = zip(self.parts, otherwise.parts, strict=True)
        zero, one = ir.Constant(VECTOR, [0.0] * LANES), ir.Constant(VECTOR, [1.0] * LANES)
        return Row(builder, [builder.select(builder.fcmp_ordered(">=", a, zero), one, b) for a, b in pairs])

    def only_if(self, condition, otherwise: float) -> "Row":
        """This where a Boolean of the program is true, else a constant."""
        return self._with(lambda a, b: self.builder.select(condition, a, b), otherwise)

    def sum(self) -> "Row":
        """Sum of all numbers, in any order: one number."""
        builder, total = self.builder, self.parts[0]
        for part in self.parts[1:]:
            total = builder.fadd(total, part, flags=("reassoc",))
        kind = ir.FunctionType(FLOAT, [FLOAT, VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return Row(builder, [builder.call(function, [FLOAT(0.0), total], fastmath=("reassoc",))])


def splat(builder: ir.IRBuilder, number):
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, INT32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))


def decay(x: Row) -> Row:
    """``exp(-|x|)`` to a few units in the last place, for |x| up to 40; ``exp(-40)`` beyond, NaN for NaN.

    ``exp(-|x|) = 2^k 2^r`` with ``k + r = -|x| / ln 2``, ``|r| <= 1/2``. Adding 3 2^22 rounds a number to an integer, which
    stands in the last bits of the sum; ``2^r`` by the polynomial that is least wrong (7.5e-8 at worst). Beyond 40, silu and
    sigmoid are at their limits in float32; the pre-trained networks have hidden values down to -800, where exp would make
    subnormal numbers, on which a CPU is many times slower.
    """
    builder, int32 = x.builder, ir.VectorType(INT32, LANES)
    size, rounder = abs(x).at_most(40.0), float(3 << 22)
    sums = size * -_LOG2_E + rounder
    r = size.times_plus(-_LOG2_E, rounder - sums)
    series = r * 1.3276471993e-3 + 9.6755413345e-3
    for coefficient in (5.5507132735e-2, 2.4022119724e-1, 6.9314696706e-1, 1.0000000717):
        series = series * r + coefficient
    bias, bits = ir.Constant(int32, [127] * LANES), ir.Constant(int32, [23] * LANES)
    k = [builder.bitcast(part, int32) for part in sums.parts]  # in their last bits; the shift drops all others
    power = [builder.bitcast(builder.shl(builder.add(part, bias), bits), VECTOR) for part in k]  # 2^k by its exponent
    return series * Row(builder, power)


def sigmoid(x: Row) -> Row:
    """``1 / (1 + exp(-x))``."""
    small = decay(x)
    return x.one_where_positive(small) / (1.0 + small)


class Array:
    """A float32 array ``[n, m]`` with contiguous rows, in the code that is being made."""

    def __init__(self, context, builder: ir.IRBuilder, kind: types.Array, value):
        array = make_array(kind)(context, builder, value)
        self.builder = builder
        self.rows, self.columns = builder.extract_value(array.shape, 0), builder.extract_value(array.shape, 1)
        self._start, self._step = builder.ptrtoint(array.data, INT64), builder.extract_value(array.strides, 0)

    def pointer(self, row, column, kind):
        """Pointer to the element at a row and column."""
        builder = self.builder
        start = builder.add(self._start, builder.mul(row, self._step))
        return builder.inttoptr(builder.add(start, builder.mul(column, INT64(4))), kind.as_pointer())

    def load(self, row, column: int = 0) -> Row:
        """WIDTH numbers from a row."""
        starts = (self.pointer(row, INT64(column + at), VECTOR) for at in range(0, WIDTH, LANES))
        return Row(self.builder, [self.builder.load(start, align=4) for start in starts])

    def store(self, values: Row, row, column: int = 0) -> None:
        """Write WIDTH numbers into a row."""
        for at, part in zip(range(0, WIDTH, LANES), values.parts, strict=True):
            self.builder.store(part, self.pointer(row, INT64(column + at), VECTOR), align=4)

    def add(self, values: Row, row, column: int = 0) -> None:
        """Add WIDTH numbers to a row."""
        self.store(self.load(row, column) + values, row, column)


@no_type_check
def emit(body: Callable, *kinds):
    """Signature and code generator of an intrinsic, of a body that takes arrays as :class:`Array`, integers as int64."""
    kinds = tuple(types.unliteral(kind) for kind in kinds)

    def build(context, builder, signature, arguments):
        operands = []
        for kind, value in zip(signature.args, arguments, strict=True):
            if isinstance(kind, types.Array):
                operands.append(Array(context, builder, kind, value))
            elif isinstance(kind, types.Integer):
                operands.append(context.cast(builder, value, kind, types.int64))
            else:
                operands.append(context.cast(builder, value, kind, types.boolean))
        body(*operands)
        return context.get_dummy_value()

    return types.void(*kinds), build
