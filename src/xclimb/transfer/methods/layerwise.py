"""Layer-wise learning rates (ULMFiT, Howard and Ruder, arXiv 1801.06146): from the readout down to the embedding they fall
geometrically, and layers chosen by name are frozen.
"""

from collections.abc import Container
from typing import TYPE_CHECKING

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered

if TYPE_CHECKING:
    from torch.nn import Module, Parameter

    from xclimb.training.adaptation import ParameterGroup


class LayerwiseSettings(MethodSettings):
    """Settings of the method ``layerwise``."""

    rate_decay: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="learning rate of a block over that of the block above it; the readout has all of it",
    )
    freeze: list[str] = Field(
        default=[], description="layers that are not trained, by patterns of their names such as 'atom_embedding' or '*norm'"
    )


@registered(
    "layerwise",
    "pre-trained weights, learning rates falling from readout to embedding; residual references, fixed",
    settings=LayerwiseSettings,
)
class Layerwise(Method):
    """Trains all layers but those that match ``freeze``, the deeper the slower."""

    def adapt(self, network: "Module", settings: LayerwiseSettings) -> "list[ParameterGroup]":  # type: ignore[override]
        """All parameters but those of the frozen layers, grouped by :func:`decaying_rates`."""
        from torch.nn import Module

        from xclimb.training.adaptation import matching_layers

        layers = matching_layers(network, settings.freeze, Module, "method.freeze")
        frozen = {id(parameter) for layer in layers.values() for parameter in layer.parameters()}
        return decaying_rates(network, settings.rate_decay, frozen)


def decaying_rates(network: "Module", decay: float, frozen: Container[int] = ()) -> "list[ParameterGroup]":
    """Group parameters by their distance from the readout, those of the readout first.

    Args:
        network: the network in training.
        decay: learning rate of a block over that of the block above it.
        frozen: ``id`` of the parameters that are not trained.
    """
    from xclimb.training.adaptation import ParameterGroup

    by_distance: dict[int, list[Parameter]] = {}
    for name, parameter in network.named_parameters():
        if id(parameter) not in frozen:
            by_distance.setdefault(distance_from_readout(network, name), []).append(parameter)
    return [ParameterGroup(by_distance[d], rate=decay**d) for d in sorted(by_distance)]


def distance_from_readout(network: "Module", name: str) -> int:
    """Number of blocks between a parameter and the readout, 0 in the readout itself.

    Blocks are the items of module lists, which are taken to run side by side; layers registered before the first list embed,
    those after it read out. A network without lists is one block.

    Args:
        network: the network.
        name: dotted name of the parameter.
    """
    from torch.nn import ModuleList

    children = dict(network.named_children())
    lists = [child for child, module in children.items() if isinstance(module, ModuleList)]
    if not lists:
        return 0
    blocks = max(len(children[child]) for child in lists)
    first, _, rest = name.partition(".")
    if first in lists:
        return blocks - int(rest.split(".")[0])
    order = list(children)
    embeds = first not in children or order.index(first) < order.index(lists[0])
    return blocks + 1 if embeds else 0
