"""One training in memory: the trained parameters, optimiser, history and best weights. No files, no signals."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xclimb.backends.select import select
from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import DataError
from xclimb.models.potential import Potential, dtype_of
from xclimb.references import AtomRef
from xclimb.training.adaptation import Adaptation, adapt
from xclimb.training.batches import BatchSource, TrainingBatch, prefetch
from xclimb.training.engine import Engine
from xclimb.training.loop import Step, evaluate, train_step
from xclimb.training.objective import ErrorSums, objective
from xclimb.training.optimizers import learning_rate_factor, make_optimizer, should_stop
from xclimb.training.replay import with_replay


class NonFiniteLossError(ArithmeticError):
    """A loss or its gradient became NaN or infinite; carries the step and the frames that did it."""

    def __init__(self, step: int, frame_ids: np.ndarray):
        self.step, self.frame_ids = step, frame_ids
        super().__init__(f"loss not finite at step {step} (frames {', '.join(map(str, frame_ids))})")


class Trained(nn.Module):
    """Trained parameters: the network and, with some methods, the references.

    Args:
        network: all of it.
        shift: change of the references of the training elements, eV/atom ``[K]``; None where they are fixed.
    """

    def __init__(self, network: nn.Module, shift: nn.Parameter | None):
        super().__init__()
        self.network, self.shift = network, shift


@dataclass(frozen=True)
class StepRecord:
    """An optimiser step and its result: number (from 1), learning rate, frames and their number of atoms."""

    number: int
    learning_rate: float
    frames: np.ndarray
    atoms: int
    result: Step


class Trainer:
    """Trains a copy of a potential, a step at a time.

    Args:
        config: all settings.
        start: the potential at step 0; it is not changed.
        train: training frames.
        val: validation frames; the best epoch is the one with the lowest weighted loss on them.
        engine: device and processes.
        method: how the network is trained, with ``config.method`` as its settings.
        crystals: structures for replay besides those of the training frames.
    """

    def __init__(
        self,
        config: TransferConfig,
        start: Potential,
        train: Frames,
        val: Frames,
        engine: Engine,
        method: Adaptation,
        crystals: Frames | None = None,
    ):
        self.config, self.start, self.engine, self.method = config, start, engine, method
        network = start.copy().model.to(engine.device)
        groups = adapt(network, method, config.method, config.seed)
        self.penalty = method.make_penalty(start, train, config.method, config.seed)
        rate = method.references_rate(config.method, config.learning_rate)
        self.elements = train.elements if rate is not None else None
        shift: nn.Parameter | None = None
        if self.elements is not None:
            shift = nn.Parameter(torch.zeros(len(self.elements), dtype=dtype_of(config.dtype), device=engine.device))
        self.train_data, self.val_data = self._data(train, config.frame_weights), self._data(val, None)
        if config.replay.fraction:
            self.train_data = with_replay(self.train_data, start, crystals, config.replay.fraction)
        self.train_data = method.add_frames(self.train_data, start, config.method)
        if not (config.loss.magmom and train.has("magmoms")):
            network.magmom.requires_grad_(False)  # a head that nothing teaches is not to decay either
        self.trained = Trained(network, shift)
        engine.broadcast(list(self.trained.state_dict().values()))
        self.optimizer = make_optimizer(config, groups, shift, rate)
        self.average: AveragedModel | None = None
        if config.ema_decay is not None:
            self.average = AveragedModel(self.trained, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.epoch, self.place, self.step = 0, 0, 0  # epochs done, steps done in the present one, all steps
        self.sums = ErrorSums.empty(engine.device)  # of the present epoch
        self.seconds = 0.0
        self._steps_planned = self._atoms_planned = 0
        self.history: list[dict[str, Any]] = []
        self.best_weights = self.last_weights = _copied(self.trained)
        self.best_epoch = 0
        self.best_loss = math.inf

    def _data(self, frames: Frames, weights: str | None) -> BatchSource:
        return BatchSource(
            frames=frames,
            reference_energy=self.start.references.energy(frames),
            spec=self.start.graph,
            dtype=dtype_of(self.config.dtype),
            device=self.engine.device,
            elements=self.elements,
            weights=None if weights is None else frame_weights(frames, weights),
            rank=self.engine.rank,
            world=self.engine.world,
        )

    # -- the steps of an epoch ------------------------------------------------------------------------

    def plan(self) -> list[list[np.ndarray]]:
        """The frames of each batch of each step of the present epoch: of the seed and the epoch alone."""
        batches = self.train_data.plan(self.config, self.epoch)
        return [batches[k : k + self.config.accumulate] for k in range(0, len(batches), self.config.accumulate)]

    @property
    def steps_in_epoch(self) -> int:
        """Steps of the epoch that was planned last."""
        return self._steps_planned

    @property
    def done(self) -> bool:
        """Whether all epochs are done, or waiting for a better one is over."""
        return self.epoch >= self.config.epochs or should_stop(self._losses(), self.config.early_stopping)

    def steps(self, asked: Any = None) -> Iterator[StepRecord]:
        """Iterate over the remaining steps of the present epoch, so that the caller may watch, save and stop in between.

        Args:
            asked: called before each step: whether this process was asked to stop.
        """
        plan = self.plan()
        self._steps_planned = len(plan)
        self._atoms_planned = int(sum(self.train_data.frames.n_atoms[index].sum() for step in plan for index in step))
        began = time.perf_counter()
        # on a CPU nothing overlaps: thread and step share the cores
        built = (
            map(self._build, plan[self.place :])
            if self.engine.device.type == "cpu"
            else prefetch(self._build, plan[self.place :])
        )
        for batches in built:
            frames = np.concatenate(plan[self.place])
            rate = self._set_rates(self.epoch + self.place / len(plan))
            step = train_step(
                self.engine.forward(self.trained.network),
                batches,
                self.optimizer,
                self.config.loss,
                self.engine,
                self.train_data.totals(frames),
                self.trained.shift,
                self.config.gradient_clip,
                stop_requested=bool(asked and asked()),
                penalty=partial(self.penalty, self.trained.network),
            )
            if self.average is not None:
                self.average.update_parameters(self.trained)
            self.sums.add(step.sums)
            self.place, self.step = self.place + 1, self.step + 1
            self.seconds, began = self.seconds + time.perf_counter() - began, time.perf_counter()
            yield StepRecord(self.step, rate, frames, int(self.train_data.frames.n_atoms[frames].sum()), step)

    def _build(self, step: list[np.ndarray]) -> list[TrainingBatch]:
        return list(self.train_data.batches(step))

    def _set_rates(self, epoch: float) -> float:
        factor = learning_rate_factor(self.config, epoch, self._losses())
        for group in self.optimizer.param_groups:
            group["lr"] = group["first_lr"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def _losses(self) -> list[float]:
        return [line["val"]["loss"] for line in self.history]

    # -- its end --------------------------------------------------------------------------------------

    def close_epoch(self) -> dict[str, Any]:
        """Validate after the steps of an epoch (or before any): the line of the history.

        Raises:
            NonFiniteLossError: if the loss on the validation frames is not finite; the best so far is untouched.
        """
        began = time.perf_counter()
        starting = not self.history
        settings = self.config.loss
        train = None if starting else self.sums.to_dict(settings)
        seen = 0 if starting else self._atoms_planned
        self._average_in(True)
        try:
            errors = self._evaluate()
            loss = errors.loss(settings)
            if not math.isfinite(loss):
                raise NonFiniteLossError(self.step, self._culprits(self.val_data, np.arange(len(self.val_data))))
            epoch = self.epoch if starting else self.epoch + 1
            if loss < self.best_loss:
                self.best_loss, self.best_epoch, self.best_weights = loss, epoch, _copied(self.evaluated)
            self.last_weights = _copied(self.evaluated)
        finally:
            self._average_in(False)
        self.epoch = epoch
        line = {
            "epoch": self.epoch,
            "step": self.step,
            "lr": self.optimizer.param_groups[0]["lr"],
            "seconds": self.seconds + time.perf_counter() - began,
            "atoms_per_second": seen / self.seconds if self.seconds else None,
            "train": train,
            "val": errors.to_dict(settings),
        }
        self.history.append(line)
        self.place, self.seconds, self.sums = 0, 0.0, ErrorSums.empty(self.engine.device)
        return line

    @property
    def evaluated(self) -> Trained:
        """Weights that are validated and kept: the average where there is one, else the trained ones."""
        return self.trained if self.average is None else self.average.module

    def _average_in(self, wanted: bool) -> None:
        """Schedule-free optimisers keep their average in the weights while these are not trained."""
        if self.config.optimizer == "schedulefree":
            self.optimizer.eval() if wanted else self.optimizer.train()

    def _evaluate(self) -> ErrorSums:
        model = self.evaluated
        batches = self.val_data.batches(self.val_data.plan(self.config))
        predict = partial(select(model.network).predict, model.network)
        return evaluate(predict, batches, self.config.loss, self.engine, model.shift)

    def culprits(self, frames: np.ndarray) -> np.ndarray:
        """The names of those of these training frames whose own loss is not finite; all where it is none alone."""
        return self._culprits(self.train_data, frames)

    def _culprits(self, data: BatchSource, frames: np.ndarray) -> np.ndarray:
        model, bad = self.evaluated, []
        for index in frames:
            batch = data.batch(np.array([index]))
            loss, _ = objective(model.network(batch.graph), batch.targets, batch.graph.n_atoms, self.config.loss, model.shift)
            if not math.isfinite(float(loss.detach())):
                bad.append(index)
        return data.frames.frame_id[np.array(bad or frames)]

    # -- potentials -----------------------------------------------------------------------------------

    @property
    def best(self) -> Potential:
        """The potential of the best epoch."""
        return self.potential(self.best_weights)

    @property
    def last(self) -> Potential:
        """The potential of the last epoch that was closed."""
        return self.potential(self.last_weights)

    def potential(self, weights: dict[str, Tensor]) -> Potential:
        """A potential of its own with these weights, exported, the trained change of the references folded in."""
        network = copy.deepcopy(self.trained.network)
        network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items() if name != "shift"})
        references = self.start.references
        if self.elements is not None:
            references = shifted(references, self.elements, weights["shift"].double().cpu().numpy())
        return self.start.replace(model=self.method.export(network), references=references)


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def frame_weights(frames: Frames, column: str) -> np.ndarray:
    """Weights of the frames in the loss, out of one of their extra columns ``[S]``.

    Raises:
        DataError: if there is no such column, or a weight is no number, negative, or all are 0.
    """
    if column not in frames.extras:
        known = ", ".join(frames.extras) or "none"
        raise DataError(f"the training frames have no column {column!r} for frame_weights (columns: {known})")
    try:
        weights = frames.extras[column].astype(np.float64)
    except ValueError:
        raise DataError(f"the column {column!r} for frame_weights holds text: give it numbers") from None
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise DataError(f"training frame {frames.frame_id[bad[0]]} has the weight {weights[bad[0]]}: give 0 or more")
    if not weights.any():
        raise DataError(f"all weights in the column {column!r} are 0: there is nothing to train on")
    return weights


def shifted(references: AtomRef, elements: np.ndarray, change: np.ndarray) -> AtomRef:
    """References with a change (eV/atom of each listed element ``[K]``) folded in; fitted uncertainties no longer hold."""
    values = references.values.copy()
    values[elements] += change
    return replace(references, values=values, kind="trained", stds=np.full_like(references.stds, np.nan))
