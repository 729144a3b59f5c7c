"""A study whose main process is ended leaves no worker behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import xclimb
from training.tiny import rock_salts, toy

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are listed in /proc")


def children(parent: int) -> list[int]:
    """Process ids of the children of a process."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(number) for number in listed.split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_study_that_is_ended_leaves_no_worker(tmp_path):
    toy().save(tmp_path / "toy")
    for name, functional in (("low", "PBE"), ("high", "r2SCAN")):
        xclimb.export(rock_salts(24, functional=functional), tmp_path / f"{name}.extxyz")
    words = "study methods low.extxyz high.extxyz --methods refit,residual --seeds 0,1 --epochs 5000 --workers 2 --source toy"
    words += " --by frame --low PBE --high r2SCAN --out study"
    command = [sys.executable, "-m", "xclimb", *words.split()]
    with (tmp_path / "log").open("w") as log:
        study = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 150
        while len(list((tmp_path / "study").glob("runs/*/metrics.jsonl"))) < 2 and study.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        workers = children(study.pid)
        assert len(workers) >= 2, (tmp_path / "log").read_text()
        study.send_signal(signal.SIGTERM)
        study.wait(30)
        deadline = time.monotonic() + 30
        while any(map(is_alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not any(map(is_alive, workers))
    finally:
        study.kill()
