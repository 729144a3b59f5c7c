"""Sums of messages for training: first and second gradients, against finite differences and against the plain layers."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms
from torch.nn.functional import huber_loss

from xclimb.data.frames import Frames
from xclimb.graph import build_batch
from xclimb.models.chgnet import CHGNet, CHGNetConfig, as_written
from xclimb.models.layers import Gate
from xclimb.models.zoo import load
from xclimb.units import ev_a3_to_gpa

from .test_parity import NAMES, frames, potential

messages = pytest.importorskip("xclimb.models.messages", reason="numba is not installed")
Joined, Side = messages.Joined, messages.Side


# -- the function itself, float64, against finite differences ---------------------------------------------


def job_and_inputs(hidden: bool, norm: bool, shared: bool):
    """Few rows, in tiles of which the last is not full; places that several rows share."""
    rng, width, rows = np.random.default_rng(0), 4, 5
    gate = Gate(width, hidden, norm).double()
    n_own, n_other, n_weights, n_targets = 3, 2, 4, 3
    sides = tuple(
        Side(*(rng.integers(0, n, rows) for n in (n_own, n_other, n_weights, n_targets))) for _ in range(2)
    )  # fmt: skip
    torch.manual_seed(0)
    shapes = [(rows, 2 * width), None if shared else (rows, 2 * width), (n_own, 2 * width), (n_other, 2 * width)]
    made = [None if shape is None else torch.randn(shape, dtype=torch.float64) for shape in (*shapes, (n_weights, width))]
    layers = torch.randn(2, width, width, dtype=torch.float64) if hidden else None
    made += [layers, torch.randn(3, 2, width, dtype=torch.float64)]
    job = messages.Job(sides, n_targets, norm, Joined())
    return gate, job, [None if x is None else x.requires_grad_() for x in made]


KINDS = pytest.mark.parametrize(
    ("hidden", "norm", "shared"), [(True, True, True), (True, True, False), (False, True, False), (True, False, True)]
)


@KINDS
def test_the_gradient_is_that_of_finite_differences(hidden, norm, shared, monkeypatch):
    monkeypatch.setattr(messages, "TILE", 3)
    _, job, inputs = job_and_inputs(hidden, norm, shared)
    assert torch.autograd.gradcheck(lambda *given: messages._Messages.apply(job, *given), inputs)


@KINDS
def test_the_gradient_of_the_gradient_is_that_of_finite_differences(hidden, norm, shared, monkeypatch):
    monkeypatch.setattr(messages, "TILE", 3)
    _, job, inputs = job_and_inputs(hidden, norm, shared)
    up = torch.randn(job.n_targets, inputs[4].shape[1], dtype=torch.float64, requires_grad=True)

    def gradient(up, *given):
        moved = [x for x in given[:5] if x is not None]
        return torch.autograd.grad(messages._Messages.apply(job, *given), moved, up, create_graph=True)

    assert torch.autograd.gradcheck(gradient, (up, *inputs))


@KINDS
def test_the_sum_is_that_of_the_plain_gate(hidden, norm, shared):
    gate, job, (first, second, own, other, weights, *_) = job_and_inputs(hidden, norm, shared)
    got = messages.messages(first, second, own, other, weights, gate, job.sides, job.n_targets, job.joined)
    expected = torch.zeros_like(got)
    for inner, side in zip((first, first if second is None else second), job.sides, strict=True):
        p, q, v, t = (torch.from_numpy(place) for place in side)
        expected = expected.index_add(0, t, gate(inner + own[p] + other[q]) * weights[v])
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-8)  # eps of the norms is rounded to float32


def test_a_gradient_of_parameters_cannot_be_differentiated_again():
    _, job, inputs = job_and_inputs(True, True, True)
    total = messages._Messages.apply(job, *inputs)
    (gradient,) = torch.autograd.grad(total.sum(), inputs[5], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.sum().backward()


# -- the network: the same parameter gradients as the plain layers ------------------------------------------


def loss_of(model, batch, update):
    out = model(batch, create_graph=True, update=update)
    terms = (out.energy / batch.n_atoms, out.forces, ev_a3_to_gpa(out.stress), out.magmoms)
    return sum(huber_loss(term, torch.full_like(term, 0.05), delta=0.1) for term in terms)


def gradients(model, batch, update):
    """Gradient of the loss with respect to each parameter that is trained."""
    model.zero_grad()
    loss_of(model, batch, update).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trainable(name, dtype):
    return potential(name, dtype).copy().model.requires_grad_(True)


def error(got, expected):
    assert got.keys() == expected.keys()
    square = sum(float((got[name].double() - expected[name]).square().sum()) for name in expected)
    return (square / sum(float(one.square().sum()) for one in expected.values())) ** 0.5


@pytest.mark.parametrize("name", NAMES)
def test_parameter_gradients_are_those_of_the_plain_layers(name):
    batch, model = build_batch(frames()[[3, 30, 41]], 6.0, 3.0), trainable(name, "float64")
    got, expected = gradients(model, batch, Joined()), gradients(model, batch, as_written)
    assert got.keys() == expected.keys()
    for parameter in expected:
        torch.testing.assert_close(
            got[parameter], expected[parameter], rtol=1e-6, atol=1e-9 * float(expected[parameter].norm())
        )


def test_float32_is_as_exact_as_the_plain_layers():
    batch = build_batch(frames()[[3, 30, 41]], 6.0, 3.0)
    exact = gradients(trainable("chgnet-0.3.0", "float64"), batch, as_written)
    coarse = trainable("chgnet-0.3.0", "float32")
    plain, joined = (error(gradients(coarse, batch, update), exact) for update in (as_written, Joined()))
    assert joined < 2 * plain + 1e-6


def test_the_loss_falls_along_its_gradient_as_it_says():
    batch, model = build_batch(frames()[[3, 41]], 6.0, 3.0), trainable("chgnet-0.3.0", "float64")
    gradient = gradients(model, batch, Joined())
    torch.manual_seed(0)
    direction = {name: torch.randn_like(one) * (1e-2 + one.abs()) for name, one in gradient.items()}
    slope = sum(float((gradient[name] * one).sum()) for name, one in direction.items())
    step, ends = 1e-5, []
    for sign in (1, -1):
        moved = deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter.add_(sign * step * direction.get(name, torch.zeros_like(parameter)))
        ends.append(float(loss_of(moved, batch, as_written).detach()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("tile", [7, 64])
def test_tiles_of_any_size_give_the_same(tile, monkeypatch):
    batch, model = build_batch(frames()[[3, 41]], 6.0, 3.0), trainable("chgnet-0.3.0", "float64")
    whole = gradients(model, batch, Joined())
    monkeypatch.setattr(messages, "TILE", tile)
    assert error(gradients(model, batch, Joined()), whole) < 1e-12


@pytest.mark.parametrize(
    "frozen", [("message.core.weight",), ("message",), ("atom_convs",), ("embedding", "radial", "angular"), ("readout",)]
)
def test_frozen_parameters_stay_out(frozen):
    batch, model = build_batch(frames()[[41]], 6.0, 3.0), trainable("chgnet-0.3.0", "float64")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))
    got = gradients(model, batch, Joined())
    assert not any(part in name for name in got for part in frozen)
    assert error(got, gradients(model, batch, as_written)) < 1e-8


def test_a_small_network_without_norms():
    torch.manual_seed(0)
    model = CHGNet(CHGNetConfig(width=5, n_blocks=3, norm=False, out_bias=True)).double()
    batch = build_batch(frames()[[3, 30]], 6.0, 3.0)
    assert error(gradients(model, batch, Joined()), gradients(model, batch, as_written)) < 1e-8


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Fe"),
        Atoms("Na2", [(0, 0, 0), (0, 0, 4.0)]),  # a bond, too long for angles
        Atoms("CO", [(0, 0, 0), (0, 0, 1.1)]),  # a short bond without an angle
        Atoms("OCO", [(0, 0, -1.2), (0, 0, 0), (0, 0.1, 1.2)]),  # one angle
    ],
    ids=["lone", "no short bond", "no angle", "one angle"],
)
def test_little_to_sum(atoms):
    batch, model = build_batch(Frames.from_ase([atoms]), 6.0, 3.0), trainable("chgnet-0.3.0", "float64")
    assert error(gradients(model, batch, Joined()), gradients(model, batch, as_written)) < 1e-8


def test_energies_alone_are_trained_too():
    batch, model = build_batch(frames()[[3, 41]], 6.0, 3.0), trainable("chgnet-0.3.0", "float64")
    found = []
    for update in (Joined(), as_written):
        model.zero_grad()
        model(batch, create_graph=True, derivatives=False, update=update).energy.square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert error(*found) < 1e-8


# -- which way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "dtype", "create_graph", "joined"),
    [("fused", "float32", True, True), ("plain", "float32", True, False), ("fused", "float64", True, False),
     ("fused", "float32", False, False)],
)  # fmt: skip
def test_training_takes_the_joined_way_where_it_can(path, dtype, create_graph, joined, monkeypatch):
    monkeypatch.setenv("XCLIMB_PATH", path)
    asked, call = [], Joined.__call__
    monkeypatch.setattr(Joined, "__call__", lambda self, layer: asked.append(layer) or call(self, layer))
    load("chgnet-0.3.0", dtype=dtype).model.requires_grad_(True)(build_batch(frames()[:1], 6.0, 3.0), create_graph=create_graph)
    assert bool(asked) == joined
