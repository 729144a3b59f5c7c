"""Time and memory against chgnet 0.4.2: same weights, one thread, the two alternating in one process.

Usage: python benchmarks/against_chgnet.py [--rounds 5] [--out benchmarks/results/against_chgnet.json]

Every ratio is the median over rounds of (chgnet time / xclimb time) of neighbouring runs, so that a machine whose speed
drifts does not matter. xclimb lets the allocator keep freed memory, for the whole process; where chgnet is faster with the
default allocator, in a process of its own, the ratio is with respect to that. Eager is the time of xclimb without its fused
kernels, in the same rounds: the difference is what these buy. GFLOP/s are the matrix products of the eager network, counted by
torch, over the time: what is computed twice to save memory does not count. Their share is that of a product of 2048 x 2048
matrices on the same thread. Memory is the growth of the peak resident size of a fresh process by one call.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions, version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from peers import Ours, Peer, supercell, teacher, teacher_source

import xclimb

# case -> (what is done, structures, least ratio wanted)
CASES = {
    "E+F+S+M, 8 atoms": ("predict", 1, 8.0),
    "E+F+S+M, 64 atoms": ("predict", 2, 10.0),
    "E+F+S+M, 216 atoms": ("predict", 3, 12.0),
    "E+F+S+M, batch of 32 crystals": ("predict", "teacher 32", 9.0),
    "training step, batch of 16 crystals": ("train_step", "teacher 16", 5.0),
    "training step, batch of 40 crystals": ("train_step", "teacher 40", 5.0),
    "graph, 216 atoms": ("graph", 3, 100.0),
    "graph, batch of 32 crystals": ("graph", "teacher 32", 60.0),
}
MEMORY = {
    "peak memory, 216 atoms": ("predict", 3, 10.0),
    "peak memory, training, 40 crystals": ("train_step", "teacher 40", 3.0),
}
THREADS = {"two threads over one, 216 atoms": ("predict", 3, 1.7)}


def structures(which: int | str) -> xclimb.Frames:
    """The frames of a case: ``"teacher N"``, N crystals of many sizes, or a supercell."""
    if isinstance(which, str):
        return teacher(int(which.removeprefix("teacher ")))
    return xclimb.Frames.from_ase([supercell(which)])


def seconds(call, least: float = 0.5) -> float:
    """Time of one call, as the mean over as many as fill ``least`` seconds."""
    gc.collect()  # what the other left behind is not this one's to take away
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < least:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


@contextmanager
def eager_path() -> Iterator[None]:
    """Inside, xclimb computes without its fused kernels."""
    before = os.environ.get("XCLIMB_BACKEND", "auto")
    os.environ["XCLIMB_BACKEND"] = "eager"
    try:
        yield
    finally:
        os.environ["XCLIMB_BACKEND"] = before


def timed(rounds: int, ours: Ours, peer: Peer) -> list[dict]:
    """One row a case: median times and the median of the paired ratios."""
    rows, peak, default = [], sgemm_peak(), in_process("--default-allocator")
    print(f"matrix products reach {peak:.0f} GFLOP/s here")
    for case, (task, which, wanted) in CASES.items():
        frames = structures(which)
        mine, theirs = getattr(ours, task)(frames), getattr(peer, task)(frames)
        mine(), theirs()  # warm up
        pairs, eager = [], []
        for _ in range(rounds):
            pairs.append((seconds(mine), seconds(theirs)))
            if task != "graph":
                with eager_path():
                    eager.append(seconds(mine))
        chgnet = statistics.median(b for _, b in pairs)
        handicap = min(1.0, default[case] / chgnet)  # chgnet with the default allocator, if that is faster
        ratios = [handicap * b / a for a, b in pairs]
        row = {
            "case": case,
            "xclimb": statistics.median(a for a, _ in pairs),
            "chgnet": handicap * chgnet,
            "unit": "s",
            "ratio": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
            "wanted": wanted,
        }
        if task != "graph":
            row["eager"] = statistics.median(eager)
            row["gflops"] = flops(task, frames) / row["xclimb"] / 1e9
            row["share_of_peak"] = row["gflops"] / peak
        rows.append(row)
        print(_line(row), flush=True)
    return rows


def default_allocator() -> dict[str, float]:
    """Median time of chgnet in each case, in a process that xclimb has not touched."""
    peer, found = Peer(), {}
    for case, (task, which, _) in CASES.items():
        call = getattr(peer, task)(structures(which))
        call()
        found[case] = statistics.median(seconds(call) for _ in range(3))
    return found


def on_two_threads(rounds: int, ours: Ours) -> list[dict]:
    """One thread and two in turn: for each case the median of the paired ratios."""
    rows = []
    for case, (task, which, wanted) in THREADS.items():
        call, pairs = getattr(ours, task)(structures(which)), []
        for threads in [1, 2] * (rounds + 1):
            torch.set_num_threads(threads)
            pairs.append(seconds(call, least=1.0))
        torch.set_num_threads(1)
        ones, twos = pairs[2::2], pairs[3::2]  # the first two warmed up
        ratios = [one / two for one, two in zip(ones, twos, strict=True)]
        row = {"case": case, "xclimb": statistics.median(twos), "one": statistics.median(ones), "unit": "s"}
        rows.append(row | {"ratio": statistics.median(ratios), "range": [min(ratios), max(ratios)], "wanted": wanted})
        print(_line(rows[-1]), flush=True)
    return rows


def sgemm_peak() -> float:
    """GFLOP/s of a large matrix product in float32 on torch's threads."""
    n = 2048
    a, b = torch.rand(n, n), torch.rand(n, n)
    return 2 * n**3 / min(seconds(lambda: a @ b) for _ in range(5)) / 1e9


def flops(task: str, frames: xclimb.Frames) -> int:
    """Operations in the matrix products of one call on the eager path, forward and backward."""
    call = getattr(Ours(), task)(frames)
    with eager_path(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def remembered() -> list[dict]:
    """Peak memory of one call, each side in a process of its own."""
    rows = []
    for case, (task, which, wanted) in MEMORY.items():
        grown = {}
        for side in ("xclimb", "chgnet"):
            grown[side] = in_process("--memory-of", side, task, str(which))
        rows.append({"case": case, **grown, "unit": "MB", "ratio": grown["chgnet"] / grown["xclimb"], "wanted": wanted})
        print(_line(rows[-1]), flush=True)
    return rows


def in_process(*arguments: str):
    """What this script prints in a process of its own, as JSON."""
    run = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {run.stderr.strip() or f'ended with status {run.returncode}'}")
    return json.loads(run.stdout.splitlines()[-1])


def memory_of(side: str, task: str, which: int | str) -> float:
    """Growth of the peak resident size (MB) of this process by one call, after a small one as warm-up."""
    sides = {"xclimb": Ours, "chgnet": Peer}
    model = sides[side]()
    call = getattr(model, task)(structures(which))
    getattr(model, task)(structures(1))()
    before = peak_memory()
    call()
    return peak_memory() - before


def peak_memory() -> float:
    """Largest resident size of this process so far, MB. Linux only: getrusage would count what the parent used before."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _line(row: dict) -> str:
    word = "reached" if row["ratio"] >= row["wanted"] else "NOT reached"
    other = "chgnet" if "chgnet" in row else "one"
    eager = f"  eager {row['eager']:9.4f} s" if "eager" in row else ""
    speed = f"  {row['gflops']:4.0f} GFLOP/s, {row['share_of_peak']:4.0%} of peak" if "gflops" in row else ""
    return (
        f"{row['case']:36s} xclimb {row['xclimb']:9.4f} {row['unit']:2s}  {other:6s} {row[other]:9.4f} {row['unit']:2s}{eager}"
        f"  ratio {row['ratio']:6.1f}  wanted {row['wanted']:5.1f}  {word}{speed}"
    )


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "against_chgnet.json")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--default-allocator", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.memory_of:
        side, task, which = arguments.memory_of
        print(memory_of(side, task, int(which) if which.isdecimal() else which))
        return
    if arguments.default_allocator:
        print(json.dumps(default_allocator()))
        return
    ours = Ours()
    found = machine(ours.potential)
    print(f"{found['machine']['processor']}, {found['machine']['backend']} backend, crystals of {teacher_source()}")
    rows = timed(arguments.rounds, ours, Peer()) + remembered() + on_two_threads(arguments.rounds, ours)
    found["machine"]["crystals"] = teacher_source()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found | {"rows": rows}, indent=1) + "\n")
    reached = sum(row["ratio"] >= row["wanted"] for row in rows)
    print(f"{reached} of {len(rows)} reached; written to {arguments.out}")


def machine(potential: xclimb.Potential) -> dict:
    """Processor, threads, backend of predictions and versions, for the results."""
    here = {"processor": _processor(), "python": platform.python_version(), "threads": torch.get_num_threads()}
    here["backend"] = potential.describe()["backend"]
    installed = {found.name.lower() for found in distributions()}
    named = ("xclimb", "torch", "chgnet", "numpy", "numba", "vesin")
    return {"machine": here, "versions": {name: version(name) for name in named if name in installed}}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
