"""Transfer by a correction: the source stays as it is, and a second network is added to it.

This is Δ-learning (Ramakrishnan et al., J. Chem. Theory Comput. 11, 2087 (2015)) with the source as the lower level. The
correction begins as a copy of the source whose energies are zero, by zero weights of the last layer.
"""

from typing import TYPE_CHECKING

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered

if TYPE_CHECKING:
    from torch.nn import Module

    from xclimb.data.frames import Frames
    from xclimb.models.potential import Potential
    from xclimb.training.adaptation import ParameterGroup


@registered("delta", "frozen pre-trained network plus a second one, trained; residual references, fixed")
class Delta(Method):
    """Trains the second network of a sum; magnetic moments are those of the second, which begin as those of the source."""

    def prepare(self, source: "Potential", train: "Frames", settings: MethodSettings, seed: int) -> "Potential":
        """Add the correction to the source."""
        import copy

        from torch.nn.init import zeros_

        from xclimb.errors import ConfigError
        from xclimb.models.base import NetworkSum, sum_networks
        from xclimb.models.potential import Potential

        potential = super().prepare(source, train, settings, seed)
        network = potential.model
        correction = copy.deepcopy(network.parts[-1] if isinstance(network, NetworkSum) else network)
        if (last := correction.energy_layer) is None:
            kind = type(correction).__name__
            raise ConfigError(f"method 'delta' needs a network whose energies have a last layer, {kind} names none: use 'lora'")
        for parameter in last.parameters():
            zeros_(parameter)
        return Potential(sum_networks([network, correction]), potential.references, potential.theory, potential.name)

    def adapt(self, network: "Module", settings: MethodSettings) -> "list[ParameterGroup]":
        """Group the parameters of the correction."""
        from xclimb.training.adaptation import ParameterGroup

        return [ParameterGroup(list(network.parts[-1].parameters()))]
