"""A demo that is ended leaves no worker, and saved states from which the same command goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.test_orphans import children, is_alive

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are listed in /proc")

# the demo on ten of its smallest crystals, by one method
FEW = """
import sys
import numpy as np
import xclimb.demo as demo
from xclimb.cli import main

low, high = demo.load_pairs()
small = np.argsort(high.n_atoms, kind="stable")[:10]
ids = high.frame_id[small].tolist()
demo.load_pairs = lambda: (low[small], high[small])
demo.load_sample_split = lambda name: (ids[:6], ids[6:8], ids[8:])
demo.Plan.methods = ["frozen", "refit"]
sys.argv = ["xclimb", *"demo --epochs 5000 --workers 2 --out out".split()]
main()
"""


def test_a_demo_that_is_ended_leaves_no_worker_and_saved_states(tmp_path):
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", FEW]
        demo = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
    runs = tmp_path / "out" / "runs"
    try:
        deadline = time.monotonic() + 150
        while sum(path.stat().st_size > 0 for path in runs.glob("*/metrics.jsonl")) < 2 and demo.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        workers = children(demo.pid)
        assert len(workers) >= 2, (tmp_path / "log").read_text()
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 130, (tmp_path / "log").read_text()
        deadline = time.monotonic() + 30
        while any(map(is_alive, workers)) and time.monotonic() < deadline:  # the tracker of resources ends after the demo
            time.sleep(0.2)
        assert not any(map(is_alive, workers))
    finally:
        demo.kill()
    for name in ("frozen-0", "refit-0"):
        assert '"state": "interrupted"' in (runs / name / "run.json").read_text()
        assert list((runs / name / "checkpoints" / "states").iterdir())
