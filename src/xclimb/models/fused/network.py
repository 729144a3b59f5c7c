"""CHGNet and its gradient in one pass each, by hand: the equations of :mod:`xclimb.models.layers`, less memory traffic.

Only the readout, a small part of the work, is that of the network itself. Before it every step returns what it computes and
a function that takes the gradient through it, in the manner of automatic differentiation but without its bookkeeping:
gradients are added up in place, and nothing is kept that costs less to compute again.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from xclimb.graph import Batch
from xclimb.models.chgnet import CHGNet, Output, forces_and_stress, line_graph, per_system
from xclimb.models.fused.embedding import embed
from xclimb.models.fused.memory import empty, memory_of_one_call, zeros
from xclimb.models.fused.rows import (
    ROOM,
    Room,
    add_gradients,
    add_messages,
    angle_rows,
    apart,
    bond_rows,
    edge_gradients,
    edge_inputs,
)
from xclimb.models.fused.threads import kernels_on_all_threads
from xclimb.models.fused.weights import LayerGradient, Packed, packed_weights
from xclimb.models.layers import AngleUpdate, AtomConv, BondConv, LineGraph
from xclimb.models.paths import WIDTH

FEW_BONDS = 4096  # up to so many short bonds, what they bring to the messages of angles is kept too (6 MB an update)

# glibc gives freed memory back at once and takes fresh pages for the next call, a tenth of the time for some hundred atoms:
# let it keep up to 256 MB
with suppress(OSError, AttributeError):
    _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, 256 << 20)
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 32 << 20)


@dataclass
class Gradients:
    """Of the sum of all energies with respect to the features at the point that the way back has reached."""

    atoms: Float32[Tensor, "atoms width"]
    bonds: Float32[Tensor, "bonds width"]
    atom_weights: Float32[Tensor, "bonds width"]
    bond_weights: Float32[Tensor, "short width"]
    angles: Float32[Tensor, "sides angles width"] | None = None  # None: nothing has been added yet


Reverse = Callable[[Gradients], None]


def outputs(model: CHGNet, batch: Batch, derivatives: bool = True) -> Output:
    """What ``model(batch, derivatives=derivatives)`` gives, on a CPU in float32, on as many threads as torch has.

    Args:
        model: the network, of width 64; its parameters get no gradient.
        batch: the graph of the crystals.
        derivatives: False leaves out forces and stress.
    """
    with kernels_on_all_threads(), memory_of_one_call():
        return _outputs(model, batch, derivatives)


def _outputs(model: CHGNet, batch: Batch, derivatives: bool) -> Output:
    packed, line = packed_weights(model), line_graph(batch)
    with torch.no_grad():
        features, embedding_reverse = embed(packed, batch)
        rows = _Rows(batch, line, ROOM if derivatives else 0)
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
        gradient = _way_back(tape, g_atoms, batch, embedding_reverse)  # dE / d vector, [B, 3]
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
) -> tuple[Tensor, Tensor, list[Reverse]]:
    """Atoms after all updates and after all but the last, ``[A, F]`` each, and the way back."""
    atoms = model.atom_embedding(batch.numbers - 1)  # [A, F]
    magnetic, tape = atoms, []
    for block, atom_conv in enumerate(model.atom_convs):
        magnetic = atoms  # magnetic moments are read before the last block
        atoms, reverse = _atom_conv(atom_conv, packed, rows, atoms, bonds, atom_weights)
        tape.append(reverse)
        if block < len(model.bond_convs):
            bonds, reverse = _bond_conv(model.bond_convs[block], packed, rows, atoms, bonds, bond_weights, angles)
            tape.append(reverse)
        if block < len(model.angle_updates):
            angles, reverse = _angle_update(model.angle_updates[block], packed, rows, atoms, bonds, angles)
            tape.append(reverse)
    return atoms, magnetic, tape


def _way_back(tape: list[Reverse], g_atoms: Tensor, batch: Batch, embedding_reverse: Callable) -> Float64[Tensor, "bonds 3"]:
    """From the gradient with respect to the last atom features to that with respect to the bond vectors."""
    of_bonds = _zeros(2, len(batch.centres), WIDTH)  # of features and of weights, which have one expansion
    gradients = Gradients(g_atoms, of_bonds[0], of_bonds[1], _zeros(batch.n_short, WIDTH))
    while tape:
        tape.pop()(gradients)  # what the step kept is freed with it
    angles = _zeros(1, len(batch.first), WIDTH) if gradients.angles is None else gradients.angles
    gradient: Tensor = embedding_reverse(of_bonds, gradients.bond_weights, angles)
    return gradient


# -- the updates ----------------------------------------------------------------------------------------


class _Rows:
    """Where the rows of each update come from and go to."""

    def __init__(self, batch: Batch, line: LineGraph, room: int):
        self.room = Room(room)
        self.centres, self.neighbours = batch.centres[: batch.n_short].numpy(), batch.neighbours[: batch.n_short].numpy()
        self.n_short = batch.n_short
        self.bonds, self.angles = bond_rows(batch.centres, batch.neighbours), angle_rows(line)
        self.angle_rows = apart(self.angles)  # an angle update has a total for every row, and nothing weighs it
        self.angle_centres = line.centres[line.first].numpy()  # ascending; of each edge all angles are at one atom


def _atom_conv(
    layer: AtomConv, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`AtomConv.forward`: a row is a direction of a bond."""
    inputs = _arrays(layer.centre(atoms), layer.neighbour(atoms), bonds[None], weights)  # [A, 2F], [A, 2F], [1, B, F]
    total, message = _zeros(*atoms.shape), packed.messages[layer]  # [A, F]
    kept = rows.room.kept(rows.bonds, message)
    add_messages(rows.bonds, inputs, message, kept, total.numpy(), own_totals=False)

    def reverse(g: Gradients) -> None:
        up = (g.atoms @ layer.out.weight).numpy()  # [A, F]
        g_own, g_other = zeros(inputs[0].shape), zeros(inputs[1].shape)
        sums = [g_own, g_other, g.atom_weights.numpy(), *LayerGradient.unwanted()]
        add_gradients(rows.bonds, inputs, message, kept, up, g.bonds[None].numpy(), sums, begun=True, own_weights=True)
        g.atoms.addmm_(torch.from_numpy(g_own), layer.centre.weight)
        g.atoms.addmm_(torch.from_numpy(g_other), layer.neighbour.weight)

    return atoms + layer.out(total), reverse


def _bond_conv(
    layer: BondConv, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor, angles: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`BondConv.forward`: a row is an angle seen from one of its edges.

    Short bonds are updated in place where the others stay as they are; the way back puts them back.
    """
    short = bonds[: rows.n_short]
    edges = _Edges(layer, packed, rows, atoms, short)
    along, message = _arrays(angles, weights), packed.messages[layer]
    kept = rows.room.kept(rows.angles, message)
    before, total = short.clone(), _zeros(*short.shape)  # [s, F] each
    add_messages(rows.angles, (*edges.inputs(), *along), message, kept, total.numpy(), own_totals=False)

    def reverse(g: Gradients) -> None:
        short.copy_(before)
        up = g.bonds[: rows.n_short] @ layer.out.weight  # [s, F], of total * weights
        g.bond_weights.addcmul_(up, total)
        begun = g.angles is not None
        if g.angles is None:
            g.angles = angles  # which nothing reads after this: their gradient takes their place
        inputs, g_edges, g_angles = (*edges.inputs(), *along), edges.zeros(), g.angles[: len(angles)].numpy()
        sums = [*g_edges, g.bond_weights.numpy(), *LayerGradient.unwanted()]
        add_gradients(
            rows.angles, inputs, message, kept, (up * weights).numpy(), g_angles, sums, begun, together=rows.angle_centres
        )
        edges.reverse(g, *g_edges)

    if layer.out.bias is not None:
        return layer.updated(bonds, total, weights), reverse
    short.addmm_(total * weights, layer.out.weight.t())
    return bonds, reverse


def _angle_update(
    layer: AngleUpdate, packed: Packed, rows: _Rows, atoms: Tensor, bonds: Tensor, angles: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`AngleUpdate.forward`: messages are added to the angles themselves."""
    edges = _Edges(layer, packed, rows, atoms, bonds[: rows.n_short])
    along, message = _arrays(angles, torch.ones(1, WIDTH)), packed.messages[layer]
    kept = rows.room.kept(rows.angles, message)
    updated = torch.from_numpy(empty((2, *angles.shape[1:])))  # [2, G, F]
    totals = updated.view(-1, WIDTH).numpy()  # [2G, F]
    add_messages(rows.angle_rows, (*edges.inputs(), *along), message, kept, totals, own_totals=True, onto_features=True)

    def reverse(g: Gradients) -> None:
        assert g.angles is not None, "a bond convolution follows every angle update"
        up = g.angles.view(-1, WIDTH).numpy()  # [2G, F]
        # a side of its own for each row's gradient, or where both see the same angle, the first side's for that of both
        inputs, g_edges, g_angles = (*edges.inputs(), *along), edges.zeros(), g.angles[: len(angles)].numpy()
        sums = [*g_edges, zeros((1, WIDTH)), *LayerGradient.unwanted()]
        add_gradients(rows.angle_rows, inputs, message, kept, up, g_angles, sums, begun=True, together=rows.angle_centres)
        edges.reverse(g, *g_edges)

    return updated, reverse


class _Edges:
    """What short edges bring to the messages of one update; soon computed again, so kept for the way back only if few."""

    def __init__(self, layer: BondConv | AngleUpdate, packed: Packed, rows: _Rows, atoms: Tensor, short: Tensor):
        self._centre, self._weights, self._short = layer.project.centre, packed.edges[layer], short
        self._at_centres, self._ends = self._centre(atoms), (rows.centres, rows.neighbours)  # [A, 2F]
        self._kept: tuple[np.ndarray, np.ndarray] | None = None

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`AngleProjection.edges`: ``[2s, 2F]`` and ``[s, 2F]``, of the short bonds as they were when this was made."""
        if self._kept is not None:
            return self._kept
        own, other = (empty(shape) for shape in self._shapes)
        edge_inputs(self._short.numpy(), self._at_centres.numpy(), self._ends, self._weights, own, other)
        self._kept = (own, other) if len(self._short) <= FEW_BONDS else None
        return own, other

    def zeros(self) -> tuple[np.ndarray, np.ndarray]:
        """Where gradients with respect to them are added up."""
        own, other = (zeros(shape) for shape in self._shapes)
        return own, other

    def reverse(self, g: Gradients, g_own: np.ndarray, g_other: np.ndarray) -> None:
        """From these gradients to those of bonds and atoms."""
        g_at_centres = _zeros(*self._at_centres.shape)
        g_short = g.bonds[: len(self._short)].numpy()
        edge_gradients(g_own, g_other, self._ends, self._weights, g_short, g_at_centres.numpy())
        g.atoms.addmm_(g_at_centres, self._centre.weight)

    @property
    def _shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (2 * len(self._short), 2 * WIDTH), (len(self._short), 2 * WIDTH)


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def _zeros(*shape: int) -> Tensor:
    return torch.from_numpy(zeros(shape))
