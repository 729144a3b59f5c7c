"""Interfaces of this package: :class:`Architecture` and its registry, networks and their outputs, forces and stress by one
gradient, and the backend that computes them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from xclimb.errors import ConfigError
from xclimb.graph.batch import Batch, GraphSpec
from xclimb.references import AtomRef
from xclimb.settings import near_miss


@dataclass(frozen=True)
class Output:
    """Outputs of a network for a batch; energies without elemental references."""

    site_energies: Float[Tensor, "atoms"]  # eV
    energy: Float[Tensor, "systems"]  # eV
    magmoms: Float[Tensor, "atoms"]  # µB
    forces: Float[Tensor, "atoms 3"] | None = None  # eV/Å
    stress: Float[Tensor, "systems 3 3"] | None = None  # eV/Å^3


@dataclass(frozen=True)
class Backend:
    """An implementation of the function of a network.

    Args:
        name: ``"fused (numba)"``, or ``"eager"`` with the reason in brackets.
        predict: ``predict(network, batch, derivatives)``, outputs without a graph; forces and stress only with ``derivatives``.
        forward: the same with the graph of its gradient, so that a loss on energies, forces and stress can be trained.
    """

    name: str
    predict: Callable[[nn.Module, Batch, bool], Output]
    forward: Callable[[nn.Module, Batch, bool], Output]


def backend_of(network: nn.Module) -> Backend:
    """The backend that :func:`xclimb.backends.select.select` chooses for a network.

    Backends import the networks they accelerate, so they stand above this package, which imports them by name at the first
    prediction.
    """
    backend: Backend = import_module("xclimb.backends.select").select(network)
    return backend


class Network(nn.Module):
    """Base of networks: a function of bond vectors, :meth:`sites`, from which forces and stress follow by one gradient.

    A network is made from its configuration alone and keeps it as ``config``. Its buffers, if any, are persistent.
    """

    config: Any

    @classmethod
    def from_state(cls, config: Any, state: Mapping[str, Tensor]) -> "Network":
        """Make a network with given weights, copied; no random number is drawn for weights that are replaced at once.

        Raises:
            RuntimeError: if names or shapes of the weights are not those of the architecture.
        """
        with torch.device("meta"):
            network = cls(config)
        network.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
        return network

    @property
    def layers(self) -> list[nn.Module]:
        """Layers with nearly all of the arithmetic: those that run in bfloat16 with ``precision: bf16``; none by default."""
        return []

    @property
    def energy_layer(self) -> nn.Linear | None:
        """Last layer before the site energies and of nothing else: with zero weights they are zero; None if there is none."""
        return None

    @property
    def n_levels(self) -> int:
        """Number of functionals that it has weights for."""
        return 1

    @property
    def composed_of(self) -> "tuple[str, Network] | None":
        """Key of :data:`COMPOSITES` and a network inside, of a network that is made of others; None for any other."""
        return None

    def sites(self, batch: Batch, vectors: Float[Tensor, "bonds 3"]) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms"]]:
        """Site energies (eV) without references, and magnetic moments (µB), as functions of the bond vectors (Å)."""
        raise NotImplementedError

    def forward(self, batch: Batch, create_graph: bool = False, derivatives: bool = True) -> Output:
        """Energies, magnetic moments and, by one gradient, forces and stress.

        Args:
            batch: the graph of the crystals.
            create_graph: keep the graph of the gradient, so that a loss on forces can be trained.
            derivatives: False leaves out forces and stress.
        """
        return differentiate(partial(self.sites, batch), batch, create_graph, derivatives)


class CompositeNetwork(Network):
    """A network made of networks of one class and configuration; classes of it are made by :func:`composite`.

    Args:
        config: the hyperparameters of the parts, and one more.
    """

    part_class: type[Network]
    part_config: type

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def make_part(self) -> Network:
        """A new network of the class of the parts."""
        given = {known.name: getattr(self.config, known.name) for known in fields(self.part_config)}
        return self.part_class(self.part_config(**given))


class NetworkSum(CompositeNetwork):
    """Sum of networks of one class and configuration: energies add up, magnetic moments are those of the last part.

    Args:
        config: the hyperparameters of the parts, and their number ``n_parts``.
    """

    def __init__(self, config: Any):
        super().__init__(config)
        self.parts = nn.ModuleList(self.make_part() for _ in range(config.n_parts))

    @property
    def composed_of(self) -> tuple[str, Network]:
        """The first part."""
        return _SUM, self.parts[0]

    @property
    def layers(self) -> list[nn.Module]:
        """Those of all parts."""
        return [layer for part in self.parts for layer in part.layers]

    @property
    def energy_layer(self) -> nn.Linear | None:
        """That of the last part."""
        return self.parts[-1].energy_layer

    @property
    def magmom(self) -> nn.Module:
        """Layer of the magnetic moments."""
        return self.parts[-1].magmom

    def sites(self, batch: Batch, vectors: Float[Tensor, "bonds 3"]) -> tuple[Float[Tensor, "atoms"], Float[Tensor, "atoms"]]:
        """Sum of the site energies (eV) of all parts, and magnetic moments (µB) of the last."""
        energies, magmoms = zip(*(part.sites(batch, vectors) for part in self.parts), strict=True)
        return torch.stack(energies).sum(dim=0), magmoms[-1]


@dataclass(frozen=True)
class Pretrained:
    """Pre-trained weights that can be loaded by name.

    Args:
        summary: one line, for tables.
        read: the network, in float32, and its references with their level of theory.
    """

    summary: str
    read: Callable[[], tuple[Network, AtomRef]]


@dataclass(frozen=True)
class Architecture:
    """A kind of network, and all that the package must know of it. The first six must be given.

    Args:
        kind: unique name, as it stands in ``potential.json``.
        summary: one line, for tables.
        config: dataclass of its hyperparameters, which are numbers.
        network: class of the networks; an instance belongs to one architecture.
        graph: graph that networks of a configuration need.
        elements: atomic numbers that networks have parameters for.
        pretrained: name -> pre-trained weights.
        backends: type of device -> dotted name of a module that computes the network faster there, in float32. It has
            ``NAME``, ``predict`` and ``forward`` as in :class:`Backend`, and ``unsupported_size(config)`` and
            ``unknown_layer(network)``: the reason why it cannot compute a network, or an empty string.
        largest: largest sensible value of a hyperparameter in a file; without it, the number of weights in that file.
        packages: distributions whose versions a run records, since numbers depend on them.
    """

    kind: str
    summary: str
    config: type
    network: type[Network]
    graph: Callable[[Any], GraphSpec]
    elements: Collection[int]
    pretrained: Mapping[str, Pretrained] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    largest: Mapping[str, int | float] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    def unknown(self, numbers: np.ndarray) -> np.ndarray:
        """Whether each atomic number is none of the elements, of the shape of ``numbers``."""
        return ~np.isin(numbers, list(self.elements))

    @property
    def element_range(self) -> str:
        """Atomic numbers of the elements, for messages."""
        numbers = sorted(self.elements)
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]} to {numbers[-1]}"
        return ", ".join(map(str, numbers))


ARCHITECTURES: dict[str, Architecture] = {}
# prefix of the kind of a network made of others -> its architecture out of theirs
COMPOSITES: dict[str, Callable[[Architecture], Architecture]] = {}


def register(architecture: Architecture) -> Architecture:
    """Add an architecture to the registry.

    Raises:
        ValueError: if its kind, or a name of pre-trained weights, is taken.
    """
    for other in ARCHITECTURES.values():
        if taken := {architecture.kind, *architecture.pretrained} & {other.kind, *other.pretrained}:
            raise ValueError(f"the architecture {other.kind!r} has the name {min(taken)!r} already: give the new one another")
    ARCHITECTURES[architecture.kind] = architecture
    return architecture


def get_architecture(kind: str) -> Architecture:
    """Look up an architecture by its kind; ``"sum of <kind>"`` is that of sums of its networks.

    Raises:
        ConfigError: on an unknown kind.
    """
    for prefix, compose in COMPOSITES.items():
        if kind.startswith(prefix):
            return compose(get_architecture(kind.removeprefix(prefix)))
    if kind not in ARCHITECTURES:
        raise ConfigError(f"unknown architecture {kind!r}: {near_miss(kind, ARCHITECTURES)}")
    return ARCHITECTURES[kind]


def architecture_of(network: nn.Module) -> Architecture:
    """Look up the architecture of a network by its class.

    Raises:
        ConfigError: if its class was not registered.
    """
    if isinstance(network, Network) and (inside := network.composed_of) is not None:
        return COMPOSITES[inside[0]](architecture_of(inside[1]))
    for architecture in ARCHITECTURES.values():
        if isinstance(network, architecture.network):
            return architecture
    raise ConfigError(f"{type(network).__name__} is the network of no known architecture: register one of xclimb.models.base")


_SUM = "sum of "


def sum_of(architecture: Architecture) -> Architecture:
    """The architecture of sums of networks of an architecture; it need not be registered."""
    return composite(NetworkSum, architecture, _SUM, "sum of networks", "n_parts")


COMPOSITES[_SUM] = sum_of


def composite(network: type[CompositeNetwork], inside: Architecture, prefix: str, summary: str, number: str) -> Architecture:
    """The architecture of networks that are made of those of another one.

    Args:
        network: their class, of which one with the parts of the other architecture is derived.
        inside: the other architecture.
        prefix: of its kind in that of the new one.
        summary: what the new one makes of it.
        number: name of the hyperparameter that it has besides, a number of at most 100.
    """
    derived, config = _composite_classes(network, number, inside.network, inside.config)  # type: ignore[arg-type]
    return Architecture(
        kind=prefix + inside.kind,
        summary=f"{summary}: {inside.summary}",
        config=config,
        network=derived,
        graph=inside.graph,
        elements=inside.elements,
        largest={number: 100, **inside.largest},
        packages=inside.packages,
    )


@cache
def _composite_classes(
    network: type[CompositeNetwork], number: str, part: type[Network], config: type
) -> tuple[type[CompositeNetwork], type]:
    """Classes of composite networks and of their configurations."""
    suffix, more = network.__name__.removeprefix("Network"), [(number, int, 2)]
    derived = type(f"{part.__name__}{suffix}", (network,), {"part_class": part, "part_config": config})
    return derived, make_dataclass(f"{config.__name__}{suffix}", more, bases=(config,), frozen=True)


def sum_networks(networks: Sequence[Network]) -> NetworkSum:
    """The sum of networks of one configuration, which are taken, not copied; sums among them are taken apart."""
    parts = [part for network in networks for part in (network.parts if isinstance(network, NetworkSum) else [network])]
    architecture = sum_of(architecture_of(parts[0]))
    with torch.device("meta"):
        summed: NetworkSum = architecture.network(architecture.config(**asdict(parts[0].config), n_parts=len(parts)))
    summed.parts = nn.ModuleList(parts)
    return summed


def differentiate(
    sites: Callable[[Float[Tensor, "bonds 3"]], tuple[Tensor, Tensor]],
    batch: Batch,
    create_graph: bool = False,
    derivatives: bool = True,
) -> Output:
    """Outputs of a network that is given as a function of the bond vectors: forces and stress by one gradient.

    Args:
        sites: site energies (eV) and magnetic moments (µB) ``[A]`` each, of the bond vectors (Å) ``[B, 3]``.
        batch: the graph of the crystals.
        create_graph: keep the graph of the gradient, so that a loss on forces can be trained.
        derivatives: False leaves out forces and stress.
    """
    if not derivatives:
        site_energies, magmoms = sites(batch.vectors)
        return Output(site_energies, per_system(site_energies, batch), magmoms)
    with torch.enable_grad():
        vectors = batch.vectors.detach().requires_grad_()  # [B, 3]
        site_energies, magmoms = sites(vectors)
        energy = per_system(site_energies, batch)
        (gradient,) = torch.autograd.grad(
            energy.sum(), vectors, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )  # dE / d vector, [B, 3]
    if not create_graph:
        site_energies, energy, magmoms = site_energies.detach(), energy.detach(), magmoms.detach()
    forces, stress = forces_and_stress(batch, gradient)  # in the precision of the geometry
    return Output(site_energies, energy, magmoms, forces.to(energy.dtype), stress.to(energy.dtype))


def per_system(site_energies: Float[Tensor, "atoms"], batch: Batch) -> Float[Tensor, "systems"]:
    """Sum over the atoms of each crystal."""
    return site_energies.new_zeros(batch.n_systems).index_add(0, batch.system, site_energies)


def forces_and_stress(
    batch: Batch, gradient: Float[Tensor, "bonds 3"]
) -> tuple[Float[Tensor, "atoms 3"], Float[Tensor, "systems 3 3"]]:
    """Forces ``-dE/dx`` and stress ``(1/V) dE/d strain`` from the gradient with respect to the bond vectors.

    A bond vector is ``x_neighbour - x_centre``, and a strain e turns it into ``(1 + e) r``: the virial is ``sum r (x) dE/dr``.
    """
    forces = gradient.new_zeros(batch.numbers.shape[0], 3)  # [A, 3]
    forces = forces.index_add(0, batch.centres, gradient).index_add(0, batch.neighbours, -gradient)
    virial = batch.vectors[:, :, None] * gradient[:, None, :]  # [B, 3, 3]
    virial = gradient.new_zeros(batch.n_systems, 3, 3).index_add(0, batch.bond_system, virial)
    virial = (virial + virial.transpose(1, 2)) / 2  # symmetric but for rounding
    return forces, virial / batch.volumes[:, None, None]
