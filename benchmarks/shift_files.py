"""Time, memory and size of what a shift leaves in a folder: the page stays as it is, JSON and CSV grow with the pairs.

Usage: python benchmarks/shift_files.py [pairs ...]
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = (1_000, 10_000, 240_000)
PAGE = 5.0  # MB, at any size


def measure(n_pairs: int) -> None:
    """Analyse and write once, and print a row of the table."""
    from _pairs import make_pairs

    import xclimb
    from xclimb.report.shift_files import write_shift

    report = xclimb.shift(*make_pairs(n_pairs, 4, 8))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        page = write_shift(report, folder)
        seconds = time.perf_counter() - began
        sizes = [_size([page]), *(_size(Path(folder).glob(kind)) for kind in ("shift.json", "*.csv", "figures/*"))]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row = "  ".join((f"{n_pairs:>8}", f"{seconds:>7.1f}", f"{peak:>7.2f}", *(f"{size:>7.2f}" for size in sizes)))
    print(f"{row}  {'yes' if sizes[0] < PAGE else 'NO':>6}", flush=True)


def _size(files) -> float:
    return sum(file.stat().st_size for file in files) / 1e6


def main() -> None:
    """The sizes asked for, or all; each in a process of its own."""
    if len(sys.argv) > 1 and sys.argv[1] == "--one":
        measure(int(sys.argv[2]))
        return
    print("   pairs  seconds  GB peak  MB page  MB JSON   MB CSV  MB figs  limits")
    for case in sys.argv[1:] or CASES:
        subprocess.run([sys.executable, __file__, "--one", str(case)], check=True)


if __name__ == "__main__":
    main()
