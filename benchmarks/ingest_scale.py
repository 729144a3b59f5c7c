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
RESULTS = HERE / "results" / "ingest_scale.json"
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

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for task, n in (("ours", frames), ("theirs", max(frames // 10, 1))):
            path = Path(folder) / f"{task}.json"
            write("r2scan", n, path)
            found = in_a_process(task, path, workers)
            size = path.stat().st_size / 1e6
            path.unlink()
            if task == "theirs":
                rows.append(row("json.load", n, size, found.pop("json.load"), None))
            name = {"ours": f"xclimb ingest, {workers} workers", "theirs": "chgnet's StructureJsonData"}[task]
            rows.append(row(name, found["frames"], size, found["seconds"], found["gb"]))
    reached = {"MB/s": rows[0]["speed"] >= WANTED[0], "GB": rows[0]["gb"] < WANTED[1]}
    print("                     reader     frames        MB   seconds     MB/s   GB peak")
    for one in rows:
        memory = "" if one["gb"] is None else f"{one['gb']:9.2f}"
        print(
            f"{one['reader']:>27} {one['frames']:>10,} {one['megabytes']:>9.0f} {one['seconds']:>9.1f} "
            f"{one['speed']:>8.0f} {memory}"
        )
    told = ", ".join(f"{name} {'reached' if fine else 'not reached'}" for name, fine in reached.items())
    print(f"wanted: {WANTED[0]:.0f} MB/s, under {WANTED[1]} GB: {told}")
    if frames == 240_000:
        RESULTS.write_text(json.dumps({"rows": rows, "wanted": WANTED, "processor": processor()}, indent=1) + "\n")


def row(reader: str, frames: int, megabytes: float, seconds: float, gb: float | None) -> dict:
    speed = megabytes / seconds
    return {"reader": reader, "frames": frames, "megabytes": megabytes, "seconds": seconds, "speed": speed, "gb": gb}


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
