"""Radial and angular expansions of CHGNet (Deng et al., Nat. Mach. Intell. 5, 1031 (2023), Methods).

Both are computed in float64 and handed on in the network's dtype: phases reach 31 pi and arccos has a near-cusp at 180°, which
together cost float32 forces and stress two digits, while the expansions are a small part of the work.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


def _precise(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # Apple's GPUs have no float64


class RadialBessel(nn.Module):
    r"""Smooth radial Bessel functions, ``u(r) sqrt(2/r_c) sin(f_n r / r_c) / r`` with learnable ``f_n`` (n pi at first).

    The envelope ``u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` and its first two derivatives
    vanish at the cutoff (DimeNet, Gasteiger et al., ICLR 2020, eq. 8).
    """

    def __init__(self, size: int, cutoff: float, power: int):
        super().__init__()
        self.cutoff, self.power = cutoff, power
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, size + 1, dtype=torch.get_default_dtype()))

    def forward(self, lengths: Float[Tensor, "bonds"]) -> Float[Tensor, "bonds radial"]:
        """Basis values of bond lengths in Å."""
        p = self.power
        dtype, lengths = self.frequencies.dtype, _precise(lengths)
        x = lengths / self.cutoff
        high = x**p
        envelope = 1 - high * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))  # [B]
        envelope = torch.where(x < 1, envelope, torch.zeros_like(x)) * (math.sqrt(2 / self.cutoff) / lengths)
        return (torch.sin(torch.outer(x, self.frequencies.to(x.dtype))) * envelope[:, None]).to(dtype)  # [B, 31]


class Fourier(nn.Module):
    r"""``[1/sqrt 2, sin(f_n theta), cos(f_n theta)] / sqrt pi`` with learnable ``f_n`` (n at first)."""

    def __init__(self, size: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.arange(1, (size - 1) // 2 + 1, dtype=torch.get_default_dtype()))

    def forward(self, cosines: Float[Tensor, "angles"]) -> Float[Tensor, "angles angular"]:
        """Basis values of angles given by their cosine.

        The factor 1 - 1e-6 keeps arccos differentiable at 0° and 180°; it is part of the pre-trained function.
        """
        angles = torch.arccos(_precise(cosines) * (1 - 1e-6)).to(self.frequencies.dtype)  # [G]
        phases = torch.outer(angles, self.frequencies)  # [G, 15]
        constant = torch.full_like(angles, math.sqrt(0.5))[:, None]
        return torch.cat([constant, torch.sin(phases), torch.cos(phases)], dim=1) / math.sqrt(math.pi)  # [G, 31]
