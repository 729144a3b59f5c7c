"""Which path a prediction or a step of training takes: plain PyTorch, or on a CPU in float32 the fused kernels.

They are taken when numba is there for them; ``XCLIMB_PATH=plain`` or ``fused`` in the environment decides otherwise. Both
paths compute the same function and keep the same tolerances.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch

from xclimb.errors import ConfigError
from xclimb.graph import Batch
from xclimb.models.layers import Updates, as_written

if TYPE_CHECKING:
    from xclimb.models.chgnet import CHGNet, Output

WIDTH = 64  # of every CHGNet that was published, and of the kernels


def path_of(model: "CHGNet") -> str:
    """``"fused (numba)"``, or ``"plain"`` and why.

    Raises:
        ConfigError: on another value of ``XCLIMB_PATH`` than ``auto`` (the default), ``fused`` and ``plain``.
    """
    wanted = os.environ.get("XCLIMB_PATH") or "auto"
    if wanted not in ("auto", "fused", "plain"):
        raise ConfigError(f"XCLIMB_PATH={wanted!r} is not a path: use 'auto', 'fused' or 'plain', or unset it")
    if wanted == "plain":
        return "plain (XCLIMB_PATH)"
    weight = model.atom_embedding.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"plain ({weight.device.type}, {str(weight.dtype).removeprefix('torch.')})"
    if torch.is_autocast_enabled("cpu"):
        return "plain (autocast)"
    if model.config.width != WIDTH:
        return f"plain (the fused kernels are made for a width of {WIDTH}, this network has {model.config.width})"
    if max(model.config.n_radial, model.config.n_angular) > WIDTH:
        return f"plain (the fused kernels have room for {WIDTH} basis functions)"
    missing = _what_is_missing()
    return f"plain ({missing})" if missing else "fused (numba)"


def evaluator_of(model: "CHGNet") -> "Callable[[Batch, bool], Output]":
    """The network as a function of a batch and of whether derivatives are wanted, on the path of :func:`path_of`."""
    if path_of(model).startswith("plain"):
        return lambda batch, derivatives: model(batch, derivatives=derivatives)
    from xclimb.models.fused import outputs

    return lambda batch, derivatives: outputs(model, batch, derivatives)


def updates_of(model: "CHGNet") -> Updates:
    """What computes the layers where a loss on forces is trained, on the path of :func:`path_of`."""
    if path_of(model).startswith("plain"):
        return as_written
    from xclimb.models.fused.training import Joined

    return Joined()


@cache
def _what_is_missing() -> str:
    """Why the kernels cannot be used, or nothing."""
    try:
        import xclimb.models.fused  # noqa: F401
    except ModuleNotFoundError:
        return "without numba: pip install 'xclimb[fast]' for faster predictions"
    except (ImportError, RuntimeError) as error:  # numba and NumPy do not fit, or nowhere to keep what is compiled
        return f"numba cannot be used: {error}"
    return ""
