"""The three updates of CHGNet, with every first linear layer split over its inputs.

``W [a_i, b_ij, a_j] = W_1 a_i + W_2 b_ij + W_3 a_j``: each part is projected where it lives (an atom, a bond, an angle)
and only the results are gathered and added, instead of multiplying the concatenation for every edge. Core and gate of
a gated MLP share that projection, so their first layers are one product of width 2 F.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

# Features of each angle seen from its first and from its second edge, [G, F] each
AnglePair = tuple[Float[Tensor, "angles features"], Float[Tensor, "angles features"]]


class LineGraph(NamedTuple):
    """Angles as pairs of short directed edges, and the bonds that these belong to."""

    centres: Int[Tensor, "edges"]  # atom in the middle of each short directed edge
    first: Int[Tensor, "angles"]  # directed edges of each angle
    second: Int[Tensor, "angles"]
    first_bond: Int[Tensor, "angles"]  # the bonds of these edges
    second_bond: Int[Tensor, "angles"]


def linear(inputs: int, outputs: int, fan_in: int, bias: bool = False) -> nn.Linear:
    """A block of columns of a larger linear layer with ``fan_in`` inputs, initialised as PyTorch would the whole."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    bound = 1 / math.sqrt(fan_in)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)
    return layer


class _Floor(torch.autograd.Function):
    """Raise everything below a floor to it, in place; the gradient passes as if nothing had happened."""

    @staticmethod
    def forward(ctx, values, low):
        ctx.mark_dirty(values)
        return values.clamp_(min=low)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


# silu(x) and its derivative vanish below these to the precision of the type. The pre-trained networks have hidden values
# down to -800, where exp makes subnormal numbers, on which a CPU is many times slower.
_SILU_FLOOR = {torch.float32: -40.0, torch.float64: -700.0}


def hidden_silu(projected: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
    """SiLU of a freshly made tensor (it is overwritten), without subnormal numbers."""
    low = _SILU_FLOOR.get(projected.dtype)
    return F.silu(projected if low is None else _Floor.apply(projected, low))


class Gate(nn.Module):
    """Last layers of a gated MLP: ``silu(norm(core)) * sigmoid(norm(gate))``, optionally after a hidden layer."""

    def __init__(self, width: int, hidden: bool, norm: bool):
        super().__init__()
        self.width = width
        self.core = nn.Linear(width, width) if hidden else None
        self.gate = nn.Linear(width, width) if hidden else None
        self.core_norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.gate_norm = nn.LayerNorm(width) if norm else nn.Identity()

    def forward(self, projected: Float[Tensor, "rows two_width"]) -> Float[Tensor, "rows width"]:
        """From the sum of the projections ``[., 2 F]`` to the message ``[., F]``."""
        if self.core is not None and self.gate is not None:
            projected = hidden_silu(projected)  # [., 2F]
        core, gate = projected[:, : self.width], projected[:, self.width :]
        if self.core is not None and self.gate is not None:
            core, gate = self.core(core), self.gate(gate)  # [., F] each
        return F.silu(self.core_norm(core)) * torch.sigmoid(self.gate_norm(gate))  # [., F]


class AtomConv(nn.Module):
    r"""``a_i <- a_i + L( sum_j w_ij * phi(a_i, b_ij, a_j) )`` over all neighbours within the cutoff."""

    def __init__(self, width: int, norm: bool, out_bias: bool):
        super().__init__()
        self.centre = linear(width, 2 * width, 3 * width, bias=True)
        self.bond = linear(width, 2 * width, 3 * width)
        self.neighbour = linear(width, 2 * width, 3 * width)
        self.message = Gate(width, hidden=True, norm=norm)
        self.out = nn.Linear(width, width, bias=out_bias)

    def forward(
        self,
        atoms: Float[Tensor, "atoms width"],
        bonds: Float[Tensor, "bonds width"],
        weights: Float[Tensor, "bonds width"],
        centres: Int[Tensor, "bonds"],
        neighbours: Int[Tensor, "bonds"],
    ) -> Float[Tensor, "atoms width"]:
        """Updated atom features; each bond sends a message in both directions."""
        to, source, along = self.centre(atoms), self.neighbour(atoms), self.bond(bonds)  # [A, 2F], [A, 2F], [B, 2F]
        total = torch.zeros_like(atoms)  # [A, F]
        for here, there in ((centres, neighbours), (neighbours, centres)):
            projected = along + to.index_select(0, here) + source.index_select(0, there)  # [B, 2F]
            total = total.index_add(0, here, self.message(projected) * weights)  # [A, F]
        return atoms + self.out(total)


class AngleProjection(nn.Module):
    """First layer over ``[b_ij, b_ik, theta_jik, a_i]``, seen from both edges of each angle."""

    def __init__(self, width: int):
        super().__init__()
        self.first = linear(width, 2 * width, 4 * width, bias=True)
        self.second = linear(width, 2 * width, 4 * width)
        self.angle = linear(width, 2 * width, 4 * width)
        self.centre = linear(width, 2 * width, 4 * width)

    def edges(
        self, atoms: Float[Tensor, "atoms width"], bonds: Float[Tensor, "short width"], line: LineGraph
    ) -> tuple[Float[Tensor, "edges two_width"], Float[Tensor, "short two_width"]]:
        """Projections of edges onto the angles seen from them, ``[2 s, 2 F]``, of their bonds onto the others, ``[s, 2 F]``."""
        first, second = self.first(bonds), self.second(bonds)  # [s, 2F] each
        own = torch.cat([first, first]) + self.centre(atoms).index_select(0, line.centres)  # [2s, 2F], centre folded in
        return own, second

    def forward(
        self,
        atoms: Float[Tensor, "atoms width"],
        bonds: Float[Tensor, "short width"],
        angles: AnglePair,
        line: LineGraph,
    ) -> tuple[Float[Tensor, "angles two_width"], Float[Tensor, "angles two_width"]]:
        """Projections ``[G, 2 F]`` of each angle seen from its first and from its second edge."""
        own, second = self.edges(atoms, bonds, line)
        from_first = self.angle(angles[0])  # [G, 2F]
        from_second = from_first if angles[1] is angles[0] else self.angle(angles[1])
        return (
            from_first + own.index_select(0, line.first) + second.index_select(0, line.second_bond),
            from_second + own.index_select(0, line.second) + second.index_select(0, line.first_bond),
        )


class BondConv(nn.Module):
    r"""``b_ij <- b_ij + L( w_ij * sum_k w_ik * phi(b_ij, b_ik, theta_jik, a_i) )`` over the angles at both of its atoms.

    ``w_ij`` does not depend on k and is taken out of the sum. Only short bonds have angles; without a bias in L (all
    weights but those of CHGNet 0.2.0) long bonds keep their features.
    """

    def __init__(self, width: int, norm: bool, out_bias: bool):
        super().__init__()
        self.project = AngleProjection(width)
        self.message = Gate(width, hidden=True, norm=norm)
        self.out = nn.Linear(width, width, bias=out_bias)

    def forward(
        self,
        atoms: Float[Tensor, "atoms width"],
        bonds: Float[Tensor, "bonds width"],
        weights: Float[Tensor, "short width"],
        angles: AnglePair,
        line: LineGraph,
    ) -> Float[Tensor, "bonds width"]:
        """Updated bond features."""
        n_short = weights.shape[0]
        short = bonds[:n_short]  # [s, F]
        seen_from_first, seen_from_second = self.project(atoms, short, angles, line)  # [G, 2F] each
        total = torch.zeros_like(short)  # [s, F]
        total = total.index_add(0, line.first_bond, self.message(seen_from_first) * weights.index_select(0, line.second_bond))
        total = total.index_add(0, line.second_bond, self.message(seen_from_second) * weights.index_select(0, line.first_bond))
        return self.updated(bonds, total, weights)

    def updated(
        self,
        bonds: Float[Tensor, "bonds width"],
        total: Float[Tensor, "short width"],
        weights: Float[Tensor, "short width"],
    ) -> Float[Tensor, "bonds width"]:
        """Bond features after the sums over k are in."""
        n_short = weights.shape[0]
        short = bonds[:n_short] + self.out(total * weights)
        far = bonds[n_short:] if self.out.bias is None else bonds[n_short:] + self.out.bias
        return torch.cat([short, far])


class AngleUpdate(nn.Module):
    r"""``theta_jik <- theta_jik + phi(b_ij, b_ik, theta_jik, a_i)``, with no hidden layer in phi."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.project = AngleProjection(width)
        self.message = Gate(width, hidden=False, norm=norm)

    def forward(
        self,
        atoms: Float[Tensor, "atoms width"],
        bonds: Float[Tensor, "short width"],
        angles: AnglePair,
        line: LineGraph,
    ) -> AnglePair:
        """Updated angle features seen from either edge; the two are equal only before the first update."""
        seen_from_first, seen_from_second = self.project(atoms, bonds, angles, line)
        return angles[0] + self.message(seen_from_first), angles[1] + self.message(seen_from_second)
