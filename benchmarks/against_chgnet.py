"""Time and memory against chgnet 0.4.2: same weights, one thread, the two alternating in one process.

Usage: python benchmarks/against_chgnet.py [--rounds 5] [--out benchmarks/results/against_chgnet.json]

Every ratio is the median over rounds of (chgnet time / xclimb time) of neighbouring runs, so that a machine whose speed
drifts does not matter. Memory is the growth of the peak resident size of a fresh process by one call.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import distributions, version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from peers import Ours, Peer, diverse, supercell, teacher, teacher_source

import xclimb

# case -> (what is done, structures, least ratio wanted)
CASES = {
    "E+F+S+M, 8 atoms": ("predict", 1, 3.0),
    "E+F+S+M, 64 atoms": ("predict", 2, 3.0),
    "E+F+S+M, 216 atoms": ("predict", 3, 3.0),
    "E+F+S+M, batch of 32 crystals": ("predict", "diverse", 3.0),
    "training step, batch of 16 crystals": ("train_step", "teacher 16", 5.0),
    "training step, batch of 40 crystals": ("train_step", "teacher 40", 5.0),
    "graph, 8 atoms": ("graph", 1, 15.0),
    "graph, 216 atoms": ("graph", 3, 100.0),
    "graph, batch of 32 crystals": ("graph", "teacher 32", 60.0),
}
MEMORY = {
    "peak memory, 216 atoms": ("predict", 3, 4.0),
    "peak memory, training, 40 crystals": ("train_step", "teacher 40", 3.0),
}


def structures(which: int | str) -> xclimb.Frames:
    """The frames of a case: 32 diverse crystals, ``"teacher N"``: N crystals of many sizes, or a supercell."""
    if isinstance(which, str):
        return diverse(32) if which == "diverse" else teacher(int(which.removeprefix("teacher ")))
    return xclimb.Frames.from_ase([supercell(which)])


def seconds(call, least: float = 0.2) -> float:
    """Time of one call, as the mean over as many as fill ``least`` seconds."""
    calls, start = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - start < least:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def timed(rounds: int, ours: Ours, peer: Peer) -> list[dict]:
    """One row a case: median times and the median of the paired ratios."""
    rows = []
    for case, (task, which, wanted) in CASES.items():
        frames = structures(which)
        mine, theirs = getattr(ours, task)(frames), getattr(peer, task)(frames)
        mine(), theirs()  # warm up
        pairs = [(seconds(mine), seconds(theirs)) for _ in range(rounds)]
        ratios = [b / a for a, b in pairs]
        rows.append(
            {
                "case": case,
                "xclimb": statistics.median(a for a, _ in pairs),
                "chgnet": statistics.median(b for _, b in pairs),
                "unit": "s",
                "ratio": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
                "wanted": wanted,
            }
        )
        print(_line(rows[-1]), flush=True)
    return rows


def remembered() -> list[dict]:
    """Peak memory of one call, each side in a process of its own."""
    rows = []
    for case, (task, which, wanted) in MEMORY.items():
        grown = {}
        for side in ("xclimb", "chgnet"):
            call = [sys.executable, __file__, "--memory-of", side, task, str(which)]
            run = subprocess.run(call, capture_output=True, text=True, check=True)
            grown[side] = float(run.stdout.split()[-1])
        rows.append({"case": case, **grown, "unit": "MB", "ratio": grown["chgnet"] / grown["xclimb"], "wanted": wanted})
        print(_line(rows[-1]), flush=True)
    return rows


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
    return (
        f"{row['case']:38s} xclimb {row['xclimb']:10.4f} {row['unit']:2s}  chgnet {row['chgnet']:10.4f} {row['unit']:2s}"
        f"  ratio {row['ratio']:6.1f}  wanted {row['wanted']:5.1f}  {word}"
    )


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "against_chgnet.json")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.memory_of:
        side, task, which = arguments.memory_of
        print(memory_of(side, task, int(which) if which.isdecimal() else which))
        return
    print(f"training batches: crystals of {teacher_source()}")
    ours = Ours()
    rows = timed(arguments.rounds, ours, Peer()) + remembered()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(machine(ours.potential) | {"rows": rows}, indent=1) + "\n")
    reached = sum(row["ratio"] >= row["wanted"] for row in rows)
    print(f"{reached} of {len(rows)} reached; written to {arguments.out}")


def machine(potential: xclimb.Potential) -> dict:
    """Processor, threads, path of predictions and versions, for the results."""
    path = potential.describe()["path"]
    here = {"processor": _processor(), "python": platform.python_version(), "threads": torch.get_num_threads(), "path": path}
    installed = {found.name.lower() for found in distributions()}
    named = ("xclimb", "torch", "chgnet", "numpy", "numba", "vesin")
    return {"machine": here, "versions": {name: version(name) for name in named if name in installed}}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
