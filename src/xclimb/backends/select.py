"""Choice of the backend: the eager PyTorch path, or in float32 the fused kernels that the architecture names for a device.

The fused kernels are taken where they can compute the network; ``XCLIMB_BACKEND=eager`` in the environment never takes them.
Both compute the same function and keep the same tolerances.
"""

import logging
import os
import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import nn

from xclimb.errors import ConfigError, XclimbWarning
from xclimb.graph.batch import Batch
from xclimb.models.base import Backend, NetworkSum, Output, architecture_of
from xclimb.models.multifidelity import MultiFidelity

_LOG = logging.getLogger(__name__)
_SLOWER = "it is computed by the eager path, which is slower"


def select(network: nn.Module) -> Backend:
    """The fastest backend that can compute a network, as it is now.

    Warns:
        XclimbWarning: once for each layer that the fused kernels of an architecture do not know.

    Raises:
        ConfigError: on another value of ``XCLIMB_BACKEND`` than ``auto`` (the default), ``eager`` and ``fused``.
    """
    if _requested() == "eager":
        return _eager("XCLIMB_BACKEND")
    if isinstance(network, NetworkSum):
        return Backend(select(network.parts[-1]).name, _sum_predict, _sum_forward)
    if isinstance(network, MultiFidelity):
        return Backend(select(network.base).name, _level_predict, _level_forward)
    modules = architecture_of(network).backends
    if not modules:
        return _eager(f"no faster backend for {type(network).__name__}")
    weight = next(network.parameters())
    if weight.device.type not in modules or weight.dtype != torch.float32:
        return _eager(f"{weight.device.type}, {str(weight.dtype).removeprefix('torch.')}")
    if torch.is_autocast_enabled(weight.device.type):
        return _eager("autocast")
    kernels = _kernels(modules[weight.device.type])
    if isinstance(kernels, str):
        return _eager(kernels)
    if size := kernels.unsupported_size(network.config):
        _log_once(size)
        return _eager(size)
    if layer := kernels.unknown_layer(network):
        _warn_once(layer)
        return _eager(layer)
    return Backend(kernels.NAME, kernels.predict, kernels.forward)


def _requested() -> str:
    requested = os.environ.get("XCLIMB_BACKEND") or os.environ.get("XCLIMB_PATH") or "auto"  # the latter: its first name
    requested = {"plain": "eager"}.get(requested, requested)
    if requested not in ("auto", "eager", "fused"):
        raise ConfigError(f"XCLIMB_BACKEND={requested!r} is not a backend: use 'auto', 'eager' or 'fused', or unset it")
    return requested


def _eager(reason: str) -> Backend:
    return Backend(f"eager ({reason})", _eager_predict, _eager_forward)


def _eager_predict(network: nn.Module, batch: Batch, derivatives: bool = True) -> Output:
    output: Output = network(batch, derivatives=derivatives)
    return output


def _eager_forward(network: nn.Module, batch: Batch, derivatives: bool = True) -> Output:
    output: Output = network(batch, create_graph=True, derivatives=derivatives)
    return output


def _sum_predict(network: NetworkSum, batch: Batch, derivatives: bool = True) -> Output:
    return _added([select(part).predict(part, batch, derivatives) for part in network.parts])


def _sum_forward(network: NetworkSum, batch: Batch, derivatives: bool = True) -> Output:
    outputs = []
    for part in network.parts:
        backend = select(part)
        is_trained = any(parameter.requires_grad for parameter in part.parameters())
        outputs.append((backend.forward if is_trained else backend.predict)(part, batch, derivatives))
    return _added(outputs)


def _added(outputs: list[Output]) -> Output:
    """Output of a sum of networks from those of its parts."""
    computed = {name: [getattr(output, name) for output in outputs] for name in ("site_energies", "energy", "forces", "stress")}
    sums = {name: None if values[0] is None else torch.stack(values).sum(dim=0) for name, values in computed.items()}
    return Output(**sums, magmoms=outputs[-1].magmoms)


def _level_predict(network: MultiFidelity, batch: Batch, derivatives: bool = True) -> Output:
    with network.at_level(batch.level) as at_level:
        return select(at_level).predict(at_level, batch, derivatives)


def _level_forward(network: MultiFidelity, batch: Batch, derivatives: bool = True) -> Output:
    with network.at_level(batch.level) as at_level:
        return select(at_level).forward(at_level, batch, derivatives)


@cache
def _kernels(module: str) -> ModuleType | str:
    """The fused kernels of a module, or the reason why they cannot be imported."""
    try:
        return import_module(module)
    except ModuleNotFoundError:
        return "without numba: pip install 'xclimb[fast]' for faster predictions"
    except (ImportError, RuntimeError) as error:  # numba and NumPy do not fit, or no folder for compiled code
        return f"numba cannot be used: {error}"


@cache
def _log_once(reason: str) -> None:
    _LOG.warning("%s: %s", reason, _SLOWER)


@cache
def _warn_once(reason: str) -> None:
    warnings.warn(f"{reason}: {_SLOWER}", XclimbWarning, stacklevel=4)
