"""Kill a short training at random moments, resume it each time, and compare with the run that nobody disturbed.

Usage: python benchmarks/survival.py [kills]      20 by default, half of them kill -9, half SIGTERM

Every run is the command line, ``xclimb transfer`` and ``xclimb transfer --resume``, in processes of its own. States are
saved every step, so that a kill hits writing as well as computing. Ends with status 1 if a bit differs, or a step was lost
at SIGTERM.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import xclimb
from xclimb.data.parquet import to_parquet

SETTINGS = (
    "epochs=3", "batch_size=4", "checkpoint_minutes=0", "log_steps=1", "ema_decay=0.9", "gradient_clip=1.0", "audit_frames=0"
)  # fmt: skip


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from xclimb.cli import main; main()", "transfer", *words]


def start(data: Path, out: Path) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return command(str(data), "--functional", "r2SCAN", "--out", str(out), *settings)


def outcome(run: Path) -> dict:
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = {name: (run / "checkpoints" / name / "weights.safetensors").read_bytes() for name in ("best", "last")}
    return {"weights": weights, "losses": [(line["step"], line["train"], line["val"]) for line in history]}


def last_step(run: Path) -> int:
    states = sorted((run / "checkpoints" / "states").glob("step-*"))
    return int(states[-1].name.removeprefix("step-")) if states else 0


def last_logged(run: Path) -> int:
    file = run / "steps.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def disturbed(data: Path, run: Path, kills: int, seconds: float) -> list[str]:
    """Train under kills until they are used up, then to the end; a line about each kill."""
    told, chance = [], random.Random(0)
    words = start(data, run)
    while True:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        before = last_step(run)
        if kills:
            # mostly while it trains: some time after the first new state, else anywhere
            moment = chance.uniform(0, seconds)
            began = time.monotonic()
            while (
                process.poll() is None
                and last_step(run) <= before
                and time.monotonic() - began < 120
                and chance.random() < 0.999
            ):
                time.sleep(0.01)
            time.sleep(moment)
            kind = signal.SIGKILL if kills % 2 else signal.SIGTERM
            os.kill(process.pid, kind) if process.poll() is None else None
            kills -= 1
        text = process.communicate(timeout=300)[1]
        if process.returncode == 0:
            return told
        told.append(f"{'kill -9' if process.returncode < 0 else 'SIGTERM'} at step {last_step(run)}")
        print(told[-1], flush=True)
        if process.returncode not in (-signal.SIGKILL, -signal.SIGTERM, 130):  # -SIGTERM: before there was anything to save
            sys.exit(f"unexpected end {process.returncode}:\n{text}")
        if process.returncode == 130 and last_logged(run) > last_step(run):
            sys.exit(f"SIGTERM lost a step: {last_logged(run)} was taken, {last_step(run)} is saved")
        words = command("--resume", str(run)) if (run / "run.json").exists() else start(data, run)


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    folder = Path(tempfile.mkdtemp(prefix="survival-"))
    try:
        frames = xclimb.load_sample("dft_pairs", functional="r2SCAN")
        to_parquet(frames[frames.n_atoms <= 2], folder / "data.parquet")
        subprocess.run(start(folder / "data.parquet", folder / "calm"), check=True, capture_output=True)
        calm = outcome(folder / "calm")
        steps = calm["losses"][-1][0]
        told = disturbed(folder / "data.parquet", folder / "run", kills, seconds=1.5)
        same = outcome(folder / "run") == calm
        print(f"{len(told)} ends, {steps} steps: {'bit-identical' if same else 'DIFFERENT'}")
        sys.exit(not same)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
