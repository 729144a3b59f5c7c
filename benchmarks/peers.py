"""The two sides of every comparison: same weights, structures and thread, each with the Adam that its trainer takes."""

import contextlib
import io
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from ase import Atoms
from ase.build import bulk

import xclimb
from xclimb.backends.select import select
from xclimb.config import TransferConfig
from xclimb.graph.batch import build_batch
from xclimb.training.optimizers import make_optimizer
from xclimb.units import ev_a3_to_gpa

WEIGHTS = "chgnet-0.3.0"
TEACHER_PAIRS = Path(__file__).parents[1].parent / "shared" / "data" / "teacher_pairs" / "teacher_pairs_train.parquet"


def supercell(repeat: int) -> Atoms:
    """Rock-salt MgO, 8 repeat^3 atoms, rattled so that no symmetry helps anyone."""
    atoms = bulk("MgO", "rocksalt", a=4.21, cubic=True).repeat(repeat)
    atoms.positions += np.random.default_rng(repeat).normal(0, 0.08, atoms.positions.shape)
    return atoms


def diverse(count: int) -> xclimb.Frames:
    """Different crystals of the embedded sample, one strained and rattled frame each."""
    frames = xclimb.load_sample("dft_pairs", functional="PBE")
    _, last = np.unique(frames.material_id[::-1], return_index=True)
    chosen = np.sort(len(frames) - 1 - last)
    return frames[np.random.default_rng(0).permutation(chosen)[:count]]


def teacher(count: int) -> xclimb.Frames:
    """Crystals of many sizes, drawn from the teacher pairs where their file is, else from the embedded sample."""
    frames = _teacher_pairs()
    return diverse(count) if frames is None else frames[np.random.default_rng(0).permutation(len(frames))[:count]]


def teacher_source() -> str:
    """Where :func:`teacher` takes its structures from, for the output."""
    return "the embedded sample" if _teacher_pairs() is None else TEACHER_PAIRS.name


@cache
def _teacher_pairs() -> xclimb.Frames | None:
    return xclimb.read(TEACHER_PAIRS, functional="PBE") if TEACHER_PAIRS.exists() else None


class Ours:
    """xclimb: the calls a user makes."""

    name = "xclimb"

    def __init__(self):
        self.potential = xclimb.load(WEIGHTS)

    def graph(self, frames: xclimb.Frames) -> Callable[[], object]:
        return lambda: build_batch(frames, self.potential.graph)

    def predict(self, frames: xclimb.Frames) -> Callable[[], object]:
        return lambda: self.potential.predict(frames)

    def train_step(self, frames: xclimb.Frames) -> Callable[[], object]:
        model = self.potential.copy().model.train().requires_grad_(True)
        optimizer = make_optimizer(TransferConfig(optimizer="adam", learning_rate=1e-5), model)

        def step():
            batch = build_batch(frames, self.potential.graph)
            out = select(model).forward(model, batch, True)
            loss = _loss(out.energy / batch.n_atoms, out.forces, ev_a3_to_gpa(out.stress))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step


class Peer:
    """chgnet 0.4.2, through its public classes."""

    name = "chgnet"

    def __init__(self):
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from chgnet.model.model import CHGNet

            self.model = CHGNet.load(model_name=WEIGHTS.removeprefix("chgnet-"), use_device="cpu", verbose=False)

    def graph(self, frames: xclimb.Frames) -> Callable[[], object]:
        structures = frames.to_pymatgen()
        return lambda: [self.model.graph_converter(structure) for structure in structures]

    def predict(self, frames: xclimb.Frames) -> Callable[[], object]:
        structures = frames.to_pymatgen()
        return lambda: self.model.predict_structure(structures, task="efsm", batch_size=len(structures))

    def train_step(self, frames: xclimb.Frames) -> Callable[[], object]:
        structures = frames.to_pymatgen()
        optimizer = torch.optim.Adam([p for p in self.model.parameters() if p.requires_grad], lr=1e-5)

        def step():
            graphs = [self.model.graph_converter(structure) for structure in structures]
            out = self.model(graphs, task="efs")
            loss = _loss(out["e"], torch.cat(out["f"]), torch.cat(out["s"]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step


def _loss(energy: torch.Tensor, forces: torch.Tensor, stress: torch.Tensor) -> torch.Tensor:
    """Energy, force and stress loss with the paper's weights; the targets do not matter for the time."""
    terms = ((3.0, energy), (1.0, forces), (0.1, stress))
    return sum(weight * F.huber_loss(value, torch.zeros_like(value), delta=0.1) for weight, value in terms)
