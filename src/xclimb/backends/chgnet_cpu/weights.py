"""Weights of a network in the layout of the kernels, and gradients with respect to them."""

import math
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from xclimb.backends.chgnet_cpu.buffers import zeros
from xclimb.backends.chgnet_cpu.edges import Edges
from xclimb.backends.chgnet_cpu.expansions import Angular, Radial, padded
from xclimb.backends.chgnet_cpu.vectors import WIDTH
from xclimb.models.chgnet.basis import Fourier, RadialBessel
from xclimb.models.chgnet.layers import AngleProjection, Gate
from xclimb.models.chgnet.network import CHGNet


class Layer(NamedTuple):
    """The weights of one kind of messages."""

    projection: Float32[np.ndarray, "two_width width"]  # W
    projection_t: Float32[np.ndarray, "width two_width"]
    hidden: Float32[np.ndarray, "gates width width"]  # V of core and of gate; none in the angle update
    hidden_t: Float32[np.ndarray, "gates width width"]
    bias: Float32[np.ndarray, "2 width"]  # c of core and of gate
    affine: Float32[np.ndarray, "4 width"]  # scale and shift of the norm of core and of gate
    normed: bool


class LayerGradient(NamedTuple):
    """Gradients with respect to the weights; all without rows for weights that are not trained."""

    projection: Float32[np.ndarray, "_ width"]
    hidden: Float32[np.ndarray, "gates width width"]
    bias: Float32[np.ndarray, "_ width"]
    affine: Float32[np.ndarray, "_ width"]

    @classmethod
    def zeros(cls, layer: Layer) -> "LayerGradient":
        """Zero gradients."""
        return cls(*(zeros(array.shape) for array in (layer.projection, layer.hidden, layer.bias, layer.affine)))

    @classmethod
    def none(cls) -> "LayerGradient":
        """Empty arrays, for weights that are not trained."""
        nothing = np.zeros((0, WIDTH), dtype=np.float32)
        return cls(nothing, np.zeros((0, WIDTH, WIDTH), dtype=np.float32), nothing, nothing)


class Packed(NamedTuple):
    """Weights of a network in the layout of the kernels; those of its layers by the layers."""

    bonds: Radial
    short_bonds: Radial
    angles: Angular
    edges: dict[nn.Module, Edges]
    messages: dict[nn.Module, Layer]


_packed: WeakKeyDictionary[nn.Module, tuple[list, Packed]] = WeakKeyDictionary()


def packed_weights(model: CHGNet) -> Packed:
    """The weights of a network, packed anew whenever a parameter has changed or was exchanged."""
    known = _packed.get(model)
    if known is not None and all(
        parameters.get(name) is value and value._version == version for parameters, name, value, version in known[0]
    ):
        return known[1]
    state = [
        (part._parameters, name, value, value._version)
        for part in model.modules()
        for name, value in part.named_parameters(recurse=False)
    ]
    with_angles = [*model.bond_convs, *model.angle_updates]
    packed = Packed(
        bonds=_radial(model.radial, model.bond_embedding.weight, model.atom_weights.weight),
        short_bonds=_radial(model.short_radial, model.bond_weights.weight),
        angles=_angular(model.angular, model.angle_embedding.weight),
        edges={layer: _edges(layer.project) for layer in with_angles},
        messages={layer: _layer(layer.bond.weight, layer.message) for layer in model.atom_convs}
        | {layer: _layer(layer.project.angle.weight, layer.message) for layer in with_angles},
    )
    _packed[model] = (state, packed)
    return packed


def _radial(basis: RadialBessel, *weights: Tensor) -> Radial:
    size = len(basis.frequencies)
    frequencies = np.zeros(padded(size))
    frequencies[:size] = basis.frequencies.detach().numpy()
    weights_t = np.zeros((len(weights), len(frequencies), WIDTH), dtype=np.float32)
    square = np.zeros((len(weights), WIDTH, WIDTH), dtype=np.float32)
    for head, weight in enumerate(weights):
        square[head, :, :size] = weight.detach().numpy()
        weights_t[head, :size] = square[head, :, :size].T
    return Radial(frequencies, float(basis.cutoff), int(basis.power), weights_t, square)


def _angular(basis: Fourier, weight: Tensor) -> Angular:
    n = len(basis.frequencies)
    size = padded(2 * n) // 2
    frequencies = np.zeros(size)
    frequencies[:n] = basis.frequencies.detach().numpy()
    constant, *waves = np.split(weight.detach().numpy() / np.float32(math.sqrt(math.pi)), [1, n + 1], axis=1)
    square = np.zeros((WIDTH, WIDTH), dtype=np.float32)
    for place, columns in zip((0, size), waves, strict=True):
        square[:, place : place + n] = columns
    start = np.ascontiguousarray(constant.T * np.float32(math.sqrt(0.5)))
    return Angular(frequencies, np.ascontiguousarray(square[:, : 2 * size].T), square, start)


def _edges(layer: AngleProjection) -> Edges:
    first, second = layer.first.weight, layer.second.weight
    return Edges(_array(first), _array(first.t()), _array(second), _array(second.t()), _array(layer.first.bias)[None])


def _layer(projection: Tensor, gate: Gate) -> Layer:
    return pack(projection, *gate_weights(gate), normed=isinstance(gate.core_norm, nn.LayerNorm))


def gate_weights(gate: Gate) -> tuple[Tensor, Tensor, Tensor]:
    """V ``[2 or 0, F, F]``, c ``[2, F]`` and affine ``[4, F]``; a missing bias is 0, a missing norm scales by 1."""
    zero, one = torch.zeros(WIDTH), torch.ones(WIDTH)
    hidden, bias, affine = [], [], []
    for layer, norm in ((gate.core, gate.core_norm), (gate.gate, gate.gate_norm)):
        hidden += [] if layer is None else [layer.weight]
        bias.append(zero if layer is None else layer.bias)
        affine += [norm.weight, norm.bias] if isinstance(norm, nn.LayerNorm) else [one, zero]
    return torch.stack(hidden) if hidden else torch.zeros(0, WIDTH, WIDTH), torch.stack(bias), torch.stack(affine)


def pack(projection: Tensor, hidden: Tensor, bias: Tensor, affine: Tensor, normed: bool) -> Layer:
    """A copy of the weights."""
    return Layer(
        projection=_array(projection),
        projection_t=_array(projection.t()),
        hidden=_array(hidden),
        hidden_t=_array(hidden.transpose(1, 2)),
        bias=_array(bias),
        affine=_array(affine),
        normed=normed,
    )


def _array(weight: Tensor) -> Float32[np.ndarray, "..."]:
    return weight.detach().clone(memory_format=torch.contiguous_format).numpy()
