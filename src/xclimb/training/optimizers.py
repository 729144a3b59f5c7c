"""Optimisers, their learning rates over the training, and when to stop."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xclimb.config import TransferConfig
from xclimb.errors import ConfigError


def make_optimizer(config: TransferConfig, model: nn.Module, shift: nn.Parameter | None = None) -> torch.optim.Optimizer:
    """The optimiser over the network's trainable parameters and, with their own rate and no decay, the references.

    Raises:
        ConfigError: if the optimiser's package is not installed.
    """
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": config.learning_rate}]
    if shift is not None:
        groups.append({"params": [shift], "lr": config.references_lr or config.learning_rate, "weight_decay": 0.0})
    for group in groups:
        group["first_lr"] = group["lr"]
    if config.optimizer == "schedulefree":
        try:
            from schedulefree import AdamWScheduleFree
        except ImportError:
            raise ConfigError("optimizer 'schedulefree' needs a package: pip install 'xclimb[schedulefree]'") from None
        free = AdamWScheduleFree(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        free.train()
        return free
    # fused: one kernel a step, which can also leave the step out without asking the host, see take_step
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
    return torch.optim.Adam(groups, fused=True)


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
