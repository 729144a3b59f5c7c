"""CHGNet on a CPU in float32, fused: kernels compiled by numba, gradients written by hand.

``messages`` (forward and backward) and ``double_backward`` are the kernels of the messages, ``expansions`` and ``edges`` those
around them, ``inference`` and ``training`` the network made of them; ``buffers`` is their memory, ``workers`` their threads.
"""

from xclimb.backends.chgnet_cpu.inference import predict
from xclimb.backends.chgnet_cpu.support import unknown_layer, unsupported_size
from xclimb.backends.chgnet_cpu.training import forward

NAME = "fused (numba)"

__all__ = ["NAME", "forward", "predict", "unknown_layer", "unsupported_size"]
