"""A store of 24,000 and one of 240,000 frames: opening, random batches, memory, an epoch in random order.

Usage: python benchmarks/store_scale.py        stores go to a temporary folder and are deleted
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _calculations import SPACING, sizes

RESULTS = Path(__file__).parent / "results" / "store_scale.json"
SIZES = (24_000, 240_000)
BATCH = 64
WANTED = {"open": 0.2, "batch": 0.003, "epoch": 20_000}  # s, s, frames/s
# shards of the same frames: memory must not depend on them either
SHARDS = (1, 8)


def make(path: Path, frames: int, shards: int) -> None:
    """A store of frames with the size distribution of MP-r2SCAN."""
    from xclimb.data.frames import Frames
    from xclimb.data.store_writer import StoreWriter
    from xclimb.data.theory import LevelOfTheory

    rng = np.random.default_rng(0)
    counts = sizes(frames, rng)
    with StoreWriter(path, shard_atoms=int(counts.sum() / shards)) as writer:
        for start in range(0, frames, 5000):
            some = counts[start : start + 5000]
            rows, atoms = len(some), int(some.sum())
            writer.append(
                Frames(
                    numbers=rng.integers(1, 90, atoms),
                    positions=rng.uniform(0, 10, (atoms, 3)),
                    cells=np.eye(3) * (SPACING * np.cbrt(some))[:, None, None],
                    pbc=np.ones((rows, 3), dtype=bool),
                    offsets=np.concatenate([[0], np.cumsum(some)]),
                    energy=-7.0 * some,
                    forces=rng.normal(size=(atoms, 3)),
                    stress=rng.normal(size=(rows, 3, 3)),
                    magmoms=rng.normal(size=atoms),
                    frame_id=np.array([f"mp-{(start + s) // 4}-0-{(start + s) % 4}" for s in range(rows)]),
                    material_id=np.array([f"mp-{(start + s) // 4}" for s in range(rows)]),
                    theory=LevelOfTheory("r2SCAN"),
                )
            )


def memory() -> dict[str, float]:
    """Own memory and mapped pages of files of this process, MB; the system takes the latter back when it needs room."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"own": int(lines["RssAnon"].split()[0]) / 1024, "mapped": int(lines["RssFile"].split()[0]) / 1024}


def measure(path: Path) -> dict:
    """Times and memory of one store, in a process of its own."""
    import xclimb
    from xclimb.data.store import open_store

    warm = open_store(path)[:2]  # imports
    before = memory()
    began = time.perf_counter()
    frames = open_store(path)
    opened = time.perf_counter() - began
    rng = np.random.default_rng(0)
    times = []
    for _ in range(300):
        chosen = rng.integers(0, len(frames), BATCH)
        began = time.perf_counter()
        batch = frames[chosen]
        times.append(time.perf_counter() - began)
    order = rng.permutation(len(frames))
    began, seen = time.perf_counter(), 0
    for start in range(0, len(order), BATCH):
        batch = frames[order[start : start + BATCH]]
        seen += len(batch)
    seconds = time.perf_counter() - began
    after = memory()
    assert seen == len(frames)
    assert len(warm) == 2
    return {
        "frames": seen, "atoms": frames.total_atoms, "open": opened, "batch": float(np.median(times)),
        "batch_p95": float(np.quantile(times, 0.95)), "epoch": seen / seconds, "own": after["own"] - before["own"],
        "mapped": after["mapped"], "process": after["own"], "version": xclimb.__version__,
    }  # fmt: skip


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]))))
        return
    rows = []
    print("  frames  shards   open, ms  batch, ms  95 %, ms  epoch, frames/s  own memory, MB  mapped, MB")
    with tempfile.TemporaryDirectory() as folder:
        for frames, shards in [(n, 1) for n in SIZES] + [(SIZES[-1], SHARDS[-1])]:
            path = Path(folder) / f"{frames}-{shards}"
            make(path, frames, shards)
            size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            done = subprocess.run([sys.executable, __file__, str(path)], check=True, stdout=subprocess.PIPE, text=True)
            row = json.loads(done.stdout.splitlines()[-1]) | {"shards": shards, "megabytes": size}
            rows.append(row)
            print(
                f"{frames:>8} {shards:>7} {1e3 * row['open']:>10.1f} {1e3 * row['batch']:>10.2f} {1e3 * row['batch_p95']:>9.2f}"
                f" {row['epoch']:>16,.0f} {row['own']:>15.1f} {row['mapped']:>11.0f}",
                flush=True,
            )
    RESULTS.write_text(json.dumps({"rows": rows, "wanted": WANTED}, indent=1) + "\n")
    missed = [row for row in rows if row["open"] > 0.2 or row["batch"] > WANTED["batch"] or row["epoch"] < WANTED["epoch"]]
    print("wanted: opened in 0.2 s, a batch in 3 ms, 20,000 frames/s:", "not reached" if missed else "reached")


if __name__ == "__main__":
    main()
