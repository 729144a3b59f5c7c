"""Speed and memory of an ingest of generated MP-r2SCAN JSON, beside json.load with chgnet's StructureJsonData on a tenth.

Usage: python benchmarks/ingest_scale.py [frames [workers]]      files go to a temporary folder and are deleted
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
WANTED = (60.0, 1.5)  # MB/s, GB resident


def peak() -> float:
    """Largest resident memory of this process and of any worker, GB (workers: the largest, not the sum)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def ours(path: Path, workers: int) -> dict:
    from xclimb.ingest import ingest

    began = time.perf_counter()
    summary = ingest(path, path.with_suffix(".store"), "r2SCAN", workers=workers)
    seconds = time.perf_counter() - began
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {"seconds": seconds, "frames": summary.n_out, "gb": peak() + workers * children * (workers > 1)}


def theirs(path: Path) -> dict:
    from chgnet.data.dataset import StructureJsonData
    from chgnet.graph import CrystalGraphConverter

    began = time.perf_counter()
    with path.open() as file:
        json.load(file)
    loaded = time.perf_counter() - began
    data = StructureJsonData(str(path), CrystalGraphConverter(atom_graph_cutoff=6, bond_graph_cutoff=3))
    return {"seconds": time.perf_counter() - began - loaded, "json.load": loaded, "frames": len(data.keys), "gb": peak()}


def in_a_process(task: str, path: Path, workers: int) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, task, str(path), str(workers)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    words = sys.argv[1:]
    if words and words[0] in ("ours", "theirs"):
        path = Path(words[1])
        print(json.dumps(ours(path, int(words[2])) if words[0] == "ours" else theirs(path)))
        return
    frames = int(words[0]) if words else 240_000
    workers = int(words[1]) if len(words) > 1 else os.cpu_count() or 1
    sys.path.insert(0, str(HERE))
    from _calculations import write

    with tempfile.TemporaryDirectory() as folder:
        print("       reader    frames        MB   seconds     MB/s   GB peak")
        for task, n in (("ours", frames), ("theirs", max(frames // 10, 1))):
            path = Path(folder) / f"{task}.json"
            write("r2scan", n, path)
            found = in_a_process(task, path, workers)
            size = path.stat().st_size / 1e6
            name = {"ours": "xclimb ingest", "theirs": "chgnet"}[task]
            seconds = found["seconds"]
            row = f"{found['frames']:>9} {size:>9.0f} {seconds:>9.1f} {size / seconds:>8.0f} {found['gb']:>9.2f}"
            print(f"{name:>13} {row}", flush=True)
            if task == "theirs":
                print(f"{'json.load':>13} {n:>9} {size:>9.0f} {found['json.load']:>9.1f} {size / found['json.load']:>8.0f}")
            path.unlink()
    print(f"wanted: {WANTED[0]:.0f} MB/s, under {WANTED[1]} GB")


if __name__ == "__main__":
    main()
