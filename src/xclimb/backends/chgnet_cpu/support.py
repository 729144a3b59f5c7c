"""Check whether the kernels can compute a network.

The kernels read the weights of layers without calling them. A layer that is wrapped, of another type or shape, or hooked
would be ignored in silence, so a network must have the layers that its configuration describes, and no others. A weight
that is a function of parameters (``torch.nn.utils.parametrize``) is read like any other, as its value.
"""

from functools import cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from xclimb.backends.chgnet_cpu.vectors import WIDTH
from xclimb.models.chgnet.network import CHGNet, CHGNetConfig

# parts that the network's own functions call as modules, whatever they are
_CALLED = {"atom_embedding", "readout_norm", "readout", "magmom"}


class _Snapshot(NamedTuple):
    """State of a part that decides whether the kernels can compute it."""

    part: nn.Module
    children: dict[str, nn.Module | None]
    eps: float | None  # of a norm
    altered: bool

    def holds(self) -> bool:
        """Whether the part is still in this state."""
        part = self.part
        return part._modules == self.children and part.__dict__.get("eps") == self.eps and _altered(part) == self.altered


_checked: WeakKeyDictionary[nn.Module, tuple[list[_Snapshot], str]] = WeakKeyDictionary()


def unsupported_size(config: CHGNetConfig) -> str:
    """The reason why the kernels cannot compute networks of a configuration, empty if they can."""
    if config.width != WIDTH:
        return f"the fused kernels are made for a width of {WIDTH}, this network has {config.width}"
    if max(config.n_radial, config.n_angular) > WIDTH:
        return f"the fused kernels have memory for {WIDTH} basis functions"
    return ""


def unknown_layer(network: CHGNet) -> str:
    """The layer that the kernels do not know, as the reason why they cannot compute a network; empty if they know all."""
    known = _checked.get(network)
    if known is not None and all(snapshot.holds() for snapshot in known[0]):
        return known[1]  # a full check would take a tenth of a prediction for a few atoms
    reason = _check(network)
    parts = _parts(network).values()
    snapshots = [_Snapshot(part, dict(part._modules), part.__dict__.get("eps"), _altered(part)) for part in parts]
    _checked[network] = snapshots, reason
    return reason


def _check(network: CHGNet) -> str:
    expected, present = _expected(network.config), _parts(network)
    for name, part in present.items():
        if expected.get(name) != _signature(part):
            return f"the fused kernels do not know {name or 'the network'} as it is ({type(part).__name__})"
    missing = expected.keys() - present.keys()
    return f"the fused kernels need the layer {min(missing)}, which this network does not have" if missing else ""


@cache
def _expected(config: CHGNetConfig) -> dict[str, tuple]:
    with torch.device("meta"):
        return {name: _signature(part) for name, part in _parts(CHGNet(config)).items()}


def _parts(network: CHGNet) -> dict[str, nn.Module]:
    """The network and those of its parts that the kernels compute, by name."""
    return {
        name: part
        for name, part in network.named_modules(remove_duplicate=False)
        if name.partition(".")[0] not in _CALLED and "parametrizations" not in name.split(".")
    }


def _signature(part: nn.Module) -> tuple:
    shapes = {name: None if value is None else value.shape for name, value in part._parameters.items()}
    if is_parametrized(part):
        shapes |= {name: getattr(part, name).shape for name in part.parametrizations}
    return type_before_parametrizations(part), shapes, part.__dict__.get("eps"), _altered(part)


def _altered(part: nn.Module) -> bool:
    """Whether a call does more, or something else, than the ``forward`` of the type."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in part.__dict__)
