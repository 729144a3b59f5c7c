"""Optimisers, their learning rates over the training, and when to stop."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.training.adaptation import ParameterGroup


def make_optimizer(
    config: TransferConfig, groups: Sequence[ParameterGroup], shift: nn.Parameter | None = None, shift_rate: float | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser over the trainable parameters and, with their own rate and no decay, the references.

    Args:
        config: all settings.
        groups: of parameters of the network; those that need no gradient are left out.
        shift: trainable change of the references.
        shift_rate: its learning rate.

    Raises:
        ConfigError: if nothing is trained, a group has a weight decay that the optimiser has not, or its package is missing.
    """
    options = [options for group in groups if (options := _options(config, group))["params"]]
    if shift is not None:
        options.append({"params": [shift], "lr": shift_rate, "weight_decay": 0.0})
    if not options:
        raise ConfigError(
            f"method {config.method.name!r} trains no parameter with these settings and labels: change its settings"
        )
    for group in options:
        group["first_lr"] = group["lr"]
    if config.optimizer == "schedulefree":
        try:
            from schedulefree import AdamWScheduleFree
        except ImportError:
            raise ConfigError("optimizer 'schedulefree' needs a package: pip install 'xclimb[schedulefree]'") from None
        free = AdamWScheduleFree(options, lr=config.learning_rate, weight_decay=config.weight_decay)
        free.train()
        return free
    # fused: one kernel a step, which can also leave the step out without asking the host, see take_step
    if config.optimizer == "adamw":
        return torch.optim.AdamW(options, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(options, fused=True)


def _options(config: TransferConfig, group: ParameterGroup) -> dict[str, Any]:
    """A group as torch's optimisers take it."""
    options: dict[str, Any] = {
        "params": [p for p in group.parameters if p.requires_grad],
        "lr": config.learning_rate * group.rate,
    }
    if group.weight_decay is None:
        return options
    if config.optimizer == "adam":
        raise ConfigError(f"method {config.method.name!r} has a weight decay, optimizer 'adam' has none: use optimizer 'adamw'")
    return options | {"weight_decay": group.weight_decay}


def take_step(optimizer: torch.optim.Optimizer, usable: Tensor) -> None:
    """One step, unless ``usable`` is False: then parameters and moments stay exactly as they are.

    Adam decides that on the device, as it does for torch's gradient scaler: no accelerator waits for the host.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.grad_scale, optimizer.found_inf = None, (~usable).to(torch.float32)
        optimizer.step()
        # these kernels do not say that they change parameters in place: whoever keeps something made of them must know
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                torch.autograd.graph.increment_version(parameter)
    elif bool(usable):
        optimizer.step()


def learning_rate_factor(config: TransferConfig, epoch: float, losses: Sequence[float] = ()) -> float:
    """Factor on the learning rates at a time of the training.

    Rises linearly over ``warmup_epochs``; then cosine, ``f + (1 - f) (1 + cos(pi p)) / 2`` with p from 0 to 1 over what is
    left, or plateau, or 1.

    Args:
        config: all settings.
        epoch: epochs done, with the fraction of the present one.
        losses: validation losses of the epochs so far, from epoch 0 (plateau only).
    """
    if epoch < config.warmup_epochs:
        return (epoch + 1e-3) / (config.warmup_epochs + 1e-3)  # the first step is not lost
    low = config.final_lr_fraction
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "plateau":
        return max(low, config.plateau_factor ** count_plateaus(losses, config.plateau_patience))
    progress = min((epoch - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9), 1.0)
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def count_plateaus(losses: Sequence[float], patience: int) -> int:
    """Count how often ``patience`` epochs in a row brought no new best; the count starts again after each."""
    best, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited == patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def should_stop(losses: Sequence[float], patience: int | None) -> bool:
    """Whether the last ``patience`` epochs brought no new best."""
    return patience is not None and len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__, default=0) >= patience
