r"""The three updates of CHGNet for training: each sum of messages one function, with hand-written first and second gradient.

The equations are those of :mod:`xclimb.models.layers`, the formulas and names those of :mod:`xclimb.models.gates`. Autograd
sees one node for a sum of messages, one for its gradient, and calls the gradient of that for a loss on forces and stress.
Kept between the passes is only ``z``, what the hidden layer gives; all else is computed again, in tiles of rows that stay in
the cache of a core. For a CPU with numba; elsewhere training takes the plain layers, see :meth:`CHGNet.forward`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xclimb.models import gates as rows
from xclimb.models.layers import AngleUpdate, AtomConv, BondConv, Gate, LineGraph, Sides

TILE = 512  # rows; arrays [TILE, 2 F] take 0.25 MB each at F = 64


class Joined:
    """What computes the layers of a network: sums of messages as above; a layer of another kind as it is."""

    def __init__(self):
        self.parameters = True  # whether gradients of the parameters are wanted: autograd does not tell its functions

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


class Side(NamedTuple):
    """Where the rows of one side take from and add to."""

    own: Int[np.ndarray, "rows"]  # p
    other: Int[np.ndarray, "rows"]  # q
    weight: Int[np.ndarray, "rows"]  # v
    target: Int[np.ndarray, "rows"]  # t


class Job(NamedTuple):
    """What is neither differentiated nor changes from row to row."""

    sides: tuple[Side, Side]
    n_targets: int
    normed: bool
    joined: Joined


class Inputs(NamedTuple):
    """The tensors that messages are made of, or gradients of them; None where there is none."""

    first: Float[Tensor, "rows two_width"]  # inner of the first side
    second: Float[Tensor, "rows two_width"] | None  # and of the second, where it is another
    own: Float[Tensor, "own two_width"]
    other: Float[Tensor, "other two_width"]
    weights: Float[Tensor, "weights width"]  # w
    layers: Float[Tensor, "2 width width"] | None  # V of core and of gate
    ends: Float[Tensor, "3 2 width"]  # c, gamma, beta of core and of gate

    def gradients(self, layers: bool) -> "Inputs":
        """Where gradients are added up; inner is written, not added to, and layers may be left out."""
        inner = [None if x is None else torch.empty_like(x) for x in self[:2]]
        others = [torch.zeros_like(x) for x in (self.own, self.other, self.weights)]
        of_layers = torch.zeros_like(self.layers) if layers and self.layers is not None else None
        return Inputs._make([*inner, *others, of_layers, torch.zeros_like(self.ends)])

    def sides(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Inner, own and other of either side."""
        own, other, first = self.own.numpy(), self.other.numpy(), self.first.numpy()
        return (first, own, other), (first if self.second is None else self.second.numpy(), own, other)


class Block:
    """Some rows of core and gate side by side, ``[n, 2 F]``, as the kernels and as the products want them."""

    def __init__(self, rows: Tensor):
        self.np = rows.numpy()
        self.parts = self.np.reshape(len(rows), 2, -1)  # [n, 2, F]
        self.halves = rows.chunk(2, dim=1)  # [n, F] each


def _tiles(job: Job) -> Iterator[tuple[int, slice, Side]]:
    """Side, rows and places of each tile."""
    for start in range(0, len(job.sides[0].own), TILE):
        for side, places in enumerate(job.sides):
            tile = slice(start, start + TILE)
            yield side, tile, Side(*(place[tile] for place in places))


def _times(h: Block, layers: Tensor, out: Block) -> None:
    """``V h``, or with the layers transposed the way back."""
    for half, layer, result in zip(h.halves, layers, out.halves, strict=True):
        torch.mm(half, layer.t(), out=result)


def _add_outer(gradient: Tensor, g_z: Block, h: Block) -> None:
    """Add the gradient of V, the sum of ``dE/dz h^T`` over the rows."""
    for total, g, half in zip(gradient, g_z.halves, h.halves, strict=True):
        total.addmm_(g.t(), half)


class _Messages(torch.autograd.Function):
    """``total[t] = sum w[v] m``."""

    @staticmethod
    def forward(ctx, job, *given):
        inputs = Inputs(*given)
        terms, curved = inputs.sides(), inputs.layers is not None
        weights, ends = inputs.weights.numpy(), inputs.ends.numpy()
        z = inputs.own.new_empty(2, len(inputs.first), inputs.own.shape[1])  # [2, n, 2F]
        total = inputs.weights.new_zeros(job.n_targets, inputs.weights.shape[1])
        work = _Work(inputs.own)
        for side, tile, at in _tiles(job):
            inner, own, other = terms[side]
            kept = Block(z[side, tile])
            h = work.blocks(len(kept.np))[0] if curved else kept
            rows.hidden(inner[tile], own, other, at.own, at.other, curved, h.np)
            if curved:
                _times(h, inputs.layers, kept)
            rows.message(kept.parts, ends, job.normed, weights, at.weight, at.target, total.numpy())
        ctx.save_for_backward(*inputs, z)
        ctx.job = job
        return total

    @staticmethod
    def backward(ctx, g_total):
        trained = tuple(needed and ctx.job.joined.parameters for needed in ctx.needs_input_grad[6:8])
        return None, *_Gradient.apply(ctx.job, trained, g_total, *ctx.saved_tensors)


class _Gradient(torch.autograd.Function):
    """The gradient of ``sum g_total total`` with respect to all tensors."""

    @staticmethod
    def forward(ctx, job, trained, g_total, *given):
        inputs, z = Inputs(*given[:-1]), given[-1]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g_total, *given)
        ctx.job = job
        g = inputs.gradients(trained[0])
        terms, g_terms, curved = inputs.sides(), g.sides(), inputs.layers is not None
        weights, ends, up = inputs.weights.numpy(), inputs.ends.numpy(), g_total.contiguous().numpy()
        g_weights, g_ends = g.weights.numpy(), g.ends.numpy()
        work = _Work(inputs.own)
        for side, tile, at in _tiles(job):
            inner, own, other = terms[side]
            g_inner, g_own, g_other = g_terms[side]
            kept = z[side, tile].numpy()
            h, g_z = work.blocks(len(kept))
            rows.message_reverse(
                kept.reshape(g_z.parts.shape), ends, job.normed, weights, at.weight, at.target, up, g_weights,
                trained[1], g_ends, g_z.parts,
            )  # fmt: skip
            if g.layers is not None:
                rows.hidden(inner[tile], own, other, at.own, at.other, curved, h.np)
                _add_outer(g.layers, g_z, h)
            if inputs.layers is not None:
                _times(g_z, inputs.layers.mT, h)
            g_h, add = h if curved else g_z, side == 1 and inputs.second is None
            terms_ = inner[tile], own, other, at.own, at.other, curved
            rows.hidden_reverse(*terms_, g_h.np, add, g_inner[tile], g_own, g_other)
        return *g[:6], g.ends if trained[1] else None

    @staticmethod
    @once_differentiable
    def backward(ctx, *cotangents):
        if cotangents[5] is not None or cotangents[6] is not None:
            raise RuntimeError("a gradient with respect to parameters cannot be differentiated again")
        g_total, *given, z = ctx.saved_tensors
        job, inputs = ctx.job, Inputs(*given)
        # a cotangent that is not there is a direction in which nothing moves
        moved = (
            torch.zeros_like(x) if x is not None and dot is None else dot
            for x, dot in zip(inputs[:5], cotangents[:5], strict=True)
        )
        dots = Inputs._make([*(x if x is None else x.contiguous() for x in moved), None, inputs.ends])
        trained, total_dot = ctx.needs_input_grad[8:10], torch.zeros_like(g_total)
        g = inputs.gradients(trained[0])
        terms, moving, g_terms, curved = inputs.sides(), dots.sides(), g.sides(), inputs.layers is not None
        weights, weights_dot, ends = inputs.weights.numpy(), dots.weights.numpy(), inputs.ends.numpy()
        up, out = g_total.contiguous().numpy(), total_dot.numpy()
        g_weights, g_ends = g.weights.numpy(), g.ends.numpy()
        work = _Work(inputs.own)
        for side, tile, at in _tiles(job):
            inner, own, other = terms[side]
            inner_dot, own_dot, other_dot = moving[side]
            g_inner, g_own, g_other = g_terms[side]
            x = inner[tile], own, other, inner_dot[tile], own_dot, other_dot, at.own, at.other, curved
            kept = z[side, tile].numpy()
            h, h_dot, z_dot, g_z = work.pairs(len(kept))
            rows.hidden_tangent(*x, h.np)  # h' above h
            if curved:
                _times(h_dot, inputs.layers, z_dot)
            rows.message_second(
                kept.reshape(z_dot.parts.shape), (z_dot if curved else h_dot).parts, ends, job.normed, weights, weights_dot,
                at.weight, at.target, up, out, g_weights, trained[1], g_ends, g_z.parts,
            )  # fmt: skip
            if g.layers is not None:
                _add_outer(g.layers, g_z, h)  # dE/dz h'^T + dphi/dz h^T
            if inputs.layers is not None:
                _times(g_z, inputs.layers.mT, h)
            g_h, add = h if curved else g_z, side == 1 and inputs.second is None
            rows.hidden_second(*x, g_h.np, add, g_inner[tile], g_own, g_other)
        return None, None, total_dot, *g[:6], g.ends if trained[1] else None, None


class _Work:
    """Memory for the rows of one tile, the same for all tiles of a call."""

    def __init__(self, like: Tensor):
        self.memory = like.new_empty(5 * TILE, like.shape[1])
        self.made: dict[int, list[Block]] = {}  # by number of rows

    def blocks(self, n: int) -> list[Block]:
        """Two blocks of n rows."""
        return self._cut(n, (0, 1), (1, 2))

    def pairs(self, n: int) -> list[Block]:
        """A block of 2 n rows, its first n rows, a block of n and another of 2 n."""
        return self._cut(n, (0, 2), (0, 1), (2, 3), (3, 5))

    def _cut(self, n: int, *parts: tuple[int, int]) -> list[Block]:
        if n not in self.made:
            self.made[n] = [Block(self.memory[start * n : stop * n]) for start, stop in parts]
        return self.made[n]


def messages(
    first: Float[Tensor, "rows two_width"],
    second: Float[Tensor, "rows two_width"] | None,
    own: Float[Tensor, "own two_width"],
    other: Float[Tensor, "other two_width"],
    weights: Float[Tensor, "weights width"],
    gate: Gate,
    sides: tuple[Side, Side],
    n_targets: int,
    joined: Joined,
) -> Float[Tensor, "targets width"]:
    """The sum of messages over the rows of two sides; ``second`` None: both sides have the inner of the first."""
    layers = None if gate.core is None or gate.gate is None else torch.stack([gate.core.weight, gate.gate.weight])
    job = Job(sides, n_targets, isinstance(gate.core_norm, nn.LayerNorm), joined)
    total: Tensor = _Messages.apply(job, first, second, own, other, weights, layers, _ends(gate, own))
    return total


def _ends(gate: Gate, like: Tensor) -> Float[Tensor, "3 2 width"]:
    """Bias, scale and shift of core and gate; a bias that is not there is 0, and a norm that is not there scales by 1."""
    zero, one = like.new_zeros(gate.width), like.new_ones(gate.width)
    bias = [zero if layer is None else layer.bias for layer in (gate.core, gate.gate)]
    norms = [gate.core_norm, gate.gate_norm]
    scale = [norm.weight if isinstance(norm, nn.LayerNorm) else one for norm in norms]
    shift = [norm.bias if isinstance(norm, nn.LayerNorm) else zero for norm in norms]
    return torch.cat([*bias, *scale, *shift]).view(3, 2, gate.width)


# -- the updates ----------------------------------------------------------------------------------------


def _atom_conv(
    layer: AtomConv,
    joined: Joined,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "bonds width"],
    weights: Float[Tensor, "bonds width"],
    centres: Int[Tensor, "bonds"],
    neighbours: Int[Tensor, "bonds"],
) -> Float[Tensor, "atoms width"]:
    """:meth:`AtomConv.forward`: a row is a direction of a bond."""
    here, there, bond = centres.numpy(), neighbours.numpy(), np.arange(len(bonds))
    sides = Side(here, there, bond, here), Side(there, here, bond, there)
    own, other = layer.centre(atoms), layer.neighbour(atoms)
    total = messages(layer.bond(bonds), None, own, other, weights, layer.message, sides, len(atoms), joined)
    return atoms + layer.out(total)


def _bond_conv(
    layer: BondConv,
    joined: Joined,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "bonds width"],
    weights: Float[Tensor, "short width"],
    angles: Sides,
    line: LineGraph,
) -> Float[Tensor, "bonds width"]:
    """:meth:`BondConv.forward`: a row is a side of an angle."""
    n_short = len(weights)
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    sides = Side(first, second_bond, second_bond, first_bond), Side(second, first_bond, first_bond, second_bond)
    own, other = layer.project.edges(atoms, bonds[:n_short], line)
    inner = _inner(layer.project.angle, angles)
    total = messages(*inner, own, other, weights, layer.message, sides, n_short, joined)
    return layer.updated(bonds, total, weights)


def _angle_update(
    layer: AngleUpdate,
    joined: Joined,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "short width"],
    angles: Sides,
    line: LineGraph,
) -> Sides:
    """:meth:`AngleUpdate.forward`: every row has a total of its own, and nothing weighs it."""
    n = len(angles[0])
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    unweighted, row = np.zeros(n, dtype=np.int64), np.arange(n)
    sides = Side(first, second_bond, unweighted, row), Side(second, first_bond, unweighted, row + n)
    own, other = layer.project.edges(atoms, bonds, line)
    inner, ones = _inner(layer.project.angle, angles), own.new_ones(1, layer.message.width)
    total = messages(*inner, own, other, ones, layer.message, sides, 2 * n, joined)
    return angles[0] + total[:n], angles[1] + total[n:]


def _inner(projection: nn.Linear, angles: Sides) -> tuple[Tensor, Tensor | None]:
    return projection(angles[0]), None if angles[1] is angles[0] else projection(angles[1])


_JOINED: dict[type, Callable] = {AtomConv: _atom_conv, BondConv: _bond_conv, AngleUpdate: _angle_update}
