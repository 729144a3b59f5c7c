"""CHGNet: network, layers, basis functions and pre-trained weights."""

from xclimb.models.chgnet.network import MAX_Z, CHGNet, CHGNetConfig

__all__ = ["MAX_Z", "CHGNet", "CHGNetConfig"]
