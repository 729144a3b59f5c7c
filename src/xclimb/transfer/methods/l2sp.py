"""Transfer towards few data: informed references, averaged weights, a pull to the pre-trained ones, slow lower layers.

The penalty is L2-SP (Li, Grandvalet and Davoine, arXiv 1802.01483): a Gaussian prior of the weights around the
pre-trained ones. Against the mean loss of N frames it counts ``strength / N``, so that it fades as data come.
Few crystals bend what the lower layers say of environments that none of them has; with learning rates that fall towards the
embedding (Howard and Ruder, arXiv 1801.06146) the upper ones learn the most.
"""

from typing import TYPE_CHECKING

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered
from xclimb.transfer.methods.layerwise import decaying_rates

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from xclimb.training.adaptation import ParameterGroup


class L2SPSettings(MethodSettings):
    """Settings of the method ``l2sp``."""

    strength: float = Field(
        default=0.1,
        ge=0,
        description="pull to the start: strength / number of training frames times the squared distance of the weights",
    )
    rate_decay: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="learning rate of a block over that of the block above it; the readout has all of it",
    )


@registered(
    "l2sp",
    "pre-trained weights, held near by a penalty, averaged over steps; informed references, fixed",
    settings=L2SPSettings,
    references="informed",
    folds=4,
    recipe={
        "epochs": 25,
        "batch_size": 8,
        "ema_decay": 0.99,
        "loss": {"kind": "mae", "energy": 1.0, "force": 3.0, "stress": 0.2, "magmom": 10.0},
    },
)
class L2SP(Method):
    """Trains all weights, the deeper the slower, with a penalty on their distance from the start."""

    def adapt(self, network: "Module", settings: L2SPSettings) -> "list[ParameterGroup]":  # type: ignore[override]
        """Group the parameters by their distance from the readout."""
        return decaying_rates(network, settings.rate_decay)

    def penalty(self, network: "Module", start: "Module", settings: L2SPSettings, n_train: int) -> "Tensor | None":  # type: ignore[override]
        """Squared distance from the weights of step 0, over all of them."""
        return settings.strength / n_train * squared_distance(network, start) if settings.strength else None


def squared_distance(network: "Module", start: "Module", weights: "dict[str, Tensor] | None" = None) -> "Tensor":
    """Squared distance of the trained parameters of a network from those of step 0.

    Args:
        network: the network in training.
        start: the network of step 0, with parameters of the same names.
        weights: factors of the squares by name of the parameter, of its shape; None for 1.
    """
    import torch

    origin = dict(start.named_parameters())
    squares = {name: (now - origin[name].detach()).square() for name, now in network.named_parameters() if now.requires_grad}
    if weights is not None:
        squares = {name: weights[name] * square for name, square in squares.items()}
    return torch.stack([square.sum() for square in squares.values()]).sum()
