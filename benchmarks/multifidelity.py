"""One network for two functionals against sequential transfer, at equal gradient steps: errors on both functionals' test sets.

Usage: python benchmarks/multifidelity.py [--data dft_pairs,teacher_pairs] [--sizes 100,300,1000] [--seeds 0,1,2] [--low N]
    [--epochs 25] [--batch 16] [--test N]

PBE is the low level and r2SCAN the high one; of the high one SIZE training frames (whole materials, in a random order) are
used, of the low one all training frames, or N. ``multifidelity`` trains on both together. ``sequential`` trains the source on
as many low frames as that run has drawn, then on the high ones: as many gradient steps of as many frames. ``high only`` spends
all of these steps on high frames, which is plain transfer. All have the same settings and informed references. The low level of
the sequential and of the high-only potential is that after all training with references fitted to the low training frames: what
is left is forgetting, not the energy zero. ``teacher_pairs`` is read from ``../shared/data`` where it is: agreement with the
teacher. Errors by material of every run are kept in ``results/multifidelity.json``: a repeated command goes on. Printed: means
over seeds, and the ratio multifidelity / other with its 95 % interval over test materials and seeds.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
from default_transfer import errors_of

import xclimb
from xclimb.data.samples import load_sample_split

OUT = Path(__file__).parent / "results" / "multifidelity.json"
TEACHER = Path(__file__).resolve().parents[2] / "shared" / "data" / "teacher_pairs"
SOURCE, LOW, HIGH = "chgnet-0.3.0", "PBE", "r2SCAN"
WAYS = ("multifidelity", "sequential", "high only")
QUANTITIES = ("energy", "forces", "stress")
RECIPE = {"loss": {"kind": "mae", "energy": 1.0, "force": 3.0, "stress": 0.2, "magmom": 0.0}, "ema_decay": 0.99}


def parts(name, functional):
    """Training, validation and test frames of a data set at a functional; None where it does not exist."""
    if name == "dft_pairs":
        frames = xclimb.load_sample(name, functional)
        return [frames[np.isin(frames.frame_id, ids)] for ids in load_sample_split(name)]
    files = [TEACHER / f"teacher_pairs_{part}.parquet" for part in ("train", "val", "test")]
    return [xclimb.read(file, functional=functional) for file in files] if files[0].exists() else None


def some(frames, size, seed):
    """About so many frames: whole materials, in a random order."""
    names, inverse, counts = np.unique(frames.material_id, return_inverse=True, return_counts=True)
    order = np.random.default_rng(1000 + seed).permutation(len(names))
    chosen = order[: np.searchsorted(np.cumsum(counts[order]), size) + 1]
    return frames[np.isin(inverse, chosen)]


def trained(source, train, val, seed, method, options, epochs):
    """The best potential of a training by the sum of the validation losses."""
    with tempfile.TemporaryDirectory() as folder:
        how = {"method": method, "seed": seed, "epochs": epochs, "batch_size": options.batch, "guard": "sum", **RECIPE}
        return xclimb.transfer(source, train, val, out=Path(folder) / "run", progress=False, audit_frames=0, **how).potential


def potentials(way, high, low, seed, options):
    """Potentials at the high and at the low functional; ``high`` and ``low`` are their training and validation frames."""
    single = {"name": "ewc", "strength": 0.0}  # informed references, all weights at one rate, no penalty
    if way == "multifidelity":
        method = {"name": "multifidelity", "low": {LOW: low[0]}}
        both = trained(SOURCE, *high, seed, method, options, options.epochs)
        return both.at(HIGH), both.at(LOW)
    if way == "sequential":
        drawn = some(low[0], min(len(low[0]), options.epochs * len(high[0])), seed)
        passes = max(1, round(options.epochs * len(high[0]) / len(drawn)))
        below = trained(SOURCE, drawn, low[1], seed, single, options, passes)
        last = trained(below, *high, seed, single, options, options.epochs)
    else:
        last = trained(SOURCE, *high, seed, single, options, 2 * options.epochs)
    references = xclimb.fit_references(low[0], last)
    return last, last.with_references(references)


def ratio(one, other, draws=2000):
    """Ratio of the summed errors of two lists of runs, and its 95 % interval over test materials and seeds."""
    sums = [np.concatenate([run[0] for run in runs]) for runs in (one, other)]
    drawn = np.random.default_rng(0).integers(0, len(sums[0]), (draws, len(sums[0])))
    many = sums[0][drawn].sum(1) / sums[1][drawn].sum(1)
    return sums[0].sum() / sums[1].sum(), *np.quantile(many, [0.025, 0.975])


def show(name, size, runs):
    """Mean errors of each way, and the ratios of multifidelity to the others."""
    print(f"\n{name}, {size} {HIGH} frames, {len(runs[WAYS[0]])} seeds\n| way | {' | '.join(header())} |\n{'|---' * 7}|")
    for way in WAYS:
        cells = []
        for level, quantity in columns():
            sums = [run[level][quantity] for run in runs[way]]
            cells.append(f"{sum(sum(s) for s, _ in sums) / max(sum(sum(c) for _, c in sums), 1):.3g}")
        print(f"| {way} | {' | '.join(cells)} |")
    for way in WAYS[1:]:
        cells = []
        for level, quantity in columns():
            both = [[run[level][quantity] for run in runs[w]] for w in (WAYS[0], way)]
            cells.append("{:.2f} ({:.2f} to {:.2f})".format(*ratio(*both)))
        print(f"| multifidelity / {way} | {' | '.join(cells)} |")


def columns():
    """Functional and quantity of each column."""
    return [(level, quantity) for level in (HIGH, LOW) for quantity in QUANTITIES]


def header():
    """Headings of the columns: meV/atom, meV/Å, GPa."""
    return [f"{level} {quantity}" for level, quantity in columns()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="dft_pairs,teacher_pairs")
    parser.add_argument("--sizes", default="100,300,1000")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--low", type=int, default=0, help="low training frames; 0: all")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--test", type=int, default=0, help="test and validation frames at most, each; 0: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    OUT.parent.mkdir(exist_ok=True)
    kept = json.loads(OUT.read_text()) if OUT.exists() else {}
    for name in options.data.split(","):
        high, low = parts(name, HIGH), parts(name, LOW)
        if high is None or low is None:
            print(f"{name}: not there, left out")
            continue
        if options.test:
            high, low = ([p[0], *(some(one, options.test, 0) for one in p[1:])] for p in (high, low))
        for size in [int(size) for size in options.sizes.split(",")]:
            runs = {way: [] for way in WAYS}
            for seed in [int(seed) for seed in options.seeds.split(",")]:
                train = some(high[0], size, seed)
                low_train = some(low[0], options.low, seed) if options.low else low[0]
                for way, rows in runs.items():
                    how = f"epochs {options.epochs}, batch {options.batch}, test {options.test or 'all'}"
                    key = f"{name}, {size} frames, seed {seed}, {way}, low {options.low or 'all'}, {how}"
                    if key not in kept:
                        pair = potentials(way, (train, high[1]), (low_train, low[1]), seed, options)
                        tests = {HIGH: high[2], LOW: low[2]}
                        kept[key] = {level: errors_of(pot, tests[level]) for level, pot in zip((HIGH, LOW), pair, strict=True)}
                        OUT.write_text(json.dumps(kept) + "\n")
                    rows.append(kept[key])
                    print(f"done: {key}", flush=True)
            show(name, size, runs)


if __name__ == "__main__":
    main()
