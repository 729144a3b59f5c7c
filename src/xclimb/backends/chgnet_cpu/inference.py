"""CHGNet for predictions, with a hand-written backward pass: the equations of :mod:`xclimb.models.chgnet.layers`, with less
memory traffic.

Only the readout, a small part of the work, is that of the network itself. Before it every step returns its result and
its backward function, as in automatic differentiation but without its bookkeeping: gradients are accumulated in place, and
activations that cost less to compute again are not saved.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from xclimb.backends.chgnet_cpu.buffers import empty, retained_buffers, tune_allocator, zeros
from xclimb.backends.chgnet_cpu.embedding import embed
from xclimb.backends.chgnet_cpu.rows import (
    CACHE_BYTES,
    ActivationCache,
    add_gradients,
    add_messages,
    angle_rows,
    bond_rows,
    edge_gradients,
    edge_inputs,
    with_own_totals,
)
from xclimb.backends.chgnet_cpu.vectors import WIDTH
from xclimb.backends.chgnet_cpu.weights import LayerGradient, Packed, packed_weights
from xclimb.backends.chgnet_cpu.workers import torch_on_one_thread
from xclimb.graph.batch import Batch
from xclimb.models.base import Output, forces_and_stress, per_system
from xclimb.models.chgnet.layers import AngleUpdate, AtomConv, BondConv, LineGraph
from xclimb.models.chgnet.network import CHGNet, line_graph

FEW_BONDS = 4096  # up to so many short bonds, their projections onto the messages of angles are saved too (6 MB an update)


@dataclass
class Gradients:
    """Gradients of the sum of all energies with respect to the features, as far as the backward pass has come."""

    atoms: Float32[Tensor, "atoms width"]
    bonds: Float32[Tensor, "bonds width"]
    atom_weights: Float32[Tensor, "bonds width"]
    bond_weights: Float32[Tensor, "short width"]
    angles: Float32[Tensor, "directions angles width"] | None = None  # None: zero so far


Backward = Callable[[Gradients], None]


def predict(model: CHGNet, batch: Batch, derivatives: bool = True) -> Output:
    """``model(batch, derivatives=derivatives)``, on a CPU in float32, on as many threads as torch has.

    Args:
        model: the network, of width 64; its parameters get no gradient.
        batch: the graph of the crystals.
        derivatives: False leaves out forces and stress.
    """
    tune_allocator()
    with torch_on_one_thread(), retained_buffers():
        return _predict(model, batch, derivatives)


def _predict(model: CHGNet, batch: Batch, derivatives: bool) -> Output:
    packed, line = packed_weights(model), line_graph(batch)
    with torch.no_grad():
        features, embedding_backward = embed(packed, batch)
        rows = _Rows(batch, line, CACHE_BYTES if derivatives else 0)
        atoms, magnetic, tape = _updates(model, packed, batch, rows, *features)
        magmoms = model.magmoms(magnetic)  # [A]
    with torch.set_grad_enabled(derivatives):
        atoms.requires_grad_(derivatives)
        site_energies = model.site_energies(atoms)  # [A]
        energy = per_system(site_energies, batch)  # [S]
    if not derivatives:
        return Output(site_energies, energy, magmoms)
    (g_atoms,) = torch.autograd.grad(energy, atoms, torch.ones_like(energy))  # [A, F]
    with torch.no_grad():
        gradient = _backward(tape, g_atoms, batch, embedding_backward)  # dE / d vector, [B, 3]
        forces, stress = forces_and_stress(batch, gradient)
    return Output(site_energies.detach(), energy.detach(), magmoms, forces.float(), stress.float())


def _updates(
    model: CHGNet,
    packed: Packed,
    batch: Batch,
    rows: "_Rows",
    bonds: Tensor,
    atom_weights: Tensor,
    bond_weights: Tensor,
    angles: Tensor,
) -> tuple[Tensor, Tensor, list[Backward]]:
    """Atoms after all updates and after all but the last, ``[A, F]`` each, and the backward functions."""
    atoms = model.atom_embedding(batch.numbers - 1)  # [A, F]
    magnetic, tape = atoms, []
    for block, atom_conv in enumerate(model.atom_convs):
        magnetic = atoms  # magnetic moments are read before the last block
        atoms, backward = _atom_conv(atom_conv, packed, rows, atoms, bonds, atom_weights)
        tape.append(backward)
        if block < len(model.bond_convs):
            bonds, backward = _bond_conv(model.bond_convs[block], packed, rows, atoms, bonds, bond_weights, angles)
            tape.append(backward)
        if block < len(model.angle_updates):
            angles, backward = _angle_update(model.angle_updates[block], packed, rows, atoms, bonds, angles)
            tape.append(backward)
    return atoms, magnetic, tape


def _backward(tape: list[Backward], g_atoms: Tensor, batch: Batch, embedding_backward: Callable) -> Float64[Tensor, "bonds 3"]:
    """Gradient with respect to the bond vectors from that with respect to the last atom features."""
    of_bonds = _zeros(2, len(batch.centres), WIDTH)  # of features and of weights, which have one expansion
    gradients = Gradients(g_atoms, of_bonds[0], of_bonds[1], _zeros(batch.n_short, WIDTH))
    while tape:
        tape.pop()(gradients)  # the activations of the step are freed with it
    angles = _zeros(1, len(batch.first), WIDTH) if gradients.angles is None else gradients.angles
    gradient: Tensor = embedding_backward(of_bonds, gradients.bond_weights, angles)
    return gradient


# -- the updates ----------------------------------------------------------------------------------------


class _Rows:
    """Index arrays of the rows of each update, and the cache of their activations."""

    def __init__(self, batch: Batch, line: LineGraph, cache_bytes: int):
        self.cache = ActivationCache(cache_bytes)
        self.centres, self.neighbours = batch.centres[: batch.n_short].numpy(), batch.neighbours[: batch.n_short].numpy()
        self.n_short = batch.n_short
        self.bonds, self.angles = bond_rows(batch.centres, batch.neighbours), angle_rows(line)
        self.angle_rows = with_own_totals(self.angles)  # an angle update has a total for every row, of weight 1
        self.angle_centres = line.centres[line.first].numpy()  # ascending; of each edge all angles are at one atom


def _atom_conv(
    layer: AtomConv, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor
) -> tuple[Tensor, Backward]:
    """:meth:`AtomConv.forward`: a row is a direction of a bond."""
    inputs = _arrays(layer.centre(atoms), layer.neighbour(atoms), bonds[None], weights)  # [A, 2F], [A, 2F], [1, B, F]
    total, message = _zeros(*atoms.shape), packed.messages[layer]  # [A, F]
    saved = rows.cache.allocate(rows.bonds, message)
    add_messages(rows.bonds, inputs, message, saved, total.numpy(), unique_totals=False)

    def backward(g: Gradients) -> None:
        g_total = (g.atoms @ layer.out.weight).numpy()  # [A, F]
        g_own, g_other = zeros(inputs[0].shape), zeros(inputs[1].shape)
        sums = [g_own, g_other, g.atom_weights.numpy(), *LayerGradient.none()]
        add_gradients(
            rows.bonds, inputs, message, saved, g_total, g.bonds[None].numpy(), sums, accumulate=True, unique_weights=True
        )
        g.atoms.addmm_(torch.from_numpy(g_own), layer.centre.weight)
        g.atoms.addmm_(torch.from_numpy(g_other), layer.neighbour.weight)

    return atoms + layer.out(total), backward


def _bond_conv(
    layer: BondConv, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor, angles: Tensor
) -> tuple[Tensor, Backward]:
    """:meth:`BondConv.forward`: a row is an angle seen from one of its edges.

    Short bonds are updated in place where the others stay as they are; the backward pass restores them.
    """
    short = bonds[: rows.n_short]
    edges = _Edges(layer, packed, rows, atoms, short)
    along, message = _arrays(angles, weights), packed.messages[layer]
    saved = rows.cache.allocate(rows.angles, message)
    before, total = short.clone(), _zeros(*short.shape)  # [s, F] each
    add_messages(rows.angles, (*edges.inputs(), *along), message, saved, total.numpy(), unique_totals=False)

    def backward(g: Gradients) -> None:
        short.copy_(before)
        g_total = g.bonds[: rows.n_short] @ layer.out.weight  # [s, F], of total * weights
        g.bond_weights.addcmul_(g_total, total)
        accumulate = g.angles is not None
        if g.angles is None:
            g.angles = angles  # which are not read after this: their gradient takes their memory
        inputs, g_edges, g_angles = (*edges.inputs(), *along), edges.zeros(), g.angles[: len(angles)].numpy()
        sums = [*g_edges, g.bond_weights.numpy(), *LayerGradient.none()]
        add_gradients(
            rows.angles,
            inputs,
            message,
            saved,
            (g_total * weights).numpy(),
            g_angles,
            sums,
            accumulate,
            groups=rows.angle_centres,
        )
        edges.backward(g, *g_edges)

    if layer.out.bias is not None:
        return layer.updated(bonds, total, weights), backward
    short.addmm_(total * weights, layer.out.weight.t())
    return bonds, backward


def _angle_update(
    layer: AngleUpdate, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, angles: Tensor
) -> tuple[Tensor, Backward]:
    """:meth:`AngleUpdate.forward`: messages are added to the angles themselves."""
    edges = _Edges(layer, packed, rows, atoms, bonds[: rows.n_short])
    along, message = _arrays(angles, torch.ones(1, WIDTH)), packed.messages[layer]
    saved = rows.cache.allocate(rows.angles, message)
    updated = torch.from_numpy(empty((2, *angles.shape[1:])))  # [2, G, F]
    totals = updated.view(-1, WIDTH).numpy()  # [2G, F]
    add_messages(rows.angle_rows, (*edges.inputs(), *along), message, saved, totals, unique_totals=True, residual=True)

    def backward(g: Gradients) -> None:
        assert g.angles is not None, "a bond convolution follows every angle update"
        g_total = g.angles.view(-1, WIDTH).numpy()  # [2G, F]
        # a row of its own for each direction, or where both see the same angle, the first's for that of both
        inputs, g_edges, g_angles = (*edges.inputs(), *along), edges.zeros(), g.angles[: len(angles)].numpy()
        sums = [*g_edges, zeros((1, WIDTH)), *LayerGradient.none()]
        add_gradients(
            rows.angle_rows, inputs, message, saved, g_total, g_angles, sums, accumulate=True, groups=rows.angle_centres
        )
        edges.backward(g, *g_edges)

    return updated, backward


class _Edges:
    """Projections of short edges onto the messages of one update; cheap, so saved for the backward pass only if few."""

    def __init__(self, layer: BondConv | AngleUpdate, packed: Packed, rows: _Rows, atoms: Tensor, short: Tensor):
        self._centre, self._weights, self._short = layer.project.centre, packed.edges[layer], short
        self._at_centres, self._endpoints = self._centre(atoms), (rows.centres, rows.neighbours)  # [A, 2F]
        self._saved: tuple[np.ndarray, np.ndarray] | None = None

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`AngleProjection.edges`: ``[2s, 2F]`` and ``[s, 2F]``, of the short bonds as they were when this was made."""
        if self._saved is not None:
            return self._saved
        own, other = (empty(shape) for shape in self._shapes)
        edge_inputs(self._short.numpy(), self._at_centres.numpy(), self._endpoints, self._weights, own, other)
        self._saved = (own, other) if len(self._short) <= FEW_BONDS else None
        return own, other

    def zeros(self) -> tuple[np.ndarray, np.ndarray]:
        """Arrays for the gradients with respect to them."""
        own, other = (zeros(shape) for shape in self._shapes)
        return own, other

    def backward(self, g: Gradients, g_own: np.ndarray, g_other: np.ndarray) -> None:
        """Add the gradients with respect to bonds and atoms."""
        g_at_centres = _zeros(*self._at_centres.shape)
        g_short = g.bonds[: len(self._short)].numpy()
        edge_gradients(g_own, g_other, self._endpoints, self._weights, g_short, g_at_centres.numpy())
        g.atoms.addmm_(g_at_centres, self._centre.weight)

    @property
    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (2 * len(self._short), 2 * WIDTH), (len(self._short), 2 * WIDTH)


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _zeros(*shape: int) -> Tensor:
    return torch.from_numpy(zeros(shape))
