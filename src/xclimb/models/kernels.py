"""The three updates of CHGNet on a CPU in float32, fused: the equations of :mod:`xclimb.models.layers`, less memory traffic.

The messages of all three are one operation. Row r (a direction of a bond, a side of an angle) has

    x_r             = own[p_r] + other[q_r] + W f_r            first layer, projected where each part lives
    core_r, gate_r  = V silu(x_r) + c                          hidden layer (none in the angle update: core, gate = x)
    total[t_r]     += w[v_r] * silu(norm(core_r)) * sigmoid(norm(gate_r))

It runs over tiles of rows whose intermediates stay in the cache of a core: matrix products by torch, the rest by the
kernels of :mod:`xclimb.models.kernels_rows`. The gradient is written by hand and computes the intermediates of a tile
again, so that nothing is kept but the inputs of each update.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xclimb.models import kernels_rows as rows
from xclimb.models.layers import AngleUpdate, AtomConv, BondConv, Gate, LineGraph, Sides

TILE = 512  # rows; the five arrays [TILE, 2 F] of a tile take 1.3 MB at F = 64, less than the L2 cache of a core


class Side(NamedTuple):
    """Where the rows of one side come from and go to."""

    own: Int[np.ndarray, "rows"]  # p
    other: Int[np.ndarray, "rows"]  # q
    weight: Int[np.ndarray, "rows"]  # v
    target: Int[np.ndarray, "rows"]  # t


class Job(NamedTuple):
    """What stays the same for all rows of a call."""

    projection: Float32[Tensor, "two_width width"]  # W
    hidden: tuple[Tensor, Tensor] | None  # V of core and of gate, [F, F] each
    ends: Float32[np.ndarray, "2 3 width"]  # c, scale and shift of the norm, for core and for gate
    normed: bool
    sides: tuple[Side, Side]
    n_targets: int


def messages(
    own: Float32[Tensor, "own two_width"],
    other: Float32[Tensor, "other two_width"],
    features: tuple[Float32[Tensor, "rows width"], Float32[Tensor, "rows width"]],
    weights: Float32[Tensor, "weights width"],
    job: Job,
) -> Float32[Tensor, "targets width"]:
    """The sum above, ``[n_targets, F]``, differentiable once in all tensors; one f for both sides is projected once."""
    if torch.is_grad_enabled() and job.projection.requires_grad:
        raise RuntimeError("the fused path knows no gradient of the parameters: train on the plain path")
    second = None if features[1] is features[0] else features[1]
    total: Tensor = _Messages.apply(own, other, features[0], second, weights, job)
    return total


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own, other, first, second, weights, job):
        ctx.save_for_backward(own, other, first, second, weights)
        ctx.job = job
        total = torch.zeros(job.n_targets, weights.shape[1])
        tables, ends = (own.numpy(), other.numpy()), (job.ends, job.normed)
        for start, tile in _tiles(len(first), own.shape[1]):
            for side, features in zip(job.sides, (first, second), strict=True):
                _project(features, start, tile, job)
                _cores_and_gates(start, tile, side, tables, job, slope=False)
                rows.add_messages(start, tile.np.parts, *ends, weights.numpy(), side.weight, total.numpy(), side.target)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, g_total):
        own, other, first, second, weights = ctx.saved_tensors
        job = ctx.job
        g_own, g_other, g_weights = torch.zeros_like(own), torch.zeros_like(other), torch.zeros_like(weights)
        g_first, g_second = torch.empty_like(first), None if second is None else torch.empty_like(second)
        tables, g_tables = (own.numpy(), other.numpy()), (g_own.numpy(), g_other.numpy())
        up, ends = g_total.contiguous().numpy(), (job.ends, job.normed)
        for start, tile in _tiles(len(first), own.shape[1]):
            for side, features, g_features in zip(job.sides, (first, second), (g_first, g_second), strict=True):
                _project(features, start, tile, job)
                _cores_and_gates(start, tile, side, tables, job, slope=True)
                rows.add_messages_reverse(
                    start, tile.np.parts, *ends, weights.numpy(), side.weight, up, side.target, g_weights.numpy()
                )
                g_x = _cores_and_gates_reverse(tile, job)
                rows.scatter(start, g_x, g_tables[0], side.own, g_tables[1], side.other, tile.np.g_inner, features is None)
                _project_reverse(g_first if g_features is None else g_features, start, tile, job)
        return g_own, g_other, g_first, g_second, g_weights, None


def _project(features: Tensor | None, start: int, tile: "Tile", job: Job) -> None:
    """``inner = W f``; without f, the inner of the side before holds for this one too."""
    if features is not None:
        torch.mm(features[start : start + tile.n], job.projection.t(), out=tile.inner)


def _project_reverse(g_features: Tensor, start: int, tile: "Tile", job: Job) -> None:
    """The gradient of f; where both sides share f, the second call has the sum of both."""
    torch.mm(tile.g_inner, job.projection, out=g_features[start : start + tile.n])


def _cores_and_gates(start: int, tile: "Tile", side: Side, tables: tuple, job: Job, slope: bool) -> None:
    """Core and gate of each row before bias and norm, into ``tile.out``; optionally silu' of the hidden layer."""
    if job.hidden is None:
        rows.gather(start, tile.np.inner, tables[0], side.own, tables[1], side.other, tile.np.out)
        return
    rows.gather(start, tile.np.inner, tables[0], side.own, tables[1], side.other, tile.np.hidden)
    if slope:
        rows.silu_and_slope(tile.np.hidden, tile.np.slope)
    else:
        rows.silu(tile.np.hidden)
    for hidden, layer, out in zip(tile.hidden_halves, job.hidden, tile.out_halves, strict=True):
        torch.mm(hidden, layer.t(), out=out)


def _cores_and_gates_reverse(tile: "Tile", job: Job) -> np.ndarray:
    """From the gradient of core and gate, in ``tile.out``, to that of x, ``[n, 2 F]``."""
    if job.hidden is None:
        return tile.np.out
    for g_out, layer, g_hidden in zip(tile.out_halves, job.hidden, tile.hidden_halves, strict=True):
        torch.mm(g_out, layer, out=g_hidden)
    rows.multiply(tile.np.hidden, tile.np.slope)
    return tile.np.hidden


def _job(projection: Tensor, gate: Gate, sides: tuple[Side, Side], n_targets: int) -> Job:
    """The job of a gated MLP; a bias that is not there is zero, and a norm that is not there scales by one."""
    zero, one = torch.zeros(gate.width), torch.ones(gate.width)
    found = []
    for layer, norm in ((gate.core, gate.core_norm), (gate.gate, gate.gate_norm)):
        found.append(zero if layer is None else layer.bias)
        found += [norm.weight, norm.bias] if isinstance(norm, nn.LayerNorm) else [one, zero]
    hidden = None if gate.core is None or gate.gate is None else (gate.core.weight, gate.gate.weight)
    ends = torch.stack(found).view(2, 3, gate.width).detach().numpy()
    return Job(projection, hidden, ends, isinstance(gate.core_norm, nn.LayerNorm), sides, n_targets)


# -- work arrays --------------------------------------------------------------------------------------


class _Arrays(NamedTuple):
    """The work arrays as NumPy sees them."""

    inner: np.ndarray
    hidden: np.ndarray
    slope: np.ndarray
    out: np.ndarray
    g_inner: np.ndarray
    parts: np.ndarray  # out as [n, 2, F]


class Tile:
    """Work arrays for n rows, ``[n, 2 F]`` each: tensors for the products, the same memory in NumPy for the kernels."""

    def __init__(self, arrays: Float32[Tensor, "5 rows two_width"]):
        self.n = arrays.shape[1]
        self.inner, hidden, _, out, self.g_inner = arrays
        self.hidden_halves, self.out_halves = hidden.chunk(2, dim=1), out.chunk(2, dim=1)  # core and gate, [n, F] each
        self.np = _Arrays(*(array.numpy() for array in (*arrays, out.view(self.n, 2, -1))))


_kept = threading.local()  # the memory of each thread, kept from call to call


def _tiles(n_rows: int, both: int) -> Iterator[tuple[int, Tile]]:
    """First row and work arrays of each tile."""
    memory = getattr(_kept, "memory", None)
    if memory is None or len(memory) < 5 * TILE * both:
        memory = _kept.memory = torch.empty(5 * TILE * both)
    tile = None
    for start in range(0, n_rows, TILE):
        n = min(TILE, n_rows - start)
        if tile is None or tile.n != n:
            tile = Tile(memory[: 5 * n * both].view(5, n, both))
        yield start, tile


# -- the updates --------------------------------------------------------------------------------------


def _atom_conv(
    layer: AtomConv,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "bonds width"],
    weights: Float[Tensor, "bonds width"],
    centres: Int[Tensor, "bonds"],
    neighbours: Int[Tensor, "bonds"],
) -> Float[Tensor, "atoms width"]:
    """Fused :meth:`AtomConv.forward`: a row is a direction of a bond."""
    here, there, bond = centres.numpy(), neighbours.numpy(), np.arange(len(bonds))
    sides = Side(here, there, bond, here), Side(there, here, bond, there)
    job = _job(layer.bond.weight, layer.message, sides, len(atoms))
    total = messages(layer.centre(atoms), layer.neighbour(atoms), (bonds, bonds), weights, job)
    return atoms + layer.out(total)


def _bond_conv(
    layer: BondConv,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "bonds width"],
    weights: Float[Tensor, "short width"],
    angles: Sides,
    line: LineGraph,
) -> Float[Tensor, "bonds width"]:
    """Fused :meth:`BondConv.forward`: a row is an angle seen from one of its edges."""
    n_short = len(weights)
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    sides = Side(first, second_bond, second_bond, first_bond), Side(second, first_bond, first_bond, second_bond)
    job = _job(layer.project.angle.weight, layer.message, sides, n_short)
    total = messages(*layer.project.edges(atoms, bonds[:n_short], line), angles, weights, job)
    return layer.updated(bonds, total, weights)


def _angle_update(
    layer: AngleUpdate,
    atoms: Float[Tensor, "atoms width"],
    bonds: Float[Tensor, "short width"],
    angles: Sides,
    line: LineGraph,
) -> Sides:
    """Fused :meth:`AngleUpdate.forward`: every row has a total of its own, and nothing weighs it."""
    n = len(angles[0])
    first, second, first_bond, second_bond = (index.numpy() for index in line[1:])
    unweighted, row = np.zeros(n, dtype=np.int64), np.arange(n)
    sides = Side(first, second_bond, unweighted, row), Side(second, first_bond, unweighted, row + n)
    job = _job(layer.project.angle.weight, layer.message, sides, 2 * n)
    ones = torch.ones(1, bonds.shape[1])
    total = messages(*layer.project.edges(atoms, bonds, line), angles, ones, job)
    from_first, from_second = total.view(2, n, bonds.shape[1]).unbind()
    return angles[0] + from_first, angles[1] + from_second


_FUSED: dict[type, Callable] = {AtomConv: _atom_conv, BondConv: _bond_conv, AngleUpdate: _angle_update}


def fused(layer: nn.Module) -> Callable:
    """The layer as a function of the same arguments, fused; a layer of another kind as it is."""
    return partial(_FUSED[type(layer)], layer) if type(layer) in _FUSED else layer
