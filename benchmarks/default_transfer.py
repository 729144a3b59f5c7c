"""The default transfer on materials that it never saw, by cross-validation over materials: errors against those of step 0.

Usage: python benchmarks/default_transfer.py [DATA FUNCTIONAL] [--test DATA] [--methods l2sp,residual,refit] [--folds 5]
    [--only-folds 0,1] [--seeds 0,1,2] [--fraction 1.0] [--frames 200] [--set epochs=10 ...]

By default the embedded sample at r2SCAN. A fold is a set of materials; the rest, or a ``--fraction`` of its materials, is given
to ``xclimb.transfer`` without validation frames, as a user does. ``--test`` names a test set instead of folds, and ``--frames``
how many training frames (whole materials, in a random order) are used. Every finished run is kept, with the errors of each
material, in ``results/default_transfer.json``: a repeated command goes on. Printed: ratios to step 0 with their 95 % intervals.
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np

import xclimb
from xclimb.evaluation.absolute_errors import absolute_errors, errors_by_frame
from xclimb.settings import parse_overrides

OUT = Path(__file__).parent / "results" / "default_transfer.json"
SOURCE = "chgnet-0.3.0"
QUANTITIES = ("energy", "within", "forces", "stress", "magmom")


def parts(frames, options, fold, seed):
    """Training and test frames of one fold, or of one draw of training frames."""
    materials = np.unique(frames.material_id)
    order = materials[np.random.default_rng(1000 + seed).permutation(len(materials))]
    if options.test:
        counts = np.array([np.count_nonzero(frames.material_id == name) for name in order.tolist()])
        return frames[np.isin(frames.material_id, order[: np.searchsorted(np.cumsum(counts), options.frames) + 1])], None
    held, rest = order[fold :: options.folds], np.setdiff1d(order, order[fold :: options.folds])
    kept = np.random.default_rng(2000 + seed).permutation(rest)[: round(options.fraction * len(rest))]
    return frames[np.isin(frames.material_id, kept)], frames[np.isin(frames.material_id, held)]


def errors_of(potential, frames):
    """Sum of absolute errors and count by material, a pair of lists each quantity."""
    predicted = potential.label(frames)
    found = errors_by_frame(absolute_errors(predicted, frames), frames)
    material = np.unique(frames.material_id, return_inverse=True)[1]
    error = 1000 * (predicted.energy - frames.energy) / frames.n_atoms
    counts = np.bincount(material)
    within = np.where(counts[material] > 1, np.abs(error - (np.bincount(material, error) / counts)[material]), np.nan)
    found["within"] = (within, np.isfinite(within).astype(int))
    table = {}
    for name in QUANTITIES:
        values, weights = found[name]
        sums = np.bincount(material, np.nan_to_num(values) * weights)
        table[name] = [np.round(sums, 6).tolist(), np.bincount(material, weights).tolist()]
    return table


def ratio(rows, name, draws=2000):
    """Ratio of the errors after to those before over all runs, and its 95 % interval over materials."""
    before, after = (np.concatenate([row[when][name][0] for row in rows]) for when in ("before", "after"))
    drawn = np.random.default_rng(0).integers(0, len(before), (draws, len(before)))
    with np.errstate(invalid="ignore", divide="ignore"):
        many = after[drawn].sum(1) / before[drawn].sum(1)
    return after.sum() / before.sum(), *np.nanquantile(many, [0.025, 0.975])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", help="DATA FUNCTIONAL")
    parser.add_argument("--test")
    parser.add_argument("--methods", default="l2sp,residual,refit")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-folds")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--set", nargs="*", default=[])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    name, functional = options.data or ["sample:dft_pairs", "r2SCAN"]
    sample = name.startswith("sample:")
    frames = xclimb.load_sample(name[7:], functional) if sample else xclimb.read(name, functional=functional)
    test = xclimb.read(options.test, functional=functional) if options.test else None
    settings = parse_overrides(options.set)
    folds = (
        [0] if options.test else [int(k) for k in (options.only_folds or ",".join(map(str, range(options.folds)))).split(",")]
    )
    runs = json.loads(OUT.read_text()) if OUT.exists() else {}
    source, shown = xclimb.load(SOURCE), {method: [] for method in options.methods.split(",")}
    size = f"{options.frames} frames" if options.test else f"fraction {options.fraction:g} of {options.folds} folds"
    for seed in [int(seed) for seed in options.seeds.split(",")]:
        for fold in folds:
            train, held = parts(frames, options, fold, seed)
            held = test if test is not None else held
            start = None
            for method, rows in shown.items():
                key = f"{Path(name).name}, {size}, fold {fold}, seed {seed}, {method}, {' '.join(options.set) or 'defaults'}"
                if key not in runs:
                    start = start or source.with_references(xclimb.fit_references(train, source, kind="residual"))
                    with tempfile.TemporaryDirectory() as folder:
                        run = xclimb.transfer(
                            source, train, method=method, seed=seed, out=Path(folder) / "run", progress=False, **settings
                        )
                    if run.interrupted:
                        raise SystemExit(f"{key}: interrupted, not kept")
                    errors = {"before": errors_of(start, held), "after": errors_of(run.potential, held)}
                    runs[key] = errors | {"epoch": run.best_epoch, "share": run.share, "n_train": len(train)}
                    OUT.write_text(json.dumps(runs) + "\n")
                rows.append(runs[key])
                cells = " ".join(f"{quantity} {ratio([runs[key]], quantity)[0]:.2f}" for quantity in QUANTITIES)
                print(f"{key}: {cells} (epoch {runs[key]['epoch']}, share {runs[key]['share']:g})", flush=True)
    print(f"\n| method | runs | {' | '.join(QUANTITIES)} |\n|---{'|---' * (len(QUANTITIES) + 1)}|")
    for method, rows in shown.items():
        cells = ["{:.2f} ({:.2f} to {:.2f})".format(*ratio(rows, quantity)) for quantity in QUANTITIES]
        print(f"| `{method}` | {len(rows)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
