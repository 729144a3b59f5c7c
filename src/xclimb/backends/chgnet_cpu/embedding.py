"""Embedding of bonds and angles: first features and weights of the bond vectors, forward and backward, in threads."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from xclimb.backends.chgnet_cpu.buffers import empty
from xclimb.backends.chgnet_cpu.expansions import angular_backward, angular_forward, radial_backward, radial_forward
from xclimb.backends.chgnet_cpu.vectors import WIDTH
from xclimb.backends.chgnet_cpu.weights import Packed
from xclimb.backends.chgnet_cpu.workers import parallel_rows
from xclimb.graph.batch import Batch


def embed(packed: Packed, batch: Batch) -> tuple[tuple[Float32[Tensor, "..."], ...], Callable]:
    """:meth:`CHGNet.embed`, and the gradient with respect to the bond vectors from that with respect to the features.

    Returns:
        features of bonds ``[B, F]``, their weights in the atom convolutions ``[B, F]``, those of short bonds in the bond
        convolutions ``[s, F]`` and features of angles ``[1, G, F]``; then a function of the gradients with respect to
        features and weights of bonds ``[2, B, F]``, of short bonds ``[s, F]`` and of angles ``[1 or 2, G, F]``.
    """
    vectors = batch.vectors.detach().contiguous().double().numpy()  # [B, 3]
    first, second = batch.first.numpy(), batch.second.numpy()  # [G]
    short = vectors[: batch.n_short]  # [s, 3]
    lengths = np.sqrt(np.einsum("sk,sk->s", short, short))[:, None]  # [s, 1]
    directions = short / lengths  # [s, 3]
    expansions = (vectors, packed.bonds), (short, packed.short_bonds)
    bonds, short_bonds = (empty((len(radial.weights), len(along), WIDTH)) for along, radial in expansions)
    for (along, radial), out in zip(expansions, (bonds, short_bonds), strict=True):
        _parallel(radial_forward, len(along), along, radial, out)
    angles = empty((len(first), WIDTH))  # [G, F]
    _parallel(angular_forward, len(first), directions, first, second, packed.angles, angles)

    def backward(g_bonds: Tensor, g_short: Tensor, g_angles: Tensor) -> Float64[Tensor, "bonds 3"]:
        g_vectors, g_directions = np.zeros_like(vectors), np.zeros_like(directions)
        for (along, radial), g_out in zip(expansions, (g_bonds.numpy(), g_short[None].numpy()), strict=True):
            _parallel(radial_backward, len(along), along, radial, g_out, g_vectors)

        def part(begin, end, work, is_first):
            mine = g_directions if is_first else np.zeros_like(g_directions)
            angular_backward(begin, end, directions, first, second, packed.angles, g_angles.numpy(), mine, work)
            return [mine]

        parallel_rows(part, len(first), [g_directions])
        along = np.einsum("sk,sk->s", directions, g_directions)[:, None]  # a unit vector changes across itself only
        g_vectors[: len(short)] += (g_directions - along * directions) / lengths
        return torch.from_numpy(g_vectors)

    return tuple(torch.from_numpy(array) for array in (*bonds, short_bonds[0], angles[None])), backward


def _parallel(kernel: Callable, n_rows: int, *arguments) -> None:
    """Run a kernel whose rows are independent."""

    def part(begin, end, work, is_first):
        kernel(begin, end, *arguments, work)
        return []

    parallel_rows(part, n_rows, [])
