"""Trainings in forked processes that something happens to."""

import contextlib
import os
import signal
import sys
import warnings
from pathlib import Path

import xclimb
from training.tiny import rock_salts, toy
from xclimb.transfer import session

TRAIN, VAL = rock_salts(10, seed=0), rock_salts(3, seed=1)
SETTINGS = {"method": "residual", "epochs": 2, "batch_size": 4, "ema_decay": 0.9}
SETTINGS |= {"checkpoint_minutes": 0.0, "audit_frames": 0, "progress": False}


def train(out: Path, **more):
    """A short training: six steps in two epochs, a state after each."""
    return xclimb.transfer(**{"source": toy(), "train": TRAIN, "val": VAL, "out": out} | SETTINGS | more)


def interrupted(path: Path, step: int, number: int = signal.SIGTERM, **more) -> int:
    """A run in a fork that gets a signal while a step is taken; how it ended."""

    def action():
        kill_at(session.Guard, "record", step, number)
        train(path, **more)

    return in_fork(action)


def places(path: Path) -> list[Path]:
    """The saved states of a run, the newest last."""
    return sorted((path / "checkpoints" / "states").iterdir())


def outcome(path: Path) -> dict:
    """What must be the same to the bit: weights of both potentials, and everything in the history but times."""
    names = ("best", "last")
    weights = {name: (path / "checkpoints" / name / "weights.safetensors").read_bytes() for name in names}
    history = xclimb.runs.folder.read_history(path)
    return {"weights": weights, "history": [{k: line[k] for k in ("step", "lr", "train", "val")} for line in history]}


def in_fork(action) -> int:
    """Call something in a copy of this process; how it ended: 0, 1 for an exception, -9 for kill -9."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and threads of others: the copy uses none
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            action()
            sys.stdout.flush()
            os._exit(0)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(monkeypatch_target, name: str, count: int, number: int = signal.SIGKILL) -> None:
    """From now on, the ``count``-th call of a function sends this process a signal before it does its work."""
    real, calls = getattr(monkeypatch_target, name), [0]

    def counted(*args, **more):
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), number)
        return real(*args, **more)

    setattr(monkeypatch_target, name, counted)
