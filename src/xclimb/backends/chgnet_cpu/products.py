"""Products with small matrices that stay in the registers of a core.

A tile of a hundred rows times a 64 x 64 matrix of weights is too small for a BLAS: packing and calling cost as much as the
arithmetic. Here a block of ROWS x COLUMNS results is held in vector registers while the inner index runs, and the weights
come from the first-level cache.
"""

from typing import no_type_check  # the tests' run-time checker must not wrap what numba compiles

from llvmlite import ir
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic

from xclimb.backends.chgnet_cpu.vectors import FLOAT, INT64, LANES, VECTOR, emit, splat

ROWS = 6
VECTORS = 2 if LANES == 8 else 4  # 24 of 32 registers; of the 16 that a processor with 8 lanes has, 12
COLUMNS = LANES * VECTORS
OUTER_ROWS = 4  # of sums of outer products: WIDTH is a multiple


def _block_product(rows: int, across: bool = False):
    """An intrinsic: ``c = begin + a b`` for one block of ``rows`` rows and COLUMNS columns; ``across``: with a transposed."""

    @intrinsic
    @no_type_check
    def block(typingctx, a, b, begin, begin_row, c, row, column):
        def body(a, b, begin, begin_row, c, row, column):
            builder = c.builder
            places = [(r, v) for r in range(rows) for v in range(VECTORS)]

            def vector(array, first, r, v):
                return array.pointer(builder.add(first, INT64(r)), builder.add(column, INT64(v * LANES)), VECTOR)

            # one row of beginnings for all rows, or one for each
            single = builder.icmp_signed("<", begin_row, INT64(0))
            steps = [builder.select(single, INT64(0), builder.add(begin_row, INT64(r))) for r in range(rows)]
            initial = [builder.load(vector(begin, steps[r], 0, v), align=4) for r, v in places]

            before = builder.block
            inner, done = builder.append_basic_block("inner"), builder.append_basic_block("done")
            builder.branch(inner)
            builder.position_at_end(inner)
            k = builder.phi(INT64)
            k.add_incoming(INT64(0), before)
            sums = [builder.phi(VECTOR) for _ in places]
            for phi, value in zip(sums, initial, strict=True):
                phi.add_incoming(value, before)
            weights = [builder.load(vector(b, k, 0, v), align=4) for v in range(VECTORS)]
            kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
            multiply_add = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
            updated = []
            for r in range(rows):
                place = builder.add(row, INT64(r))
                factor = splat(builder, builder.load(a.pointer(*((k, place) if across else (place, k)), FLOAT), align=4))
                updated += [builder.call(multiply_add, [factor, weights[v], sums[r * VECTORS + v]]) for v in range(VECTORS)]
            for phi, value in zip(sums, updated, strict=True):
                phi.add_incoming(value, inner)
            following = builder.add(k, INT64(1))
            k.add_incoming(following, inner)
            builder.cbranch(builder.icmp_signed("<", following, a.rows if across else a.columns), inner, done)
            builder.position_at_end(done)
            for (r, v), value in zip(places, updated, strict=True):
                builder.store(value, vector(c, row, r, v), align=4)

        return emit(body, a, b, begin, begin_row, c, row, column)

    return block


_block, _row = _block_product(ROWS), _block_product(1)
_outer_block = _block_product(OUTER_ROWS, across=True)


@njit(nogil=True, error_model="numpy")
@no_type_check
def multiply(a, b, begin, c):
    """``c = begin + a b`` for float32 ``[n, k] [k, m]``; begin is ``[n, m]``, c itself say, or a row for all ``[1, m]``.

    m is a multiple of COLUMNS, k at least 1.
    """
    n = a.shape[0]
    whole, single = n - n % ROWS, begin.shape[0] == 1
    for column in range(0, b.shape[1], COLUMNS):
        for row in range(0, whole, ROWS):
            _block(a, b, begin, -1 if single else row, c, row, column)
        for row in range(whole, n):
            _row(a, b, begin, -1 if single else row, c, row, column)


@njit(nogil=True, error_model="numpy")
@no_type_check
def add_outer(a, b, c):
    """``c += a^T b``, the sum of the outer products of the rows of float32 ``[k, n] [k, m]``.

    n is a multiple of OUTER_ROWS, m of COLUMNS, k at least 1.
    """
    for column in range(0, b.shape[1], COLUMNS):
        for row in range(0, a.shape[1], OUTER_ROWS):
            _outer_block(a, b, c, row, c, row, column)
