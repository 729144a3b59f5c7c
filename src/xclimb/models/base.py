"""Interfaces of this package: outputs of a network, forces and stress by one gradient, and the backend that computes them."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xclimb.graph.batch import Batch


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
