"""The kernels that matter most, three ways: numba (as xclimb has them), torch, and C++ where g++ is there.

Usage: python benchmarks/_products.py [--rounds 9]

A tile of 96 rows times 64 x 64 weights in GFLOP/s, and SiLU of the tile in nanoseconds a number; medians of alternating runs on
one thread. It answers whether an extension in C++ would be worth its compiler: numba is kept unless it takes 1.3 times as long.
"""

import argparse
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numba import njit
from numba.extending import intrinsic

from xclimb.backends.chgnet_cpu.products import multiply
from xclimb.backends.chgnet_cpu.vectors import emit, sigmoid

ROWS, WIDTH = 96, 64
SOURCE = r"""
#include <cmath>
typedef float vec __attribute__((vector_size(64), aligned(4)));
extern "C" void product(const float *a, const float *b, float *c, int calls) {  // six rows of results in registers
  for (int call = 0; call < calls; call++)
    for (int row = 0; row < 96; row += 6) {
      vec sum[6][4] = {};
      for (int k = 0; k < 64; k++) {
        const vec *w = (const vec *)(b + 64 * k);
        for (int r = 0; r < 6; r++)
          for (int v = 0; v < 4; v++) sum[r][v] += a[(row + r) * 64 + k] * w[v];
      }
      for (int r = 0; r < 6; r++)
        for (int v = 0; v < 4; v++) *(vec *)(c + (row + r) * 64 + 16 * v) = sum[r][v];
    }
}
extern "C" void silu(float *x, int calls) {
  for (int call = 0; call < calls; call++)
    for (int i = 0; i < 96 * 128; i++) x[i] = x[i] / (1.0f + expf(-x[i]));
}
"""


@intrinsic
def _silu_row(typingctx, x, i):
    def body(x, i):
        for half in (0, WIDTH):
            value = x.load(i, half)
            x.store(value * sigmoid(value), i, half)

    return emit(body, x, i)


@njit
def silu(x, calls):
    """SiLU of each element of ``[n, 2 WIDTH]``, in place, with xclimb's arithmetic, so many times."""
    for _ in range(calls):
        for i in range(x.shape[0]):
            _silu_row(x, i)


@njit
def product(a, b, begin, c, calls):
    """xclimb's product, so many times in compiled code, as the kernels call it."""
    for _ in range(calls):
        multiply(a, b, begin, c)


def in_cpp() -> ctypes.CDLL | None:
    """The source above, compiled for this processor; None without a compiler."""
    if not shutil.which("g++"):
        return None
    folder = Path(tempfile.mkdtemp())
    (folder / "kernels.cpp").write_text(SOURCE)
    library = folder / "kernels.so"
    flags = ["-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, str(folder / "kernels.cpp"), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def address(array: np.ndarray) -> ctypes.c_void_p:
    """Where the numbers of an array are."""
    return ctypes.c_void_p(array.ctypes.data)


def main() -> None:
    """Both kernels, each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((ROWS, WIDTH), dtype=np.float32), rng.standard_normal((WIDTH, WIDTH), dtype=np.float32)
    c, zero, x = np.zeros_like(a), np.zeros((1, WIDTH), np.float32), rng.standard_normal((ROWS, 2 * WIDTH), dtype=np.float32)
    y, library = x.copy(), in_cpp()
    many = 100
    products = {
        "numba": lambda: product(a, b, zero, c, many),
        "torch": lambda: [torch.mm(ta, tb, out=tc) for _ in range(many)],
    }
    ta, tb, tc, tx = (torch.from_numpy(array) for array in (a, b, c, x))
    curve = {
        "numba": lambda: silu(y, many),
        "torch": lambda: [torch.nn.functional.silu(tx) for _ in range(many)],
    }
    if library is not None:
        products["C++"] = lambda: library.product(address(a), address(b), address(c), many)
        curve["C++"] = lambda: library.silu(address(y), many)
    work = 2 * ROWS * WIDTH * WIDTH * many / 1e9
    for name, ways, figure in (
        ("product 96 x 64 x 64", products, lambda t: f"{work / t:6.1f} GFLOP/s"),
        ("SiLU of 96 x 128", curve, lambda t: f"{1e9 * t / many / x.size:6.3f} ns a number"),
    ):
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds + 1):  # the first to warm up
            for way, call in ways.items():
                np.copyto(y, x)
                start = time.perf_counter()
                call()
                times[way].append(time.perf_counter() - start)
        for way, taken in times.items():
            print(f"{name:22s} {way:6s} {figure(statistics.median(taken[1:]))}")


if __name__ == "__main__":
    sys.exit(main())
