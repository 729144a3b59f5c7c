"""Learning curves of elemental references: error on materials held out, by number of materials in the fit, and calibration.

Usage: python benchmarks/references_few.py [DATA FUNCTIONAL] [--draws 10] [--held-out 37] [--sizes 0,10,20,40,80,140]
By default the embedded sample at r2SCAN. One frame a material (the first). Pulls: error over stated standard deviation.
Also times a fit to 240,000 generated frames.
"""

import argparse
import json
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
from _pairs import make_pairs

import xclimb
from xclimb.errors import ReferencesError
from xclimb.references import fit_references, prior_references

KINDS = ("raw", "residual", "informed")
LARGE = 240_000
OUT = Path(__file__).parent / "results" / "references_few.json"


class Cached:
    """A potential whose network's energies are computed once."""

    def __init__(self, potential, frames):
        self.references, self.theory = potential.references, potential.theory
        self._energy = dict(zip(frames.frame_id.tolist(), potential.interaction_energy(frames).tolist(), strict=True))

    def interaction_energy(self, frames):
        return np.array([self._energy[name] for name in frames.frame_id.tolist()])


class Silent:
    """A potential whose network says nothing, for timings."""

    def __init__(self, potential):
        self.references, self.theory = potential.references, potential.theory

    def interaction_energy(self, frames):
        return np.zeros(len(frames))


def references_of(kind, train, potential, theory):
    """References of one kind; None where that kind cannot be had."""
    if len(train) == 0:
        return prior_references(potential, potential.theory, theory) if kind == "informed" else None
    try:
        return fit_references(train, potential, kind=kind)
    except ReferencesError:
        return None


def curve(frames, potential, sizes, draws, n_held):
    rows = []
    for size in sizes:
        errors, pulls = {kind: [] for kind in KINDS}, []
        for draw in range(draws):
            order = np.random.default_rng(100 + draw).permutation(len(frames))
            held, train = frames[order[:n_held]], frames[order[n_held : n_held + size]]
            network = potential.interaction_energy(held)
            for kind in KINDS:
                refs = references_of(kind, train, potential, frames.theory)
                if refs is None:
                    continue
                error = (held.energy - network - refs.merged_over(potential.references).energy(held)) / held.n_atoms
                errors[kind].append(1000 * np.abs(error).mean())
                if kind == "informed":
                    pulls.append(error / np.hypot(refs.energy_std(held) / held.n_atoms, refs.posterior.noise))
        pull = np.concatenate(pulls)
        row = {"n": size, **{kind: float(np.mean(values)) if values else None for kind, values in errors.items()}}
        rows.append(row | {"rms_pull": float(np.sqrt(np.mean(pull**2))), "beyond_2": float(np.mean(np.abs(pull) > 2))})
    return rows


def timing(potential):
    _, frames = make_pairs(LARGE)
    tracemalloc.start()
    fit_references(frames, Silent(potential), kind="informed")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    began = time.perf_counter()
    fit_references(frames, Silent(potential), kind="informed")
    return {"frames": LARGE, "seconds": time.perf_counter() - began, "peak_gb": peak / 1e9}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", help="DATA FUNCTIONAL")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--held-out", type=int, default=12)
    parser.add_argument("--sizes", default="0,10,20,40,50")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    named = options.data or ["sample:dft_pairs", "r2SCAN"]
    sample = named[0].startswith("sample:")
    frames = xclimb.load_sample(named[0][7:], named[1]) if sample else xclimb.read(named[0], functional=named[1])
    frames = frames[np.unique(frames.material_id, return_index=True)[1]]
    loaded = xclimb.load("chgnet-0.3.0")
    sizes = [int(size) for size in options.sizes.split(",")]
    rows = curve(frames, Cached(loaded, frames), sizes, options.draws, options.held_out)
    print(f"{Path(named[0]).name}, {named[1]}: {len(frames)} materials, {options.held_out} held out, {options.draws} draws")
    print("| materials | raw | residual | informed | rms pull | beyond 2 |\n|---|---|---|---|---|---|")
    for row in rows:
        cells = ["–" if row[kind] is None else f"{row[kind]:,.0f}" for kind in KINDS]
        print(f"| {row['n']} | {' | '.join(cells)} | {row['rms_pull']:.2f} | {100 * row['beyond_2']:.0f} % |")
    took = timing(loaded)
    print(f"{took['frames']:,} frames: {took['seconds']:.1f} s, {took['peak_gb']:.2f} GB beyond the frames")
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    known[f"{Path(named[0]).name} {named[1]}"] = rows
    OUT.write_text(json.dumps(known | {"large": took}, indent=1) + "\n")


if __name__ == "__main__":
    main()
