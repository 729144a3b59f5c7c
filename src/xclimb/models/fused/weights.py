"""The weights of one kind of messages as the kernels read them, and where gradients with respect to them are added up."""

import math
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from xclimb.models.chgnet import CHGNet
from xclimb.models.layers import Gate
from xclimb.models.paths import WIDTH


class Layer(NamedTuple):
    """The weights of one kind of messages."""

    projection: Float32[np.ndarray, "two_width width"]  # W
    projection_t: Float32[np.ndarray, "width two_width"]
    hidden: Float32[np.ndarray, "gates width width"]  # V of core and of gate; none in the angle update
    hidden_t: Float32[np.ndarray, "gates width width"]
    bias: Float32[np.ndarray, "2 width"]  # c of core and of gate
    ends: Float32[np.ndarray, "4 width"]  # scale and shift of the norm of core and of gate
    normed: bool


class LayerGradient(NamedTuple):
    """Gradients with respect to the weights; all without rows where they are not wanted."""

    projection: Float32[np.ndarray, "_ width"]
    hidden: Float32[np.ndarray, "gates width width"]
    bias: Float32[np.ndarray, "_ width"]
    ends: Float32[np.ndarray, "_ width"]

    @classmethod
    def zeros(cls, layer: Layer) -> "LayerGradient":
        """Nothing added up yet."""
        return cls(*(zeros(array.shape) for array in (layer.projection, layer.hidden, layer.bias, layer.ends)))

    @classmethod
    def unwanted(cls) -> "LayerGradient":
        """Of weights that are not trained."""
        nothing = np.zeros((0, WIDTH), dtype=np.float32)
        return cls(nothing, np.zeros((0, WIDTH, WIDTH), dtype=np.float32), nothing, nothing)


def zeros(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Zeros that begin where a cache line does, so that a vector of 64 bytes is in one line.

    By NumPy, which asks for large pages where an array is large: large cells would spend their time on small ones.
    """
    size = math.prod(shape)
    memory = np.zeros(size + 16, dtype=np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + size].reshape(shape)


_packed: WeakKeyDictionary[nn.Module, tuple[list, dict[nn.Module, Layer]]] = WeakKeyDictionary()


def layers_of(model: CHGNet) -> dict[nn.Module, Layer]:
    """The weights of all updates, packed anew whenever a parameter has changed or was exchanged."""
    kept = _packed.get(model)
    if kept is not None and all(where[name] is value and value._version == version for where, name, value, version in kept[0]):
        return kept[1]
    layers = {layer: _pack(layer.bond.weight, layer.message) for layer in model.atom_convs}
    layers |= {layer: _pack(layer.project.angle.weight, layer.message) for layer in model.bond_convs}
    layers |= {layer: _pack(layer.project.angle.weight, layer.message) for layer in model.angle_updates}
    parts = [part for layer in layers for part in layer.modules()]
    state = [
        (part._parameters, name, value, value._version)
        for part in parts
        for name, value in part.named_parameters(recurse=False)
    ]
    _packed[model] = (state, layers)
    return layers


def _pack(projection: Tensor, gate: Gate) -> Layer:
    return packed(projection, *stacked(gate), normed=isinstance(gate.core_norm, nn.LayerNorm))


def stacked(gate: Gate) -> tuple[Tensor, Tensor, Tensor]:
    """V ``[2 or 0, F, F]``, c ``[2, F]`` and ends ``[4, F]``; a bias that is not there is 0, a missing norm scales by 1."""
    zero, one = torch.zeros(WIDTH), torch.ones(WIDTH)
    hidden, bias, ends = [], [], []
    for layer, norm in ((gate.core, gate.core_norm), (gate.gate, gate.gate_norm)):
        hidden += [] if layer is None else [layer.weight]
        bias.append(zero if layer is None else layer.bias)
        ends += [norm.weight, norm.bias] if isinstance(norm, nn.LayerNorm) else [one, zero]
    return torch.stack(hidden) if hidden else torch.zeros(0, WIDTH, WIDTH), torch.stack(bias), torch.stack(ends)


def packed(projection: Tensor, hidden: Tensor, bias: Tensor, ends: Tensor, normed: bool) -> Layer:
    """A copy of the weights."""
    return Layer(
        projection=_array(projection),
        projection_t=_array(projection.t()),
        hidden=_array(hidden),
        hidden_t=_array(hidden.transpose(1, 2)),
        bias=_array(bias),
        ends=_array(ends),
        normed=normed,
    )


def _array(weight: Tensor) -> Float32[np.ndarray, "..."]:
    return weight.detach().clone(memory_format=torch.contiguous_format).numpy()
