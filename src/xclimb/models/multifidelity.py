"""One network for several functionals: a bias of each functional in its linear layers.

A one-hot vector of the functional, appended to the input of a linear layer (SevenNet-MF, Kim et al., arXiv 2409.07947), adds a
row of a matrix to its output:

    W x + b  ->  W x + b + T_k        k: number of the functional, T: [levels, outputs] of the layer

so that at one functional the network is an ordinary one with other biases (:meth:`MultiFidelity.fold`).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xclimb.data.theory import LevelOfTheory
from xclimb.graph.batch import Batch
from xclimb.models.base import COMPOSITES, Architecture, CompositeNetwork, Network, architecture_of, composite
from xclimb.references import AtomRef

PREFIX = "multi-fidelity "


@dataclass(frozen=True, eq=False)
class Level:
    """Elemental references and level of theory of one functional of a potential."""

    references: AtomRef
    theory: LevelOfTheory


class MultiFidelity(CompositeNetwork):
    """A network with a row of task weights for each functional in every linear layer that has a bias.

    A batch is of one functional, ``batch.level``; the first is the default.

    Args:
        config: the hyperparameters of the network inside, and the number of functionals ``n_levels``.
    """

    def __init__(self, config: Any):
        super().__init__(config)
        self.base = self.make_part()
        self.tasks = _task_weights(self.base, config.n_levels)

    @property
    def n_levels(self) -> int:
        """Number of functionals."""
        return int(self.config.n_levels)

    @property
    def composed_of(self) -> tuple[str, Network]:
        """The network inside."""
        return PREFIX, self.base

    @property
    def layers(self) -> list[nn.Module]:
        """Those of the network inside."""
        return self.base.layers

    @property
    def magmom(self) -> nn.Module:
        """Layer of the magnetic moments."""
        magmom: nn.Module = self.base.magmom
        return magmom

    @contextmanager
    def at_level(self, level: int) -> Iterator[Network]:
        """The network inside with the biases of a functional, differentiable with respect to bias and task weights."""
        layers = biased_layers(self.base)
        own = {name: layer._parameters["bias"] for name, layer in layers.items()}
        try:
            for name, layer in layers.items():
                layer._parameters["bias"] = layer.bias + self.tasks[_key(name)][level]
            yield self.base
        finally:
            for name, layer in layers.items():
                layer._parameters["bias"] = own[name]

    def fold(self, level: int) -> Network:
        """A copy of the network inside with the biases of a functional."""
        network = copy.deepcopy(self.base)
        with torch.no_grad():
            for name, layer in biased_layers(network).items():
                layer.bias += self.tasks[_key(name)][level]
        return network

    def sites(self, batch: Batch, vectors: Float[Tensor, "bonds 3"]) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms"]]:
        """Site energies (eV) and magnetic moments (µB) at the functional of the batch."""
        with self.at_level(batch.level) as network:
            return network.sites(batch, vectors)

    def task_weights(self, layer: str) -> nn.Parameter | None:
        """Task weights ``[levels, outputs]`` of a layer of the network inside, by its name; None if it has no bias."""
        return self.tasks.get(_key(layer), None)


def with_levels(network: Network, n_levels: int) -> MultiFidelity:
    """The network, which is taken and not copied, with task weights of zero for so many functionals."""
    architecture = multi_fidelity_of(architecture_of(network))
    with torch.device("meta"):
        multi: MultiFidelity = architecture.network(architecture.config(**asdict(network.config), n_levels=n_levels))
    multi.base, multi.tasks = network, _task_weights(network, n_levels)
    return multi


def multi_fidelity_of(architecture: Architecture) -> Architecture:
    """The architecture of networks for several functionals with a network of another one inside."""
    return composite(MultiFidelity, architecture, PREFIX, "for several functionals", "n_levels")


COMPOSITES[PREFIX] = multi_fidelity_of


def biased_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers with a bias, by name."""
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear)}
    return {name: layer for name, layer in layers.items() if layer.bias is not None}


def _task_weights(network: Network, n_levels: int) -> nn.ParameterDict:
    layers = biased_layers(network)
    return nn.ParameterDict(
        {_key(n): nn.Parameter(layer.bias.new_zeros(n_levels, len(layer.bias))) for n, layer in layers.items()}
    )


def _key(layer: str) -> str:
    """Name of a layer in a dictionary of parameters, which allows no dot."""
    return layer.replace(".", "/")
