"""One training in memory: the potential that is trained, its optimiser, its history and the best so far. No files."""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.models.potential import Potential, dtype_of
from xclimb.references import AtomRef
from xclimb.training.batches import BatchSource
from xclimb.training.loop import NonFiniteLossError, evaluate, learning_rate_factor, make_optimizer, train_epoch
from xclimb.training.objective import ErrorSums


class Trainer:
    """Trains a copy of a potential, an epoch at a time.

    Args:
        config: all settings.
        start: the potential at step 0; it is not changed.
        train: training frames.
        val: validation frames; the best epoch is the one with the lowest weighted loss on them.
        train_references: whether the references of the elements in ``train`` are trained with the weights.
    """

    def __init__(self, config: TransferConfig, start: Potential, train: Frames, val: Frames, train_references: bool = False):
        self.config = config
        self.start = start
        self.model = start.copy().model.requires_grad_(True)
        self.elements = train.elements if train_references else None
        self.shift: torch.nn.Parameter | None = None  # eV/atom, added to the references of the elements [K]
        if self.elements is not None:
            self.shift = torch.nn.Parameter(torch.zeros(len(self.elements), dtype=dtype_of(config.dtype), device=config.device))
        self.train_data, self.val_data = self._data(train), self._data(val)
        self.optimizer = make_optimizer(config, self.model, self.shift)
        self.epoch, self.step = 0, 0
        self.history: list[dict[str, Any]] = []
        self.best = start
        self.best_epoch = 0
        self.best_loss = math.inf

    def _data(self, frames: Frames) -> BatchSource:
        return BatchSource(
            frames=frames,
            reference_energy=self.start.references.energy(frames),
            cutoff=self.model.cutoff,
            bond_cutoff=self.model.bond_cutoff,
            dtype=dtype_of(self.config.dtype),
            device=self.config.device,
            elements=self.elements,
        )

    def validate(self) -> ErrorSums:
        """Errors of what is in training now on the validation frames."""
        plan = self.val_data.plan(self.config.batch_size, self.config.batch_atoms)
        return evaluate(self.model, self.val_data.batches(plan), self.config.loss, self.shift)

    def evaluate_start(self) -> dict[str, Any]:
        """Epoch 0: the errors before any step, as a line of the history."""
        began = time.perf_counter()
        return self._close_epoch(None, self.config.learning_rate, began)

    def run_epoch(self) -> dict[str, Any]:
        """Train for one epoch and validate; gives the line of the history.

        Raises:
            NonFiniteLossError: if a loss is not finite; the best potential is untouched.
        """
        began = time.perf_counter()
        config, sums, rate = self.config, ErrorSums(), 0.0
        plan = self.train_data.plan(config.batch_size, config.batch_atoms, config.seed, self.epoch)

        def factor(place: int) -> float:
            return learning_rate_factor(config, (self.epoch + place / len(plan)) / config.epochs)

        batches = self.train_data.batches(plan)
        steps = train_epoch(
            self.model, batches, self.optimizer, factor, config.loss, self.step, self.shift, config.gradient_clip
        )
        for step in steps:
            sums.add(step.sums)
            self.step, rate = step.number, step.learning_rate
        self.epoch += 1
        return self._close_epoch(sums, rate, began)

    def _close_epoch(self, sums: ErrorSums | None, rate: float, began: float) -> dict[str, Any]:
        found = self.validate()
        weights = self.config.loss
        loss = found.loss(weights)
        if not math.isfinite(loss):
            raise NonFiniteLossError(self.step, self.val_data.frames.frame_id)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch, self.best = loss, self.epoch, self.potential()
        line = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": rate,
            "seconds": time.perf_counter() - began,
            "train": None if sums is None else sums.to_dict(weights),
            "val": found.to_dict(weights),
        }
        self.history.append(line)
        return line

    def potential(self) -> Potential:
        """A copy of what is in training now, with the trained change of the references folded in."""
        now = self.start.copy()
        now.model.load_state_dict(self.model.state_dict())
        if self.shift is not None and self.elements is not None:
            now.references = shifted(now.references, self.elements, self.shift.detach().double().cpu().numpy())
        return now


def shifted(references: AtomRef, elements: np.ndarray, change: np.ndarray) -> AtomRef:
    """References with a change (eV/atom of each listed element ``[K]``) folded in; fitted uncertainties no longer hold."""
    values = references.values.copy()
    values[elements] += change
    return replace(references, values=values, kind="trained", stds=np.full_like(references.stds, np.nan))
