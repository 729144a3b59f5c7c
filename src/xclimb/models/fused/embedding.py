"""From the bond vectors to the first features and weights of bonds and angles, and back: all of them, in threads."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from xclimb.graph import Batch
from xclimb.models.fused.expansions import angular_forward, angular_reverse, radial_forward, radial_reverse
from xclimb.models.fused.memory import empty
from xclimb.models.fused.threads import in_parts
from xclimb.models.fused.weights import Packed
from xclimb.models.paths import WIDTH


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
        _share(radial_forward, len(along), along, radial, out)
    angles = empty((len(first), WIDTH))  # [G, F]
    _share(angular_forward, len(first), directions, first, second, packed.angles, angles)

    def reverse(g_bonds: Tensor, g_short: Tensor, g_angles: Tensor) -> Float64[Tensor, "bonds 3"]:
        g_vectors, g_directions = np.zeros_like(vectors), np.zeros_like(directions)
        for (along, radial), g_out in zip(expansions, (g_bonds.numpy(), g_short[None].numpy()), strict=True):
            _share(radial_reverse, len(along), along, radial, g_out, g_vectors)

        def part(begin, end, work, is_first):
            mine = g_directions if is_first else np.zeros_like(g_directions)
            angular_reverse(begin, end, directions, first, second, packed.angles, g_angles.numpy(), mine, work)
            return [mine]

        in_parts(part, len(first), [g_directions])
        along = np.einsum("sk,sk->s", directions, g_directions)[:, None]  # of a unit vector, only what is across matters
        g_vectors[: len(short)] += (g_directions - along * directions) / lengths
        return torch.from_numpy(g_vectors)

    return tuple(torch.from_numpy(array) for array in (*bonds, short_bonds[0], angles[None])), reverse


def _share(kernel: Callable, n_rows: int, *arguments) -> None:
    """Run a kernel whose rows have nothing to do with each other."""

    def part(begin, end, work, is_first):
        kernel(begin, end, *arguments, work)
        return []

    in_parts(part, n_rows, [])
