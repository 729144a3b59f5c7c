"""Training and validation steps, and nothing else: no files, no printing, no clock.

A step waits for nothing: loss, norm of the gradient and error sums stay on the device until they are read. A step
that is not finite is left out on the device itself, so that reading late does no harm.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xclimb.config import LossSettings
from xclimb.graph.batch import Batch
from xclimb.training.batches import TrainingBatch
from xclimb.training.engine import Engine
from xclimb.training.objective import ErrorSums, objective
from xclimb.training.optimizers import take_step


@dataclass(frozen=True)
class Step:
    """Result of one optimiser step, on the device.

    Args:
        loss: of all its frames.
        norm: of the gradient, before clipping.
        is_finite: whether loss and gradient were finite; if not, the step was left out.
        stop_requests: how many processes were asked to stop.
        sums: errors of its frames; zero where the step was left out.
    """

    loss: Tensor
    norm: Tensor
    is_finite: Tensor
    stop_requests: Tensor
    sums: ErrorSums


def train_step(
    forward: Callable[[Batch, bool], Any],
    batches: Iterable[TrainingBatch],
    optimizer: torch.optim.Optimizer,
    settings: LossSettings,
    engine: Engine,
    totals: dict[str, float],
    reference_shift: Tensor | None = None,
    gradient_clip: float | None = None,
    stop_requested: bool = False,
    penalty: Callable[[], Tensor | None] | None = None,
) -> Step:
    """One optimiser step: the gradients of some batches, summed over all processes.

    Args:
        forward: the network, called as ``forward(graph, derivatives)``; see :meth:`xclimb.training.engine.Engine.forward`.
        batches: this process's share of the step, maybe nothing.
        optimizer: from :func:`xclimb.training.optimizers.make_optimizer`, learning rates set.
        settings: of the loss.
        engine: the processes.
        totals: weight of the labels of each term in the whole step.
        reference_shift: trainable change of the references, eV/atom ``[K]``.
        gradient_clip: largest norm of all gradients together.
        stop_requested: whether this process was asked to stop; summed over all processes.
        penalty: scalar of the parameters that is added to the loss of the step; None, or a result of None, adds nothing.
    """
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)  # also where a label is missing: all processes send the same tensors
    loss = torch.zeros((), dtype=trained[0].dtype, device=engine.device)
    sums = ErrorSums.empty(engine.device)
    for batch in batches:
        output = forward(batch.graph, _needs_derivatives(batch, settings))
        part, errors = objective(output, batch.targets, batch.graph.n_atoms, settings, reference_shift, totals)
        if part.requires_grad:  # a batch without any label has no gradient
            part.backward()
        loss += part.detach().to(loss)
        sums.add(errors)
    extra = penalty() if penalty is not None else None
    if extra is not None:
        extra = extra / engine.world  # each process has the same one
        extra.backward()
        loss += extra.detach().to(loss)
    stop_requests = torch.full_like(loss, float(stop_requested))
    engine.all_reduce([*(p.grad for p in trained), loss, stop_requests, sums.table])
    # the norm is also the check: one NaN anywhere makes it NaN
    norm = nn.utils.clip_grad_norm_(trained, gradient_clip or math.inf)
    is_finite = torch.isfinite(norm) & torch.isfinite(loss)
    if any(totals.values()):
        take_step(optimizer, is_finite)
    sums.table = torch.where(is_finite, sums.table, torch.zeros_like(sums.table))
    return Step(loss, norm, is_finite, stop_requests, sums)


def evaluate(
    predict: Callable[[Batch, bool], Any],
    batches: Iterable[TrainingBatch],
    settings: LossSettings,
    engine: Engine,
    shift: Tensor | None = None,
) -> ErrorSums:
    """Error sums over the batches of all processes, without training; the mean does not depend on how frames are batched.

    Args:
        predict: the network, called as ``predict(graph, derivatives)``.
        batches: this process's share.
        settings: of the loss.
        engine: the processes.
        shift: change of the references, eV/atom ``[K]``.
    """
    sums = ErrorSums.empty(engine.device)
    fixed = None if shift is None else shift.detach()
    for batch in batches:
        derivatives = bool(batch.targets.counts["forces"] or batch.targets.counts["stress"])
        with torch.no_grad():
            output = predict(batch.graph, derivatives)
            sums.add(objective(output, batch.targets, batch.graph.n_atoms, settings, fixed)[1])
    engine.all_reduce([sums.table])
    return sums


def _needs_derivatives(batch: TrainingBatch, settings: LossSettings) -> bool:
    """Whether the loss wants forces or stress that this batch has labels for: if not, no gradient of a gradient is built."""
    counts = batch.targets.counts
    return bool((settings.force and counts["forces"]) or (settings.stress and counts["stress"]))
