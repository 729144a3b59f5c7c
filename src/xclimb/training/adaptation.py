"""Adaptation of a network for training: groups of parameters, frozen ones, and weights as functions of parameters."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.models.potential import Potential

if TYPE_CHECKING:
    from xclimb.training.batches import BatchSource

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that are trained alike.

    Args:
        parameters: of the adapted network.
        rate: factor on ``learning_rate``.
        weight_decay: decoupled weight decay of this group; None: that of the settings.
    """

    parameters: list[nn.Parameter]
    rate: float = 1.0
    weight_decay: float | None = None


@runtime_checkable
class Adaptation(Protocol):
    """The part of a method of transfer that a training needs; see :class:`xclimb.transfer.methods.Method`."""

    @property
    def name(self) -> str:
        """Name of the method."""

    def adapt(self, network: nn.Module, settings: Any) -> list[ParameterGroup]:
        """Change a network for training, in place, and group the parameters to train."""

    def references_rate(self, settings: Any, learning_rate: float) -> float | None:
        """Give the learning rate of the references; None keeps them fixed."""

    def add_frames(self, data: "BatchSource", start: Potential, settings: Any) -> "BatchSource":
        """Add frames of other functionals to the training frames."""

    def make_penalty(self, start: Potential, train: Frames, settings: Any, seed: int) -> Callable[[nn.Module], Tensor | None]:
        """Build the scalar that is added to the loss of each step, as a function of the network in training."""

    def export(self, network: nn.Module) -> nn.Module:
        """Turn a copy of the adapted network into one of the original architecture."""


def adapt(network: nn.Module, method: Adaptation, settings: Any, seed: int) -> list[ParameterGroup]:
    """Adapt a network as a method does; parameters in no group are frozen. The global generators are not touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        groups = method.adapt(network, settings)
    trained = {id(parameter) for group in groups for parameter in group.parameters}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return groups


class Reparametrization(nn.Module):
    """A weight as a function of itself and of further parameters, for ``torch.nn.utils.parametrize``.

    Args:
        function: ``function(weight, **parameters)``, the effective weight.
        parameters: initial values.
    """

    def __init__(self, function: Callable[..., Tensor], **parameters: Tensor):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, weight: Tensor) -> Tensor:
        """Effective weight."""
        return self.function(weight, **self._parameters)


def merge_parametrizations(network: nn.Module) -> nn.Module:
    """Replace parametrized weights by parameters with their values, in place.

    ``torch.nn.utils.parametrize.remove_parametrizations`` changes the class of the layer, which copies of it share.
    """
    for layer in list(network.modules()):
        if is_parametrized(layer):
            values = {name: getattr(layer, name).detach() for name in layer.parametrizations}
            layer.__class__ = type_before_parametrizations(layer)
            del layer.parametrizations
            for name, value in values.items():
                layer.register_parameter(name, nn.Parameter(value))
    return network


def matching_layers(network: nn.Module, patterns: Sequence[str], kind: type[Layer], setting: str) -> dict[str, Layer]:
    """Layers of a kind whose dotted names match one of the patterns (``*`` matches any characters), by name.

    Args:
        network: the network.
        patterns: such as ``"atom_convs.*"``.
        kind: class of the layers.
        setting: name of the setting that holds the patterns, for messages.

    Raises:
        ConfigError: on a pattern without a match, naming the nearest and the layers there are.
    """
    layers = {name: layer for name, layer in network.named_modules() if name and isinstance(layer, kind)}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            names = list(dict.fromkeys(re.sub(r"\b\d+\b", "*", name) for name in layers))
            close = difflib.get_close_matches(pattern, [*layers, *names], n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"{setting}: {pattern!r} matches no layer: {hint}There are {', '.join(names)}")
    return {name: layer for name, layer in layers.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
