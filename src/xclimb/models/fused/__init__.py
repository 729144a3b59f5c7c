"""CHGNet on a CPU in float32, fused: compiled by numba, gradient written by hand; see :mod:`xclimb.models.fused.network`."""

from xclimb.models.fused.network import outputs

__all__ = ["outputs"]
