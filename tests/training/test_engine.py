"""Two processes (gloo) do what one does, and the loss of one of them is an error that can be resumed from."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import xclimb
from training.ranks import gradients_and_weights
from training.tiny import rock_salts, toy
from xclimb.config import TransferConfig
from xclimb.data.parquet import to_parquet
from xclimb.errors import ConfigError
from xclimb.files import read_json
from xclimb.training.engine import run_on_devices

# started processes import the test's modules and say nothing about it
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo over fork and signals")


@pytest.mark.timeout(100)
def test_two_processes_are_one_of_the_same_batches(tmp_path):
    run_on_devices(TransferConfig(), gradients_and_weights, 1, tmp_path / "1.npz")
    with pytest.raises(ConfigError, match="on purpose"):  # an error in a started process is the error of the call
        run_on_devices(TransferConfig(devices=2), gradients_and_weights, 2, tmp_path / "2.npz")
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    assert one.files == two.files
    for name in one.files:  # float64: gradients, weights and errors differ by the order of sums alone
        tolerance = 1e-12 if name.startswith("gradient") else 1e-6
        np.testing.assert_allclose(two[name], one[name], rtol=tolerance, atol=tolerance, err_msg=name)
    assert np.abs(one["gradient/network.magmom.weight"]).max() > 0


def _children(pid: int) -> list[int]:
    """Training processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if parent == pid and "spawn_main" in words:
            found.append(int(stat.parent.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes through /proc")
@pytest.mark.timeout(200)
def test_a_killed_process_ends_the_job_and_one_process_goes_on(tmp_path):
    to_parquet(rock_salts(12), tmp_path / "data.parquet")
    to_parquet(rock_salts(3, seed=1), tmp_path / "val.parquet")
    run = tmp_path / "run"
    settings = ["epochs=200", "batch_size=6", "checkpoint_minutes=0", "audit_frames=0", "early_stopping=200"]
    words = ["transfer", str(tmp_path / "data.parquet"), "--val", str(tmp_path / "val.parquet"), "--functional", "r2SCAN"]
    words += [
        "--source",
        str(toy().save(tmp_path / "toy")),
        "--devices",
        "2",
        "--out",
        str(run),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    main = [sys.executable, "-c", "from xclimb.cli import main; main()"]
    job = subprocess.Popen([*main, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        while not list((run / "checkpoints" / "states").glob("step-*")):
            assert job.poll() is None, job.stderr.read()
            assert time.monotonic() - began < 120
            time.sleep(0.05)
        os.kill(_children(job.pid)[-1], signal.SIGKILL)
        began = time.monotonic()
        told = job.communicate(timeout=60)[1]
        assert time.monotonic() - began < 30
    finally:
        job.kill()
    assert job.returncode == 2
    assert "a process of the training is lost" in told
    assert "--resume" in told
    assert "Traceback" not in told
    before = int(sorted((run / "checkpoints" / "states").glob("step-*"))[-1].name.removeprefix("step-"))

    def stop(line):
        os.kill(os.getpid(), signal.SIGTERM)

    settings = read_json(run / "run.json")["settings"] | {"devices": 1}
    train, val = (xclimb.read(tmp_path / f"{name}.parquet", "r2SCAN") for name in ("data", "val"))
    gone_on = xclimb.transfer(train=train, val=val, out=run, resume=True, progress=False, on_epoch=stop, **settings)
    assert gone_on.interrupted
    assert gone_on.history[-1]["step"] > before


def test_processes_that_cannot_be_started_are_told():
    with pytest.raises(ConfigError, match="torchrun or srun"):
        run_on_devices(TransferConfig(nodes=2), print)
    with pytest.raises(ConfigError, match="'cuda:1' is one device"):
        run_on_devices(TransferConfig(device="cuda:1", devices=2), print)
    with pytest.raises(ConfigError, match="cannot run on 1 device"):
        run_on_devices(TransferConfig(device="mps" if sys.platform != "darwin" else "cuda"), print)
