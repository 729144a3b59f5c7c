"""Molecular dynamics of 216 atoms in ASE, against chgnet 0.4.2's calculator: same weights, one thread, the two alternating.

Usage: python benchmarks/md.py [--rounds 5] [--steps 4] [--out benchmarks/results/md.json]

A step is one of ASE's VelocityVerlet at 600 K and 1 fs, with all that ASE does around it. The ratio is the median over rounds
of (chgnet time / xclimb time) of neighbouring runs. A second table shows what the graph of a step costs with and without skin.
"""

import argparse
import json
import statistics
import sys
import warnings
from pathlib import Path

import torch
from ase import Atoms, units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

sys.path.insert(0, str(Path(__file__).parent))
from against_chgnet import machine, seconds
from peers import WEIGHTS, supercell

import xclimb
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.graph.neighbours import VerletList, find_bonds

WANTED, AIM = 12.0, 20.0
STEP = 1.0 * units.fs


def chgnet_calculator():
    """The calculator of chgnet, as a user makes it."""
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    return CHGNetCalculator(CHGNet.load(model_name=WEIGHTS.removeprefix("chgnet-"), use_device="cpu", verbose=False))


def hot(atoms: Atoms) -> Atoms:
    """The same atoms with the velocities of 600 K, always the same."""
    import numpy as np

    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(0))
    return atoms


def dynamics(calculator, repeat: int = 3) -> VelocityVerlet:
    """A trajectory that has begun."""
    atoms = hot(supercell(repeat))
    atoms.calc = calculator
    trajectory = VelocityVerlet(atoms, timestep=STEP)
    trajectory.run(1)
    return trajectory


def graph_times(frames: xclimb.Frames) -> dict[str, float]:
    """Seconds for the graph of a step: a new search, and a list that is kept."""
    kept = VerletList()
    searches = {"search at every step": find_bonds, "list kept": kept}
    for search in searches.values():
        build_batch(frames, GraphSpec(6.0, 3.0), search=search)
    return {
        name: seconds(lambda s=search: build_batch(frames, GraphSpec(6.0, 3.0), search=s)) for name, search in searches.items()
    }


def main() -> None:
    """Run both side by side and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "md.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    calculator = xclimb.Calculator(WEIGHTS)
    mine, theirs = dynamics(calculator), dynamics(chgnet_calculator())
    pairs = []
    for _ in range(arguments.rounds):
        pair = [seconds(lambda t=t, n=n: t.run(n)) / n for t, n in ((mine, arguments.steps), (theirs, 1))]
        pairs.append(pair)
        print(f"xclimb {pair[0] * 1e3:8.1f} ms  chgnet {pair[1] * 1e3:8.1f} ms  ratio {pair[1] / pair[0]:5.1f}", flush=True)
    ratios = [b / a for a, b in pairs]
    row = {
        "case": "ASE MD step, 216 atoms",
        "xclimb": statistics.median(a for a, _ in pairs),
        "chgnet": statistics.median(b for _, b in pairs),
        "unit": "s",
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "wanted": WANTED,
        "aim": AIM,
        "steps": mine.nsteps,
        "searches": calculator.search.n_searches,
        "graph": graph_times(xclimb.Frames.from_ase([mine.atoms])),
    }
    word = "reached" if row["ratio"] >= WANTED else "NOT reached"
    print(
        f"{row['case']}: ratio {row['ratio']:.1f} ({min(ratios):.1f} to {max(ratios):.1f}), wanted {WANTED}, aim {AIM}: {word}"
    )
    print(f"{row['searches']} searches in {row['steps']} steps; graph of a step:")
    for name, time in row["graph"].items():
        print(f"  {name:22s} {time * 1e3:7.2f} ms, {100 * time / row['xclimb']:.2f} % of a step")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(machine(calculator.potential) | {"rows": [row]}, indent=1) + "\n")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
