"""CHGNet on a CPU in float32, fused: compiled by numba, gradients written by hand.

Predictions are made by :mod:`xclimb.models.fused.network`, updates that can be trained by :mod:`xclimb.models.fused.training`.
"""

from xclimb.models.fused.network import outputs

__all__ = ["outputs"]
