"""Sums of messages for training: backward and double backward, against PyTorch in float64 and finite differences."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from ase import Atoms
from torch.nn.functional import huber_loss, layer_norm, silu

from models.test_parity import NAMES, frames, potential
from xclimb.data.frames import Frames
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.models.chgnet import CHGNet, CHGNetConfig
from xclimb.units import ev_a3_to_gpa

training = pytest.importorskip("xclimb.backends.chgnet_cpu.training", reason="numba is not installed")
workers = pytest.importorskip("xclimb.backends.chgnet_cpu.workers")
products = pytest.importorskip("xclimb.backends.chgnet_cpu.products")
fused = training.forward


def eager(model, batch, derivatives=True):
    return model(batch, create_graph=True, derivatives=derivatives)


# -- the function itself, against the same in PyTorch and float64 ------------------------------------


def context_and_inputs(hidden: bool, norm: bool, shared: bool, save: bool = True):
    """Rows of a full tile and some more; places that several rows share."""
    rng, width, n = np.random.default_rng(0), 64, 101
    places = (7, 5, 4, 6)  # own, other, weights, totals
    index = np.stack([[rng.integers(0, size, n) for size in places] for _ in range(2)]).astype(np.int32)
    torch.manual_seed(0)
    shapes = [(7, 2 * width), (5, 2 * width), (1 if shared else 2, n, width), (4, width), (2 * width, width)]
    made = [torch.randn(shape) for shape in shapes]
    made[4] *= 0.1
    made += [0.2 * torch.randn(2 if hidden else 0, width, width), torch.randn(2, width) * hidden]
    made.append(torch.randn(4, width) if norm else torch.tensor([1.0, 0, 1, 0])[:, None].repeat(1, width))
    layer = training.pack(*made[4:], normed=norm)
    saved = training.ActivationCache(10**9 if save else 0).allocate(index, layer, training=True)
    state = training.ForwardPass()
    state.train_parameters = True
    return training.Context(index, 6, False, layer, state, saved), made


def reference_sum(context, own, other, features, weights, projection, hidden, bias, affine):
    total = own.new_zeros(context.n_totals, 64)
    for direction, places in enumerate(torch.from_numpy(context.rows).long()):
        p, q, v, t = places
        x = own[p] + other[q] + features[direction % len(features)] @ projection.T
        halves = (silu(x) if len(hidden) else x).chunk(2, dim=1)
        if len(hidden):
            halves = [half @ layer.T + c for half, layer, c in zip(halves, hidden, bias, strict=True)]
        if context.layer.normed:
            halves = [layer_norm(half, (64,), *affine[2 * k : 2 * k + 2]) for k, half in enumerate(halves)]
        total = total.index_add(0, t, silu(halves[0]) * torch.sigmoid(halves[1]) * weights[v])
    return total


def fused_sum(context, *given):
    return training._MessageSum.apply(context, *given)


def first_gradient(function, context, given, up):
    given = [x.detach().requires_grad_() for x in given]
    wanted = [x for k, x in enumerate(given) if matters(context, given, k)]
    return torch.autograd.grad((function(context, *given) * up).sum(), wanted)


def second_gradient(function, context, given, up, along):
    """The gradient of the derivative of ``sum up total`` along a direction of what moves with the atoms."""
    given, up = [x.detach().requires_grad_() for x in given], up.detach().requires_grad_()
    context.state.train_parameters = False
    slopes = torch.autograd.grad((function(context, *given) * up).sum(), given[:4], create_graph=True)
    slope = sum((one * direction).sum() for one, direction in zip(slopes, along, strict=True))
    context.state.train_parameters = True
    wanted = [up, *(x for k, x in enumerate(given) if matters(context, given, k))]
    return torch.autograd.grad(slope, wanted)


def matters(context, given, k):
    """A layer that is not there has no gradient: no V and c without a hidden layer, no affine without a norm."""
    return k < 5 or (k < 7 and len(given[5]) > 0) or (k == 7 and context.layer.normed)


def doubled(tensors):
    return [x.double() for x in tensors]


def require_exact(got, coarse, exact):
    """Every gradient is as near to that of float64 as the one of the eager layers in float32."""
    for one, other, true in zip(got, coarse, exact, strict=True):
        errors = [float((x - true).norm() / true.norm()) for x in (one, other)]
        assert errors[0] < 2 * errors[1] + 3e-7


KINDS = pytest.mark.parametrize(
    ("hidden", "norm", "shared", "save"),
    [
        (True, True, True, True),
        (True, True, True, False),
        (True, True, False, True),
        (False, True, False, True),
        (False, True, True, False),
        (True, False, True, True),
    ],
)


@KINDS
def test_the_sum(hidden, norm, shared, save):
    context, given = context_and_inputs(hidden, norm, shared, save)
    require_exact([fused_sum(context, *given)], [reference_sum(context, *given)], [reference_sum(context, *doubled(given))])


@KINDS
def test_the_gradient(hidden, norm, shared, save):
    context, given = context_and_inputs(hidden, norm, shared, save)
    up = torch.randn(context.n_totals, 64)
    got, coarse = (first_gradient(function, context, given, up) for function in (fused_sum, reference_sum))
    require_exact(got, coarse, first_gradient(reference_sum, context, doubled(given), up.double()))


@KINDS
def test_the_gradient_of_the_gradient(hidden, norm, shared, save):
    context, given = context_and_inputs(hidden, norm, shared, save)
    up, along = torch.randn(context.n_totals, 64), [torch.randn_like(x) for x in given[:4]]
    got, coarse = (second_gradient(function, context, given, up, along) for function in (fused_sum, reference_sum))
    require_exact(got, coarse, second_gradient(reference_sum, context, doubled(given), up.double(), doubled(along)))


def test_a_direction_in_which_little_moves():
    context, given = context_and_inputs(True, True, True)
    up, along = torch.randn(context.n_totals, 64), [torch.zeros_like(x) for x in given[:4]]
    along[2] = torch.randn_like(given[2])
    full = second_gradient(fused_sum, context, given, up, along)
    moved = [x.detach().requires_grad_() for x in given]
    context.state.train_parameters = False
    (slope,) = torch.autograd.grad((fused_sum(context, *moved) * up.requires_grad_()).sum(), moved[2], create_graph=True)
    alone = torch.autograd.grad((slope * along[2]).sum(), [up, *moved])
    for one, other in zip(full, alone, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("n", [1, 5, 96])
def test_a_sum_of_outer_products(n):
    rng = np.random.default_rng(n)
    a, b, begin = (rng.normal(size=shape).astype(np.float32) for shape in ((n, 128), (n, 64), (128, 64)))
    got = begin.copy()
    products.add_outer(a, b, got)
    np.testing.assert_allclose(got, begin + a.astype(float).T @ b, rtol=1e-5, atol=2e-5)


def test_a_gradient_of_parameters_cannot_be_differentiated_again():
    context, given = context_and_inputs(True, True, True)
    given[5].requires_grad_()
    (gradient,) = torch.autograd.grad(fused_sum(context, *given).sum(), given[5], create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.sum().backward()


# -- the network: the same parameter gradients as the eager layers ------------------------------------------


def loss_of(model, batch, forward):
    out = forward(model, batch)
    terms = (out.energy / batch.n_atoms, out.forces, ev_a3_to_gpa(out.stress), out.magmoms)
    return sum(huber_loss(term, torch.full_like(term, 0.05), delta=0.1) for term in terms)


def gradients(model, batch, forward):
    """Gradient of the loss with respect to each parameter that is trained."""
    model.zero_grad()
    loss_of(model, batch, forward).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def trainable(name, dtype):
    return potential(name, dtype).copy().model.requires_grad_(True)


def error(got, expected):
    assert got.keys() == expected.keys()
    square = sum(float((got[name].double() - expected[name]).square().sum()) for name in expected)
    return (square / sum(float(one.square().sum()) for one in expected.values())) ** 0.5


def require_as_exact(name, batch):
    """The gradients are as near to those of float64 as the ones of the eager layers in float32."""
    exact, coarse = gradients(trainable(name, "float64"), batch, eager), trainable(name, "float32")
    fast = gradients(coarse, batch, fused)
    assert error(fast, exact) < 2 * error(gradients(coarse, batch, eager), exact) + 1e-6
    return fast, exact


@pytest.mark.parametrize("name", NAMES)
def test_parameter_gradients_are_those_of_the_eager_layers(name):
    fast, exact = require_as_exact(name, build_batch(frames()[[3, 30, 41]], GraphSpec(6.0, 3.0)))
    largest = max(float(one.norm()) for one in exact.values())
    for parameter, true in exact.items():
        assert float((fast[parameter] - true).norm()) < 1e-4 * float(true.norm()) + 1e-6 * largest, parameter


def test_the_loss_falls_along_its_gradient_as_it_says():
    batch, model = build_batch(frames()[[3, 41]], GraphSpec(6.0, 3.0)), trainable("chgnet-0.3.0", "float64")
    gradient = {name: one.double() for name, one in gradients(trainable("chgnet-0.3.0", "float32"), batch, fused).items()}
    torch.manual_seed(0)
    direction = {name: torch.randn_like(one) * (1e-2 + one.abs()) for name, one in gradient.items()}
    slope = sum(float((gradient[name] * one).sum()) for name, one in direction.items())
    step, ends = 1e-5, []
    for sign in (1, -1):
        moved = deepcopy(model)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter.add_(sign * step * direction.get(name, torch.zeros_like(parameter)))
        ends.append(float(loss_of(moved, batch, eager).detach()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-5)


@pytest.mark.parametrize("number", [2, 5])
def test_the_number_of_threads_does_not_matter(number, monkeypatch):
    batch, model = build_batch(frames()[[3, 41]], GraphSpec(6.0, 3.0)), trainable("chgnet-0.3.0", "float32")
    whole = gradients(model, batch, fused)
    monkeypatch.setattr(workers, "ROWS_PER_THREAD", 100)  # so that these crystals are shared among the threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: number)
    found, again = gradients(model, batch, fused), gradients(model, batch, fused)
    assert error(found, whole) < 1e-5
    assert all(torch.equal(found[name], again[name]) for name in found)


@pytest.mark.parametrize(
    "frozen", [("message.core.weight",), ("message",), ("atom_convs",), ("embedding", "radial", "angular"), ("readout",)]
)
def test_frozen_parameters_stay_out(frozen):
    batch, model = build_batch(frames()[[41]], GraphSpec(6.0, 3.0)), trainable("chgnet-0.3.0", "float32")
    whole = gradients(model, batch, fused)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))
    got = gradients(model, batch, fused)
    assert got.keys() == {name for name in whole if not any(part in name for part in frozen)}
    assert error(got, {name: whole[name] for name in got}) < 1e-6


def test_a_small_network_without_norms():
    torch.manual_seed(0)
    model = CHGNet(CHGNetConfig(n_blocks=3, norm=False, out_bias=True))
    batch = build_batch(frames()[[3, 30]], GraphSpec(6.0, 3.0))
    exact = gradients(deepcopy(model).double(), batch, eager)
    fast, coarse = (error(gradients(model, batch, forward), exact) for forward in (fused, eager))
    assert fast < 2 * coarse + 1e-6


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
    require_as_exact("chgnet-0.3.0", build_batch(Frames.from_ase([atoms]), GraphSpec(6.0, 3.0)))


def test_energies_alone_are_trained_too():
    batch, model = build_batch(frames()[[3, 41]], GraphSpec(6.0, 3.0)), trainable("chgnet-0.3.0", "float32")
    found = []
    for forward in (fused, eager):
        model.zero_grad()
        forward(model, batch, derivatives=False).energy.square().sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert error(*found) < 1e-5
