"""The steps of training and validation, and nothing else: no files, no printing, no clock."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from xclimb.config import LossSettings, TransferConfig
from xclimb.training.batches import TrainingBatch
from xclimb.training.objective import ErrorSums, objective


class NonFiniteLossError(ArithmeticError):
    """The loss or its gradient became NaN or infinite; carries the frames of the batch."""

    def __init__(self, step: int, frame_ids: np.ndarray):
        self.step, self.frame_ids = step, frame_ids
        super().__init__(f"loss not finite at step {step} (frames {', '.join(map(str, frame_ids))})")


@dataclass(frozen=True)
class Step:
    """What one optimiser step did: its number (from 1), learning rate, loss and error sums."""

    number: int
    learning_rate: float
    loss: float
    sums: ErrorSums


def learning_rate_factor(config: TransferConfig, progress: float) -> float:
    """Factor on the learning rate at the fraction ``p`` of all training: ``f + (1 - f) (1 + cos(pi p)) / 2``, or 1."""
    if config.schedule == "constant":
        return 1.0
    low = config.final_lr_fraction
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def make_optimizer(config: TransferConfig, model: nn.Module, shift: nn.Parameter | None = None) -> torch.optim.Optimizer:
    """Adam or AdamW over the network's trainable parameters and, with their own rate and no decay, the references."""
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": config.learning_rate}]
    if shift is not None:
        groups.append({"params": [shift], "lr": config.references_lr or config.learning_rate, "weight_decay": 0.0})
    for group in groups:
        group["first_lr"] = group["lr"]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    return torch.optim.Adam(groups)


def train_epoch(
    model: nn.Module,
    batches: Iterable[TrainingBatch],
    optimizer: torch.optim.Optimizer,
    factor: Callable[[int], float],
    weights: LossSettings,
    first_step: int = 0,
    reference_shift: Tensor | None = None,
    gradient_clip: float | None = None,
) -> Iterator[Step]:
    """One pass over the batches, one optimiser step each; a generator, so that the caller may watch, log and stop.

    Args:
        model: network called as ``model(graph, create_graph=True, derivatives=...)``, parameters trainable.
        batches: see :meth:`xclimb.training.batches.BatchSource.batches`.
        optimizer: from :func:`make_optimizer`; the learning rates of its groups are set before every step.
        factor: on the learning rates, of the place of the batch in this pass (from 0).
        weights: of the loss.
        first_step: number of steps done before.
        reference_shift: trainable change of the references, eV/atom ``[K]``.
        gradient_clip: largest norm of all gradients together.

    Raises:
        NonFiniteLossError: before the step is taken, so that the weights are still those of the step before.
    """
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for place, batch in enumerate(batches):
        number = first_step + place + 1
        for group in optimizer.param_groups:
            group["lr"] = group["first_lr"] * factor(place)
        output = model(batch.graph, create_graph=True, derivatives=_needs_derivatives(batch, weights))
        loss, sums = objective(output, batch.targets, batch.graph.n_atoms, weights, reference_shift)
        value = float(loss.detach())
        optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:  # a batch without any label has nothing to teach
            loss.backward()
            # the norm is also the check: one NaN anywhere makes it NaN
            norm = nn.utils.clip_grad_norm_(trained, gradient_clip or math.inf)
            if not (math.isfinite(value) and math.isfinite(float(norm))):
                raise NonFiniteLossError(number, batch.frame_ids)
            optimizer.step()
        yield Step(number, optimizer.param_groups[0]["lr"], value, sums)


def evaluate(
    model: nn.Module, batches: Iterable[TrainingBatch], weights: LossSettings, shift: Tensor | None = None
) -> ErrorSums:
    """Error sums over the batches without training; the mean does not depend on how the frames are batched.

    Args:
        model: the network.
        batches: batches to evaluate.
        weights: of the loss (its Huber delta).
        shift: change of the references, eV/atom ``[K]``.
    """
    sums = ErrorSums()
    fixed = None if shift is None else shift.detach()
    for batch in batches:
        derivatives = bool(batch.targets.counts["forces"] or batch.targets.counts["stress"])
        output = model(batch.graph, create_graph=False, derivatives=derivatives)
        with torch.no_grad():
            sums.add(objective(output, batch.targets, batch.graph.n_atoms, weights, fixed)[1])
    return sums


def _needs_derivatives(batch: TrainingBatch, weights: LossSettings) -> bool:
    """Whether the loss wants forces or stress that this batch has labels for: if not, no gradient of a gradient is built."""
    counts = batch.targets.counts
    return bool((weights.force and counts["forces"]) or (weights.stress and counts["stress"]))
