"""Transfer of the last layers: residual references, and only the readout and layers chosen by name trained."""

from typing import TYPE_CHECKING

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered

if TYPE_CHECKING:
    from torch.nn import Module

    from xclimb.training.adaptation import ParameterGroup


class HeadSettings(MethodSettings):
    """Settings of the method ``head``."""

    targets: list[str] = Field(
        default=["readout*"], min_length=1, description="layers to train, by patterns of their names such as 'atom_convs.3.*'"
    )


@registered("head", "pre-trained weights, only the last layers trained; residual references, fixed", settings=HeadSettings)
class Head(Method):
    """Trains the parameters of the layers that match ``targets``, and of the layers in these; all others are frozen."""

    def adapt(self, network: "Module", settings: HeadSettings) -> "list[ParameterGroup]":  # type: ignore[override]
        """Group the parameters of the matching layers."""
        from torch import nn

        from xclimb.training.adaptation import ParameterGroup, matching_layers

        layers = matching_layers(network, settings.targets, nn.Module, "method.targets")
        parameters = dict.fromkeys(parameter for layer in layers.values() for parameter in layer.parameters())
        return [ParameterGroup(list(parameters))]
