"""The three updates of CHGNet for training: each sum of messages one function, with hand-written first and second gradient.

The equations are those of :mod:`xclimb.models.layers`, the formulas and names those of :mod:`xclimb.models.fused.gates`.
Autograd sees one node for a sum of messages, one for its gradient, and calls the gradient of that for a loss on forces and
stress. What all these passes need is kept while there is room, else computed again from the inputs. For a CPU in float32;
elsewhere training takes the plain layers, see :meth:`CHGNet.forward`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xclimb.models.fused.memory import empty, zeros
from xclimb.models.fused.messages import Kept
from xclimb.models.fused.rows import (
    NOTHING_KEPT,
    ROOM,
    Index,
    Room,
    add_gradients,
    add_messages,
    angle_rows,
    apart,
    bond_rows,
)
from xclimb.models.fused.second import second
from xclimb.models.fused.threads import in_parts
from xclimb.models.fused.weights import Layer, LayerGradient, packed, stacked
from xclimb.models.layers import AngleUpdate, AtomConv, BondConv, Gate, LineGraph, Sides

Stacked = Float32[Tensor, "sides angles width"]  # angles after an update; before the first, sides are one tensor twice


class Joined:
    """What computes the layers of a network: sums of messages as above; a layer of another kind as it is."""

    def __init__(self):
        self.parameters = True  # whether gradients of the parameters are wanted: autograd does not tell its functions
        self.room = Room(ROOM)
        self._rows: dict[Callable, tuple[tuple, Index]] = {}

    def __call__(self, layer: nn.Module) -> Callable:
        """The layer as a function of the same arguments."""
        return partial(_JOINED[type(layer)], layer, self) if type(layer) in _JOINED else layer

    @contextmanager
    def forces_only(self) -> Iterator[None]:
        """Gradients taken inside are with respect to the atoms; those of the parameters would be computed for nothing."""
        self.parameters = False
        try:
            yield
        finally:
            self.parameters = True

    def rows(self, make: Callable, *graph) -> Index:
        """``make(*graph)``, kept for the next layer."""
        known = self._rows.get(make)
        if known is None or any(one is not other for one, other in zip(known[0], graph, strict=True)):
            known = self._rows[make] = graph, make(*graph)
        return known[1]


class Job(NamedTuple):
    """What is neither differentiated nor changes from row to row."""

    rows: Index
    n_targets: int
    own_targets: bool  # no two rows share a total
    layer: Layer  # the weights, packed for all passes
    joined: Joined
    kept: Kept


class Inputs(NamedTuple):
    """The tensors that messages are made of, or gradients of them."""

    own: Float32[Tensor, "own two_width"]
    other: Float32[Tensor, "other two_width"]
    features: Float32[Tensor, "sides rows width"]
    weights: Float32[Tensor, "weights width"]  # w
    projection: Float32[Tensor, "two_width width"]  # W
    hidden: Float32[Tensor, "gates width width"]  # V of core and of gate
    bias: Float32[Tensor, "2 width"]  # c
    ends: Float32[Tensor, "4 width"]  # scale and shift of the norms


N_MOVING = 4  # inputs that depend on the atoms: all but the weights of the layer


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


class _Sums:
    """The arrays in which the threads add up gradients, one set for each; those of features have no two rows in one place."""

    def __init__(self, inputs: Inputs, layer: Layer, trained: bool):
        own, other, weights = (zeros(x.shape) for x in (inputs.own, inputs.other, inputs.weights))
        of_layer = LayerGradient.zeros(layer) if trained else LayerGradient.unwanted()
        self.trained, self.features, self.joined = trained, empty(inputs.features.shape), [own, other, weights, *of_layer]

    def part(self, first: bool) -> tuple[list[np.ndarray], LayerGradient]:
        """The arrays of one thread."""
        mine = self.joined if first else [zeros(array.shape) for array in self.joined]
        return mine, LayerGradient(*mine[3:])

    def gradients(self) -> tuple[Tensor | None, ...]:
        """In the order of :class:`Inputs`."""
        own, other, weights, *of_layer = (torch.from_numpy(array) for array in self.joined)
        return own, other, torch.from_numpy(self.features), weights, *(of_layer if self.trained else [None] * 4)


class _Messages(torch.autograd.Function):
    """``total[t] = sum w[v] m``."""

    @staticmethod
    def forward(ctx, job, *given):
        inputs = Inputs(*given)
        totals = zeros((job.n_targets, inputs.weights.shape[1]))
        add_messages(job.rows, _arrays(*inputs[:N_MOVING]), job.layer, job.kept, totals, job.own_targets)
        ctx.save_for_backward(*inputs)
        ctx.job = job
        return torch.from_numpy(totals)

    @staticmethod
    def backward(ctx, g_total):
        trained = any(ctx.needs_input_grad[1 + N_MOVING :]) and ctx.job.joined.parameters
        return None, *_Gradient.apply(ctx.job, trained, g_total, *ctx.saved_tensors)


class _Gradient(torch.autograd.Function):
    """The gradient of ``sum g_total total`` with respect to all tensors."""

    @staticmethod
    def forward(ctx, job, trained, g_total, *given):
        inputs = Inputs(*given)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g_total, *given)
        ctx.job = job
        sums, (up,) = _Sums(inputs, job.layer, trained), _arrays(g_total)
        add_gradients(job.rows, _arrays(*inputs[:N_MOVING]), job.layer, job.kept, up, sums.features, sums.joined)
        return sums.gradients()

    @staticmethod
    @once_differentiable
    def backward(ctx, *cotangents):
        if any(cotangent is not None for cotangent in cotangents[N_MOVING:]):
            raise RuntimeError("a gradient with respect to parameters cannot be differentiated again")
        g_total, *given = ctx.saved_tensors
        job, inputs = ctx.job, Inputs(*given)
        # a cotangent that is not there is a direction in which nothing moves
        dots = [torch.zeros_like(x) if dot is None else dot for x, dot in zip(inputs[:N_MOVING], cotangents, strict=False)]
        at, moving, (up,) = _arrays(*inputs[:N_MOVING]), _arrays(*dots), _arrays(g_total)
        total_dot = zeros(up.shape)
        sums = _Sums(inputs, job.layer, trained=True)

        def part(begin, end, work, first):
            mine, of_layer = sums.part(first)
            g_own, g_other, g_weights = mine[:3]
            out = total_dot if first or job.own_targets else zeros(up.shape)
            second(
                begin, end, job.rows, at, moving, job.layer, job.kept, up, out, g_own, g_other, sums.features, g_weights,
                of_layer, work,
            )  # fmt: skip
            return [*mine, out]

        in_parts(part, job.rows.shape[2], [*sums.joined, total_dot])
        return None, None, torch.from_numpy(total_dot), *sums.gradients()


def messages(
    joined: Joined,
    rows: Index,
    n_targets: int,
    own: Float32[Tensor, "own two_width"],
    other: Float32[Tensor, "other two_width"],
    features: Float32[Tensor, "sides rows width"],
    weights: Float32[Tensor, "weights width"],
    projection: Float32[Tensor, "two_width width"],
    gate: Gate,
    own_targets: bool = False,
) -> Float32[Tensor, "targets width"]:
    """The sum of messages over the rows of two sides; features ``[1, n, F]`` are those of both."""
    given = projection, *stacked(gate)
    layer = packed(*given, normed=isinstance(gate.core_norm, nn.LayerNorm))
    kept = joined.room.kept(rows, layer, training=True) if torch.is_grad_enabled() else NOTHING_KEPT
    job = Job(rows, n_targets, own_targets, layer, joined, kept)
    total: Tensor = _Messages.apply(job, own, other, features, weights, *given)
    return total


# -- the updates ----------------------------------------------------------------------------------------


def _atom_conv(
    layer: AtomConv,
    joined: Joined,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "bonds width"],
    weights: Float32[Tensor, "bonds width"],
    centres: Int[Tensor, "bonds"],
    neighbours: Int[Tensor, "bonds"],
) -> Float32[Tensor, "atoms width"]:
    """:meth:`AtomConv.forward`."""
    rows, features = joined.rows(bond_rows, centres, neighbours), bonds[None]  # [1, B, F]
    own, other = layer.centre(atoms), layer.neighbour(atoms)  # [A, 2F] each
    total = messages(joined, rows, len(atoms), own, other, features, weights, layer.bond.weight, layer.message)
    return atoms + layer.out(total)


def _bond_conv(
    layer: BondConv,
    joined: Joined,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "bonds width"],
    weights: Float32[Tensor, "short width"],
    angles: Sides | Stacked,
    line: LineGraph,
) -> Float32[Tensor, "bonds width"]:
    """:meth:`BondConv.forward`."""
    rows, features, n_short = joined.rows(angle_rows, line), _stacked(angles), len(weights)  # features [1 or 2, G, F]
    own, other = layer.project.edges(atoms, bonds[:n_short], line)  # [2s, 2F], [s, 2F]
    total = messages(joined, rows, n_short, own, other, features, weights, layer.project.angle.weight, layer.message)
    return layer.updated(bonds, total, weights)


def _angle_update(
    layer: AngleUpdate,
    joined: Joined,
    atoms: Float32[Tensor, "atoms width"],
    bonds: Float32[Tensor, "short width"],
    angles: Sides | Stacked,
    line: LineGraph,
) -> Stacked:
    """:meth:`AngleUpdate.forward`: every row has a total of its own, and nothing weighs it."""
    rows, features = joined.rows(_angle_rows_apart, line), _stacked(angles)  # features [1 or 2, G, F]
    n, weight = rows.shape[2], layer.project.angle.weight
    own, other = layer.project.edges(atoms, bonds, line)  # [2s, 2F], [s, 2F]
    one = own.new_ones(1, layer.message.width)
    total = messages(joined, rows, 2 * n, own, other, features, one, weight, layer.message, own_targets=True)
    return features + total.view(2, n, layer.message.width)


def _angle_rows_apart(line: LineGraph) -> Index:
    return apart(angle_rows(line))


def _stacked(angles: Sides | Stacked) -> Stacked:
    if isinstance(angles, Tensor):
        return angles
    return angles[0][None] if angles[1] is angles[0] else torch.stack(angles)


_JOINED: dict[type, Callable] = {AtomConv: _atom_conv, BondConv: _bond_conv, AngleUpdate: _angle_update}
