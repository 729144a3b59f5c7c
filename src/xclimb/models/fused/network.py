"""CHGNet and its gradient in one pass each, by hand: the equations of :mod:`xclimb.models.layers`, less memory traffic.

Embeddings and readout, a small part of the work, are those of the network itself. Between them every update returns what
it computes and a function that takes the gradient through it, in the manner of automatic differentiation but without its
bookkeeping: gradients are added up in place, and nothing is kept that costs less to compute again.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from xclimb.graph import Batch
from xclimb.models.chgnet import CHGNet, Output, forces_and_stress, geometry, line_graph, per_system
from xclimb.models.fused.rows import Index, add_gradients, add_messages, angle_rows, apart, bond_rows, kernels_on_all_threads
from xclimb.models.fused.weights import Layer, LayerGradient, layers_of, zeros
from xclimb.models.layers import AngleProjection, AngleUpdate, AtomConv, BondConv, LineGraph
from xclimb.models.paths import WIDTH

CHUNK = 4096  # bonds or angles whose expansions are computed at a time
FEW_ROWS = 8192  # up to so many, intermediates (16 MB an update at most) are kept instead of computed again: 1.1 times as fast

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
    angles: Float32[Tensor, "sides angles width"]
    atom_weights: Float32[Tensor, "bonds width"]
    bond_weights: Float32[Tensor, "short width"]


Reverse = Callable[[Gradients], None]


def outputs(model: CHGNet, batch: Batch, derivatives: bool = True) -> Output:
    """What ``model(batch, derivatives=derivatives)`` gives, on a CPU in float32, on as many threads as torch has.

    Args:
        model: the network, of width 64; its parameters get no gradient.
        batch: the graph of the crystals.
        derivatives: False leaves out forces and stress.
    """
    with kernels_on_all_threads():
        return _outputs(model, batch, derivatives)


def _outputs(model: CHGNet, batch: Batch, derivatives: bool) -> Output:
    line = line_graph(batch)
    with torch.set_grad_enabled(derivatives):
        vectors = batch.vectors.detach().requires_grad_(derivatives)  # [B, 3]
        lengths, cosines = geometry(batch, vectors, line)  # [B], [G]
    short = lengths[: batch.n_short]
    (bonds, atom_weights), reverse_bonds = _embed(model.embed_bonds, lengths)  # [B, F] each
    (bond_weights,), reverse_short = _embed(model.embed_short_bonds, short)  # [s, F]
    (angle,), reverse_angles = _embed(model.embed_angles, cosines)  # [G, F]
    features = bonds, atom_weights, bond_weights, angle
    with torch.no_grad():
        rows = _Rows(batch, line, FEW_ROWS if derivatives else 0)
        atoms, magnetic, tape = _updates(model, batch, rows, *features)
        magmoms = model.magmoms(magnetic)  # [A]
    with torch.set_grad_enabled(derivatives):
        atoms.requires_grad_(derivatives)
        site_energies = model.site_energies(atoms)  # [A]
        energy = per_system(site_energies, batch)  # [S]
    if not derivatives:
        return Output(site_energies, energy, magmoms)
    (g_atoms,) = torch.autograd.grad(energy, atoms, torch.ones_like(energy))  # [A, F]
    with torch.no_grad():
        g_bonds, g_weights, g_short, g_angle = _way_back(tape, g_atoms, features)
    g_lengths, g_cosines = reverse_bonds(g_bonds, g_weights), reverse_angles(g_angle)  # [B], [G]
    g_lengths[: batch.n_short] += reverse_short(g_short)
    (gradient,) = torch.autograd.grad([lengths, cosines], vectors, [g_lengths, g_cosines])  # dE / d vector, [B, 3]
    forces, stress = forces_and_stress(batch, gradient)
    return Output(site_energies.detach(), energy.detach(), magmoms, forces.float(), stress.float())


def _embed(embed: Callable, x: Tensor) -> tuple[list[Tensor], Callable[..., Tensor]]:
    """What ``embed`` gives for numbers x, and the way back: a few thousand at a time, for which it is computed again."""
    if len(x) <= CHUNK:  # so few that their intermediates are kept
        few = x.detach().requires_grad_(x.requires_grad)
        with torch.set_grad_enabled(x.requires_grad):
            outputs = embed(few)
        return [output.detach() for output in outputs], lambda *g: torch.autograd.grad(outputs, few, g)[0]
    chunks = x.detach().split(CHUNK)

    def reverse(*g: Tensor) -> Tensor:
        gradients = []
        for chunk, *g_chunks in zip(chunks, *(g_output.split(CHUNK) for g_output in g), strict=True):
            with torch.enable_grad():
                outputs = embed(chunk.requires_grad_())
            gradients += torch.autograd.grad(outputs, chunk, g_chunks)
        return torch.cat(gradients)

    with torch.no_grad():
        parts = zip(*(embed(chunk) for chunk in chunks), strict=True)
        return [torch.cat(part) for part in parts], reverse


def _updates(
    model: CHGNet, batch: Batch, rows: "_Rows", bonds: Tensor, atom_weights: Tensor, bond_weights: Tensor, angle: Tensor
) -> tuple[Tensor, Tensor, list[Reverse]]:
    """Atoms after all updates and after all but the last, ``[A, F]`` each, and the way back."""
    layers = layers_of(model)
    atoms = model.atom_embedding(batch.numbers - 1)  # [A, F]
    angles = angle[None]  # [1, G, F]: one opening, seen from either edge
    magnetic, tape = atoms, []
    for block, atom_conv in enumerate(model.atom_convs):
        magnetic = atoms  # magnetic moments are read before the last block
        atoms, reverse = _atom_conv(atom_conv, layers[atom_conv], rows, atoms, bonds, atom_weights)
        tape.append(reverse)
        if block < len(model.bond_convs):
            layer = model.bond_convs[block]
            bonds, reverse = _bond_conv(layer, layers[layer], rows, atoms, bonds, bond_weights, angles)
            tape.append(reverse)
        if block < len(model.angle_updates):
            layer = model.angle_updates[block]
            angles, reverse = _angle_update(layer, layers[layer], rows, atoms, bonds, angles)
            tape.append(reverse)
    return atoms, magnetic, tape


def _way_back(tape: list[Reverse], g_atoms: Tensor, embedded: tuple[Tensor, ...]) -> list[Tensor]:
    """From the gradient with respect to the last atom features to those with respect to what was embedded."""
    bonds, atom_weights, bond_weights, angle = (_zeros(*feature.shape) for feature in embedded)
    sides = 2 if len(tape) > 2 else 1
    gradients = Gradients(g_atoms, bonds, _zeros(sides, *angle.shape), atom_weights, bond_weights)
    while tape:
        tape.pop()(gradients)  # what the step kept is freed with it
    return [gradients.bonds, gradients.atom_weights, gradients.bond_weights, gradients.angles.sum(0)]


# -- the updates ----------------------------------------------------------------------------------------


class _Rows:
    """Where the rows of each update come from and go to."""

    def __init__(self, batch: Batch, line: LineGraph, few: int):
        self._few = few
        self.line, self.n_atoms, self.n_short = line, len(batch.numbers), batch.n_short
        self.bonds, self.angles = bond_rows(batch.centres, batch.neighbours), angle_rows(line)
        self.angle_rows = apart(self.angles)  # an angle update has a total for every row, and nothing weighs it

    def room(self, index: Index) -> Float32[np.ndarray, "2 2 kept two_width"]:
        """Room for what the kernels keep for the way back: all intermediates where they are few, else none."""
        n_rows = index.shape[2]
        return torch.empty(2, 2, n_rows if n_rows <= self._few else 0, 2 * WIDTH).numpy()


def _atom_conv(
    layer: AtomConv, packed: Layer, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`AtomConv.forward`: a row is a direction of a bond."""
    own, other, features = layer.centre(atoms), layer.neighbour(atoms), bonds[None]  # [A, 2F], [A, 2F], [1, B, F]
    total, kept = _zeros(*atoms.shape), rows.room(rows.bonds)  # [A, F]
    _forward(rows.bonds, own, other, features, packed, weights, kept, total)

    def reverse(g: Gradients) -> None:
        up = g.atoms @ layer.out.weight  # [A, F]
        g_own, g_other = _zeros(*own.shape), _zeros(*other.shape)
        _backward(rows.bonds, own, other, features, packed, weights, kept, up, g_own, g_other, g.bonds[None], g.atom_weights)
        g.atoms.addmm_(g_own, layer.centre.weight).addmm_(g_other, layer.neighbour.weight)

    return atoms + layer.out(total), reverse


def _bond_conv(
    layer: BondConv, packed: Layer, rows: _Rows, atoms: Tensor, bonds: Tensor, weights: Tensor, angles: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`BondConv.forward`: a row is an angle seen from one of its edges."""
    short = bonds[: rows.n_short]
    own, other = layer.project.edges(atoms, short, rows.line)  # [2s, 2F], [s, 2F]
    total, kept = _zeros(*short.shape), rows.room(rows.angles)  # [s, F]
    _forward(rows.angles, own, other, angles, packed, weights, kept, total)

    def reverse(g: Gradients) -> None:
        up = g.bonds[: rows.n_short] @ layer.out.weight  # [s, F], of total * weights
        g.bond_weights.addcmul_(up, total)
        g_own, g_other = _zeros(*own.shape), _zeros(*other.shape)
        _backward(
            rows.angles, own, other, angles, packed, weights, kept, up * weights, g_own, g_other, g.angles, g.bond_weights
        )
        _edges_reverse(layer.project, rows, g_own, g_other, g)

    return layer.updated(bonds, total, weights), reverse


def _angle_update(
    layer: AngleUpdate, packed: Layer, rows: _Rows, atoms: Tensor, bonds: Tensor, angles: Tensor
) -> tuple[Tensor, Reverse]:
    """:meth:`AngleUpdate.forward`: messages are added to the angles themselves."""
    own, other = layer.project.edges(atoms, bonds[: rows.n_short], rows.line)  # [2s, 2F], [s, 2F]
    one = torch.ones(1, WIDTH)
    updated, kept = _zeros(2, *angles.shape[1:]).copy_(angles), rows.room(rows.angles)  # [2, G, F]
    _forward(rows.angle_rows, own, other, angles, packed, one, kept, updated.view(-1, WIDTH), own_totals=True)

    def reverse(g: Gradients) -> None:
        up = g.angles.view(-1, WIDTH)  # [2G, F]
        if len(angles) == 1:
            g.angles = g.angles.sum(0, keepdim=True)  # [1, G, F]
        g_own, g_other = _zeros(*own.shape), _zeros(*other.shape)
        _backward(rows.angle_rows, own, other, angles, packed, one, kept, up, g_own, g_other, g.angles, _zeros(1, WIDTH))
        _edges_reverse(layer.project, rows, g_own, g_other, g)

    return updated, reverse


def _edges_reverse(layer: AngleProjection, rows: _Rows, g_own: Tensor, g_other: Tensor, g: Gradients) -> None:
    """Reverse of :meth:`AngleProjection.edges`."""
    n_short = rows.n_short
    g.bonds[:n_short].addmm_(g_own[:n_short] + g_own[n_short:], layer.first.weight).addmm_(g_other, layer.second.weight)
    at_centres = torch.zeros(rows.n_atoms, g_own.shape[1]).index_add_(0, rows.line.centres, g_own)  # [A, 2F]
    g.atoms.addmm_(at_centres, layer.centre.weight)


def _zeros(*shape: int) -> Tensor:
    return torch.from_numpy(zeros(shape))


# -- the kernels ------------------------------------------------------------------------------------------


def _forward(index, own, other, features, packed, weights, kept, total, own_totals=False) -> None:
    """See :func:`xclimb.models.fused.rows.add_messages`."""
    inputs = own.numpy(), other.numpy(), features.numpy(), weights.numpy()
    add_messages(index, inputs, packed, kept, total.numpy(), own_totals)


def _backward(index, own, other, features, packed, weights, kept, up, g_own, g_other, g_features, g_weights) -> None:
    """See :func:`xclimb.models.fused.rows.add_gradients`."""
    inputs = own.numpy(), other.numpy(), features.numpy(), weights.numpy()
    sums = [g_own.numpy(), g_other.numpy(), g_weights.numpy(), *LayerGradient.unwanted()]
    add_gradients(index, inputs, packed, kept, up.contiguous().numpy(), g_features.numpy(), sums)
