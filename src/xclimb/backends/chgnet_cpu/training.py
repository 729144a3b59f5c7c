"""CHGNet for training: each sum of messages one autograd function, with hand-written backward and double backward.

The equations are those of :mod:`xclimb.models.chgnet.layers`, the formulas and names those of
:mod:`xclimb.backends.chgnet_cpu.gate`. Autograd sees one node for a sum of messages, one for its gradient, and calls the
gradient of that for a loss on forces and stress. Activations that all these passes need are cached up to a limit, and
computed again from the inputs beyond it.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xclimb.backends.chgnet_cpu.buffers import empty, tune_allocator, zeros
from xclimb.backends.chgnet_cpu.double_backward import double_backward
from xclimb.backends.chgnet_cpu.messages import Activations
from xclimb.backends.chgnet_cpu.rows import (
    CACHE_BYTES,
    NO_ACTIVATIONS,
    ActivationCache,
    Index,
    add_gradients,
    add_messages,
    angle_rows,
    bond_rows,
    with_own_totals,
)
from xclimb.backends.chgnet_cpu.weights import Layer, LayerGradient, gate_weights, pack
from xclimb.backends.chgnet_cpu.workers import parallel_rows
from xclimb.graph.batch import Batch
from xclimb.models.base import Output, differentiate
from xclimb.models.chgnet.layers import AngleUpdate, AtomConv, BondConv, Gate, LineGraph
from xclimb.models.chgnet.network import CHGNet, line_graph

# angles seen from their first and from their second edge, [2, G, F]; before the first update they are one, [G, F]
Angles = Float32[Tensor, "*directions angles width"]


class ForwardPass:
    """State that the sums of messages of one forward pass share with their gradients."""

    def __init__(self):
        # autograd does not say which gradients are wanted: forces are no gradient of the parameters, a loss is
        self.train_parameters = False
        self.cache = ActivationCache(CACHE_BYTES)


def forward(network: CHGNet, batch: Batch, derivatives: bool = True) -> Output:
    """``network(batch, create_graph=True, derivatives=derivatives)``, on a CPU in float32, on as many threads as torch has."""
    tune_allocator()
    state = ForwardPass()
    output = differentiate(partial(_sites, network, state, batch), batch, create_graph=True, derivatives=derivatives)
    state.train_parameters = True
    return output


def _sites(
    network: CHGNet, state: ForwardPass, batch: Batch, vectors: Float[Tensor, "bonds 3"]
) -> tuple[Float32[Tensor, "atoms"], Float32[Tensor, "atoms"]]:
    """:meth:`CHGNet.sites`."""
    line = line_graph(batch)
    bonds, atom_weights, bond_weights, angle = network.embed(batch, vectors, line)
    of_bonds, of_angles = bond_rows(batch.centres, batch.neighbours), angle_rows(line)
    atoms, angles = network.atom_embedding(batch.numbers - 1), angle  # [A, F], [G, F]

    magnetic = atoms
    for block, atom_conv in enumerate(network.atom_convs):
        magnetic = atoms  # magnetic moments are read before the last block
        atoms = _atom_conv(atom_conv, state, of_bonds, atoms, bonds, atom_weights)
        if block < len(network.bond_convs):
            bonds = _bond_conv(network.bond_convs[block], state, of_angles, atoms, bonds, bond_weights, angles, line)
        if block < len(network.angle_updates):
            short = bonds[: batch.n_short]
            angles = _angle_update(network.angle_updates[block], state, of_angles, atoms, short, angles, line)
    return network.site_energies(atoms), network.magmoms(magnetic)


# -- the updates ----------------------------------------------------------------------------------------


def _atom_conv(
    layer: AtomConv,
    state: ForwardPass,
    rows: Index,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "bonds width"],
    weights: Float32[Tensor, "bonds width"],
) -> Float32[Tensor, "atoms width"]:
    """:meth:`AtomConv.forward`."""
    features = bonds[None]  # [1, B, F], created first: the order of nodes is that in which autograd adds gradients
    own, other = layer.centre(atoms), layer.neighbour(atoms)  # [A, 2F] each
    total = sum_messages(state, rows, len(atoms), own, other, features, weights, layer.bond.weight, layer.message)
    return atoms + layer.out(total)


def _bond_conv(
    layer: BondConv,
    state: ForwardPass,
    rows: Index,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "bonds width"],
    weights: Float32[Tensor, "short width"],
    angles: Angles,
    line: LineGraph,
) -> Float32[Tensor, "bonds width"]:
    """:meth:`BondConv.forward`."""
    features, n_short, projection = _features(angles), len(weights), layer.project.angle.weight
    own, other = layer.project.edges(atoms, bonds[:n_short], line)  # [2s, 2F], [s, 2F]
    total = sum_messages(state, rows, n_short, own, other, features, weights, projection, layer.message)
    return layer.updated(bonds, total, weights)


def _angle_update(
    layer: AngleUpdate,
    state: ForwardPass,
    rows: Index,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "short width"],
    angles: Angles,
    line: LineGraph,
) -> Float32[Tensor, "2 angles width"]:
    """:meth:`AngleUpdate.forward`: every row has a total of its own, of weight 1."""
    rows, features, projection = with_own_totals(rows), _features(angles), layer.project.angle.weight
    n, width = rows.shape[2], layer.message.width
    own, other = layer.project.edges(atoms, bonds, line)  # [2s, 2F], [s, 2F]
    one = own.new_ones(1, width)
    total = sum_messages(state, rows, 2 * n, own, other, features, one, projection, layer.message, unique_totals=True)
    return features + total.view(2, n, width)


def _features(angles: Angles) -> Float32[Tensor, "directions angles width"]:
    return angles if angles.dim() == 3 else angles[None]


# -- the sum of messages --------------------------------------------------------------------------------


class Inputs(NamedTuple):
    """The tensors that messages are made of, or gradients of them."""

    own: Float32[Tensor, "own two_width"]
    other: Float32[Tensor, "other two_width"]
    features: Float32[Tensor, "directions rows width"]
    weights: Float32[Tensor, "weights width"]  # w
    projection: Float32[Tensor, "two_width width"]  # W
    hidden: Float32[Tensor, "gates width width"]  # V of core and of gate
    bias: Float32[Tensor, "2 width"]  # c
    affine: Float32[Tensor, "4 width"]  # scale and shift of the norms


N_ACTIVATIONS = 4  # inputs that depend on the atoms: all but the parameters of the layer


class Context(NamedTuple):
    """Arguments of a sum of messages that are not differentiated."""

    rows: Index
    n_totals: int
    unique_totals: bool  # no two rows share a total
    layer: Layer  # the parameters, packed for all passes
    state: ForwardPass
    saved: Activations


def sum_messages(
    state: ForwardPass,
    rows: Index,
    n_totals: int,
    own: Float32[Tensor, "own two_width"],
    other: Float32[Tensor, "other two_width"],
    features: Float32[Tensor, "directions rows width"],
    weights: Float32[Tensor, "weights width"],
    projection: Float32[Tensor, "two_width width"],
    gate: Gate,
    unique_totals: bool = False,
) -> Float32[Tensor, "totals width"]:
    """Sum of the messages of all rows in both directions; features ``[1, n, F]`` are those of both."""
    parameters = projection, *gate_weights(gate)
    layer = pack(*parameters, normed=isinstance(gate.core_norm, nn.LayerNorm))
    saved = state.cache.allocate(rows, layer, training=True) if torch.is_grad_enabled() else NO_ACTIVATIONS
    context = Context(rows, n_totals, unique_totals, layer, state, saved)
    total: Tensor = _MessageSum.apply(context, own, other, features, weights, *parameters)
    return total


class _MessageSum(torch.autograd.Function):
    """``total[t] = sum w[v] m``."""

    @staticmethod
    def forward(ctx, context, *tensors):
        inputs = Inputs(*tensors)
        totals = zeros((context.n_totals, inputs.weights.shape[1]))
        activations = _arrays(*inputs[:N_ACTIVATIONS])
        add_messages(context.rows, activations, context.layer, context.saved, totals, context.unique_totals)
        ctx.save_for_backward(*inputs)
        ctx.context = context
        return torch.from_numpy(totals)

    @staticmethod
    def backward(ctx, g_total):
        trained = any(ctx.needs_input_grad[1 + N_ACTIVATIONS :]) and ctx.context.state.train_parameters
        return None, *_MessageSumGradient.apply(ctx.context, trained, g_total, *ctx.saved_tensors)


class _MessageSumGradient(torch.autograd.Function):
    """The gradient of ``sum g_total total`` with respect to all inputs."""

    @staticmethod
    def forward(ctx, context, trained, g_total, *tensors):
        inputs = Inputs(*tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g_total, *tensors)
        ctx.context = context
        gradients, (g_total,) = _Gradients(inputs, context.layer, trained), _arrays(g_total)
        activations = _arrays(*inputs[:N_ACTIVATIONS])
        add_gradients(context.rows, activations, context.layer, context.saved, g_total, gradients.features, gradients.reduced)
        return gradients.tensors()

    @staticmethod
    @once_differentiable
    def backward(ctx, *cotangents):
        if any(cotangent is not None for cotangent in cotangents[N_ACTIVATIONS:]):
            raise RuntimeError("a gradient with respect to parameters cannot be differentiated again")
        g_total, *tensors = ctx.saved_tensors
        context, inputs = ctx.context, Inputs(*tensors)
        # a cotangent that is not there is a direction in which nothing moves
        dots = [torch.zeros_like(x) if dot is None else dot for x, dot in zip(inputs[:N_ACTIVATIONS], cotangents, strict=False)]
        activations, tangents, (g_total,) = _arrays(*inputs[:N_ACTIVATIONS]), _arrays(*dots), _arrays(g_total)
        total_dot = zeros(g_total.shape)
        gradients = _Gradients(inputs, context.layer, trained=True)

        def part(begin, end, work, first):
            mine, of_layer = gradients.of_thread(first)
            g_own, g_other, g_weights = mine[:3]
            out = total_dot if first or context.unique_totals else zeros(g_total.shape)
            double_backward(
                begin, end, context.rows, activations, tangents, context.layer, context.saved, g_total, out, g_own, g_other,
                gradients.features, g_weights, of_layer, work,
            )  # fmt: skip
            return [*mine, out]

        parallel_rows(part, context.rows.shape[2], [*gradients.reduced, total_dot])
        return None, None, torch.from_numpy(total_dot), *gradients.tensors()


class _Gradients:
    """Arrays that gradients are accumulated in: those of features have a place for each row, the others are reduced."""

    def __init__(self, inputs: Inputs, layer: Layer, trained: bool):
        own, other, weights = (zeros(x.shape) for x in (inputs.own, inputs.other, inputs.weights))
        of_layer = LayerGradient.zeros(layer) if trained else LayerGradient.none()
        self.trained, self.features, self.reduced = trained, empty(inputs.features.shape), [own, other, weights, *of_layer]

    def of_thread(self, first: bool) -> tuple[list[np.ndarray], LayerGradient]:
        """The arrays of one thread; the first takes those of the result."""
        mine = self.reduced if first else [zeros(array.shape) for array in self.reduced]
        return mine, LayerGradient(*mine[3:])

    def tensors(self) -> tuple[Tensor | None, ...]:
        """In the order of :class:`Inputs`."""
        own, other, weights, *of_layer = (torch.from_numpy(array) for array in self.reduced)
        return own, other, torch.from_numpy(self.features), weights, *(of_layer if self.trained else [None] * 4)


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)
