"""Time and memory of one shift analysis over generated pairs, each size in a process of its own.

Usage: python benchmarks/shift_scale.py [pairs [frames a material [mean atoms]]]
"""

import resource
import subprocess
import sys
import time

CASES = ((24_000, 4, 8), (240_000, 4, 8), (240_000, 1, 8))
LIMITS = (120.0, 2.0)  # seconds, GB: what a machine with two cores has to stay under


def measure(n_pairs: int, frames_each: int, mean_atoms: int) -> None:
    """Analyse once and print a row of the table."""
    from _pairs import make_pairs

    import xclimb

    low, high = make_pairs(n_pairs, frames_each, mean_atoms)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    began = time.perf_counter()
    report = xclimb.shift(low, high)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    fits = "yes" if seconds < LIMITS[0] and peak < LIMITS[1] else "NO"
    row = (f"{n_pairs:>8}", f"{report.n_materials:>9}", f"{low.total_atoms:>8}", f"{seconds:>7.1f}", f"{before:>7.2f}")
    print("  ".join((*row, f"{peak:>7.2f}", f"{report.left_over_mae:>8.1f}", f"{fits:>6}")), flush=True)


def main() -> None:
    """The sizes asked for, or all."""
    if len(sys.argv) > 1 and sys.argv[1] == "--one":
        measure(*map(int, sys.argv[2:]))
        return
    asked = [int(word) for word in sys.argv[1:]]
    cases = [(asked + [4, 8][len(asked) - 1 :])] if asked else CASES
    print("   pairs  materials     atoms  seconds  GB data  GB peak  meV left  limits")
    for case in cases:
        subprocess.run([sys.executable, __file__, "--one", *map(str, case)], check=True)


if __name__ == "__main__":
    main()
