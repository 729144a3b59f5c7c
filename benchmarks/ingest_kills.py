"""Kill -9 an ingest at random moments, go on each time, and compare the store with one that nobody disturbed.

Usage: python benchmarks/ingest_kills.py [kills [frames]]      10 kills of 60,000 frames by default

Every run is the command line with two workers, in a process group of its own; only the process in front is killed, and its
workers have to end by themselves. Ends with status 1 if a checksum differs, a worker is left, or something is left behind.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _calculations import write

from xclimb.data.store import open_store, read_manifest

RESULTS = Path(__file__).parent / "results" / "ingest_kills.json"


def ingest(data: Path, out: Path) -> subprocess.Popen:
    words = ["ingest", str(data), "--functional", "r2SCAN", "--out", str(out), "--workers", "2", "--limit", "force=1.8"]
    command = [sys.executable, "-c", "from xclimb.cli import main; main()", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen) -> None:
    told = process.communicate(timeout=600)[1]
    if process.returncode:
        sys.exit(f"the ingest ended with status {process.returncode}:\n{told}")


def left_of(group: int) -> bool:
    """Whether a process of a group is still there after some seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def wait_for_a_moment(process: subprocess.Popen, journal: Path, chance: random.Random, anywhere: bool) -> None:
    """Some time after the start, or some time after the next checkpoint."""
    before = checkpoints(journal)
    while not anywhere and checkpoints(journal) <= before and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 3.0 if anywhere else 0.5))


def checkpoints(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def disturbed(data: Path, out: Path, kills: int) -> list[dict]:
    """Ingest under kills, then to the end; what each kill hit."""
    told, chance = [], random.Random(0)
    journal = out.with_name(f".{out.name}.unfinished") / "journal.jsonl"
    while len(told) < kills:
        process = ingest(data, out)
        began = time.perf_counter()
        wait_for_a_moment(process, journal, chance, anywhere=len(told) % 3 == 2)
        if process.poll() is not None:
            sys.exit(f"the ingest was done after {len(told)} kills: give more frames")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after, done = time.perf_counter() - began, checkpoints(journal)
        told.append(
            {"seconds": round(after, 2), "checkpoints": done, "workers_left": left_of(process.pid), "store": out.exists()}
        )
        print(f"kill -9 after {after:.2f} s: {done} checkpoints, store there: {out.exists()}", flush=True)
    finish(ingest(data, out))
    return told


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    frames = int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write("r2scan", frames, folder / "data.json")
        began = time.perf_counter()
        finish(ingest(folder / "data.json", folder / "calm"))
        seconds = time.perf_counter() - began
        told = disturbed(folder / "data.json", folder / "store", kills)
        stores = [{path.name: path.read_bytes() for path in sorted((folder / one).iterdir())} for one in ("calm", "store")]
        open_store(folder / "store", verify=True)
        manifest = read_manifest(folder / "store")
        left = sorted(path.name for path in folder.iterdir() if path.name not in ("data.json", "calm", "store"))
    same = stores[0] == stores[1]
    fine = same and not left and not any(kill["workers_left"] or kill["store"] for kill in told)
    found = {"frames": manifest["frames"], "rejected": manifest["provenance"]["frames_rejected"], "seconds": seconds}
    found |= {"kills": told, "identical": same, "left": left}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{kills} kills: {'identical' if same else 'DIFFERENT'}; left behind: {', '.join(left) or 'nothing'}")
    sys.exit(not fine)


if __name__ == "__main__":
    main()
