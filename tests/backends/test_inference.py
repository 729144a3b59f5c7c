"""Predictions by the fused kernels: within the tolerances of float32, the same function where there is little to sum."""

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from models.test_parity import NAMES, deviations, frames, labelled, potential, require
from xclimb.data.frames import Frames
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.models.zoo import load
from xclimb.testing import TOLERANCES, check_potential, tiny_crystals

inference = pytest.importorskip("xclimb.backends.chgnet_cpu.inference", reason="numba is not installed")
messages = pytest.importorskip("xclimb.backends.chgnet_cpu.messages")
workers = pytest.importorskip("xclimb.backends.chgnet_cpu.workers")
products = pytest.importorskip("xclimb.backends.chgnet_cpu.products")


@pytest.fixture(autouse=True)
def require_the_fused_kernels(monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", "fused")  # whatever the number of threads here


def outputs(name, batch, **options):
    model = potential(name, "float32").model
    return model(batch, **options), inference.predict(model, batch, **options)


# -- the same function ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fused", "eager"])
@pytest.mark.parametrize("name", NAMES)
def test_fifty_crystals_within_the_tolerances(name, backend, monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", backend)
    pot = load(name)
    assert pot.describe()["backend"].startswith(backend)
    require(deviations(pot.label(frames()), labelled(name)), TOLERANCES["float32"], f"{name} {pot.describe()['backend']}")


def test_the_contract():
    pot = load("chgnet-0.3.0")
    assert pot.describe()["backend"] == "fused (numba)"
    check_potential(pot, {name: tiny_crystals()[name] for name in ("NaCl", "Cs")})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Fe"),
        Atoms("H", cell=np.eye(3) * 30, pbc=True),
        Atoms("Na2", [(0, 0, 0), (0, 0, 4.0)]),  # a bond, too long for angles
        Atoms("CO", [(0, 0, 0), (0, 0, 1.1)]),  # a short bond without an angle
        Atoms("OCO", [(0, 0, -1.2), (0, 0, 0), (0, 0, 1.2)]),  # one angle, straight
    ],
    ids=["lone", "lone in a box", "no short bond", "no angle", "one angle"],
)
def test_little_to_sum(name, atoms):
    eager, fused = outputs(name, build_batch(Frames.from_ase([atoms]), GraphSpec(6.0, 3.0)))
    torch.testing.assert_close(fused.site_energies, eager.site_energies, atol=2e-5, rtol=0)
    torch.testing.assert_close(fused.forces, eager.forces, atol=1e-4, rtol=0)
    torch.testing.assert_close(fused.magmoms, eager.magmoms, atol=2e-5, rtol=0)


def test_an_empty_batch():
    _, fused = outputs("chgnet-0.3.0", build_batch(Frames.empty(), GraphSpec(6.0, 3.0)))
    assert fused.energy.shape == (0,)
    assert fused.forces.shape == (0, 3)


def test_left_handed_cells():
    atoms = frames().to_ase()[12]
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    one, other = load("chgnet-0.3.0").predict([atoms, mirrored])
    np.testing.assert_allclose(other.stress, one.stress, atol=TOLERANCES["float32"].stress, rtol=0)


def test_energies_alone():
    batch = build_batch(frames()[:5], GraphSpec(6.0, 3.0))
    eager, fused = outputs("chgnet-0.3.0", batch, derivatives=False)
    assert fused.forces is None
    torch.testing.assert_close(fused.energy, eager.energy, atol=5e-5, rtol=0)


def test_the_number_of_threads_does_not_matter(monkeypatch):
    monkeypatch.setattr(workers, "ROWS_PER_THREAD", 100)  # so that these crystals are shared among the threads
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # torch's own stay as they are
    few, found = frames()[:20], []
    for number in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        found.append(load("chgnet-0.3.0").label(few))
    for other in found[1:]:
        np.testing.assert_allclose(other.energy / few.n_atoms, found[0].energy / few.n_atoms, atol=5e-6, rtol=0)
        np.testing.assert_allclose(other.forces, found[0].forces, atol=1e-4, rtol=0)


def test_saved_and_recomputed_activations_agree(monkeypatch):
    model, batch = potential("chgnet-0.3.0", "float32").model, build_batch(frames()[20:28], GraphSpec(6.0, 3.0))
    saved = inference.predict(model, batch)
    for few in ("CACHE_BYTES", "FEW_BONDS"):
        monkeypatch.setattr(inference, few, 0)
    again = inference.predict(model, batch)
    torch.testing.assert_close(saved.forces, again.forces, atol=0, rtol=0)
    torch.testing.assert_close(saved.stress, again.stress, atol=0, rtol=0)


def test_the_same_call_gives_the_same_bits():
    one, two = (load("chgnet-0.3.0").label(frames()[:6]) for _ in range(2))
    np.testing.assert_array_equal(one.forces, two.forces)


# -- weights that change ----------------------------------------------------------------------------------


def changed_in_place(model):
    with torch.no_grad():
        model.bond_convs[1].message.core_norm.weight.mul_(0.9)


def exchanged(model):
    layer = model.atom_convs[0].message.gate
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 0.9, requires_grad=False)


def loaded(model):
    model.load_state_dict({name: value * 0.99 for name, value in model.state_dict().items()})


def stepped(model):
    weight = model.angle_updates[0].project.angle.weight.requires_grad_()
    weight.grad = torch.linspace(-1, 1, weight.numel()).view_as(weight)
    torch.optim.SGD([weight], lr=1e-2).step()
    weight.requires_grad_(False)


@pytest.mark.parametrize("change", [changed_in_place, exchanged, loaded, stepped])
def test_weights_that_changed_are_noticed(change):
    model, batch = load("chgnet-0.3.0").copy().model, build_batch(frames()[[30, 41]], GraphSpec(6.0, 3.0))
    before = inference.predict(model, batch)
    change(model)
    eager, fused = model(batch), inference.predict(model, batch)
    assert abs(fused.energy - before.energy).max() > 1e-4
    torch.testing.assert_close(fused.site_energies, eager.site_energies, atol=2e-5, rtol=0)


# -- the arithmetic -------------------------------------------------------------------------------------


def test_silu_and_its_slope():
    values = np.linspace(-900, 900, 100_096, dtype=np.float32).reshape(-1, 128)
    values = np.concatenate([values, values / 60])
    x = torch.from_numpy(values).double().requires_grad_()
    exact = torch.nn.functional.silu(x)
    (slope,) = torch.autograd.grad(exact.sum(), x)
    got, got_slope = np.empty_like(values), np.empty_like(values)
    messages.silu_and_slope(values, got, got_slope)
    np.testing.assert_allclose(got, exact.detach().numpy(), rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(got_slope, slope.numpy(), rtol=1e-6, atol=3e-7)
    tiny = np.abs(got[got != 0]).min()
    assert tiny > np.finfo(np.float32).tiny, "no subnormal numbers"
    # of the sum of three terms, as most passes compute it: the same
    nothing, rows = np.zeros((1, 128), np.float32), np.zeros((2, len(values)), np.int32)
    summed, summed_slope = np.empty_like(values), np.empty_like(values)
    messages.silu_layer(0, values, nothing, nothing, rows, summed)
    np.testing.assert_array_equal(summed, got)
    messages.silu_and_slope_layer(0, values, nothing, nothing, rows, summed, summed_slope)
    np.testing.assert_array_equal(summed, got)
    np.testing.assert_array_equal(summed_slope, got_slope)


def test_what_is_not_a_number_stays_so():
    bad = np.full((2, 128), np.nan, dtype=np.float32)
    bad[1] = -bad[1]
    bad[0, 1::2] = np.uint32([0x7FC00001]).view(np.float32)  # with a payload
    silu, slope = np.zeros_like(bad), np.zeros_like(bad)
    messages.silu_and_slope(bad, silu, slope)
    assert np.isnan(silu).all()
    assert np.isnan(slope).all()
    messages.silu_layer(
        0, bad, np.zeros((1, 128), np.float32), np.zeros((1, 128), np.float32), np.zeros((2, 2), np.int32), silu
    )
    assert np.isnan(silu).all()
    vectors = build_batch(frames()[:2], GraphSpec(6.0, 3.0))
    vectors.vectors[0, 0] = np.nan
    assert torch.isnan(inference.predict(potential("chgnet-0.3.0", "float32").model, vectors).energy).any()


@given(st.integers(0, 40), st.integers(1, 70), st.sampled_from([64, 128]), st.sampled_from(["none", "row", "all"]))
def test_products(n, k, m, begin):
    rng = np.random.default_rng(n + 100 * k)
    a, b, c = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n, k), (k, m), (n, m)))
    start = {"none": np.zeros((1, m), np.float32), "row": rng.standard_normal((1, m), dtype=np.float32), "all": c}[begin]
    wanted = start.astype(float) + a.astype(float) @ b.astype(float)
    products.multiply(a, b, start, c)
    np.testing.assert_allclose(c, wanted, atol=1e-5 * np.sqrt(k))


def test_products_of_halves_leave_the_other_half():
    x, weight = np.ones((7, 128), np.float32), np.eye(64, dtype=np.float32)
    products.multiply(x[:, 64:], weight, np.ones((1, 64), np.float32), x[:, :64])
    np.testing.assert_array_equal(x, np.repeat([[2, 1]], 64, axis=1).reshape(1, 128).repeat(7, axis=0))
