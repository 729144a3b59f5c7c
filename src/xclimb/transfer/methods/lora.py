"""Low-rank adaptation (LoRA, Hu et al., arXiv 2106.09685): ``W + alpha / rank * B A``, with W frozen and B zero at step 0.

The update is a parametrization of the weight, so that every path that computes the network reads the effective weight.
"""

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from xclimb.training.adaptation import ParameterGroup


class LoRASettings(MethodSettings):
    """Settings of the method ``lora``."""

    rank: int = Field(default=8, ge=1, description="rank of the updates")
    alpha: float = Field(default=8.0, gt=0, description="scale of the updates: alpha / rank times B A")
    targets: list[str] = Field(
        default=["*"], min_length=1, description="linear layers to update, by patterns of their names such as 'atom_convs.*'"
    )


@registered("lora", "pre-trained weights, low-rank updates trained; residual references, fixed", settings=LoRASettings)
class LoRA(Method):
    """Trains low-rank updates of the linear layers that match ``targets``; all pre-trained parameters are frozen."""

    def adapt(self, network: "Module", settings: LoRASettings) -> "list[ParameterGroup]":  # type: ignore[override]
        """Parametrize the weights of the matching layers."""
        import torch
        from torch import nn
        from torch.nn.utils.parametrize import register_parametrization

        from xclimb.training.adaptation import ParameterGroup, Reparametrization, matching_layers

        function = partial(_updated, settings.alpha / settings.rank)
        parameters = []
        for layer in matching_layers(network, settings.targets, nn.Linear, "method.targets").values():
            rows, columns = layer.weight.shape
            a = nn.init.kaiming_uniform_(torch.empty(settings.rank, columns), a=5**0.5)
            update = Reparametrization(function, a=a.to(layer.weight), b=layer.weight.new_zeros(rows, settings.rank))
            register_parametrization(layer, "weight", update)
            parameters += update.parameters()
        return [ParameterGroup(parameters)]

    def export(self, network: "Module") -> "Module":
        """Merge the updates into the weights."""
        from xclimb.training.adaptation import merge_parametrizations

        return merge_parametrizations(network)


def _updated(scale: float, weight: "Tensor", a: "Tensor", b: "Tensor") -> "Tensor":
    return weight + scale * (b @ a)
