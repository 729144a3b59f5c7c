"""How often labels in a wrong unit are found, and honest ones suspected, in seeded samples of 128 frames.

Usage: python benchmarks/unit_alarms.py [DATA FUNCTIONAL]      by default the embedded sample, at both functionals
"""

import sys
import warnings

import numpy as np

import xclimb
from xclimb.data.theory import LevelOfTheory
from xclimb.ingest.unit_evidence import suspects

SAMPLES, FRAMES, PREDICTED = 20, 128, 1200
# what is done to the labels -> (label, change)
FAULTS = {
    "none": ("energy", lambda f: f.energy),
    "energies of other elements' zeros": ("energy", lambda f: f.energy + np.bincount(f.system, 10.0 * f.numbers)),
    "kbar read as GPa": ("stress", lambda f: 10 * f.stress),
    "stress of the wrong sign": ("stress", lambda f: -f.stress),
    "forces of the wrong sign": ("forces", lambda f: -f.forces),
    "Ha/Bohr read as eV/Å": ("forces", lambda f: f.forces / 51.42208619),
    "Ha read as eV": ("energy", lambda f: f.energy / 27.211386),
    "Ry read as eV": ("energy", lambda f: f.energy / 13.605693),
    "kJ/mol read as eV": ("energy", lambda f: f.energy * 96.485332),
    "energies per atom as total": ("energy", lambda f: f.energy / f.n_atoms),
}


def measure(frames: xclimb.Frames, title: str) -> None:
    potential = xclimb.load("chgnet-0.3.0")
    some = np.sort(np.random.default_rng(0).permutation(len(frames))[:PREDICTED])
    frames = frames[some].with_theory(LevelOfTheory())
    predicted = potential.label(frames)
    interaction = predicted.energy - potential.references.energy(frames)
    print(f"{title}: {SAMPLES} samples of {FRAMES} of {len(frames)} frames, {len(frames.elements)} elements")
    for fault, (label, change) in FAULTS.items():
        made = frames.replace(**{label: change(frames)})
        found = []
        for seed in range(SAMPLES):
            rows = np.random.default_rng(seed).permutation(len(frames))[:FRAMES]
            found.append([one.label for one in suspects(made[rows], predicted[rows], interaction[rows], potential.name)])
        right = sum(labels == [label] for labels in found)
        wrong = sum(any(one != label for one in labels) or len(labels) > 1 for labels in found)
        honest = fault in list(FAULTS)[:2]
        told = f"{sum(map(bool, found))} alarms" if honest else f"{right} found" + (f", {wrong} with others" if wrong else "")
        print(f"  {fault:36s} {told}", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    if len(sys.argv) > 2:
        measure(xclimb.read(sys.argv[1], sys.argv[2], strict=False), f"{sys.argv[1].rpartition('/')[2]} at {sys.argv[2]}")
        return
    for functional in ("PBE", "r2SCAN"):
        measure(xclimb.load_sample("dft_pairs", functional), f"dft_pairs at {functional}")


if __name__ == "__main__":
    main()
