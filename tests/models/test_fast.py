"""The fused path: chosen by itself, within the tolerances of float32, and the same function where there is little to sum."""

import numpy as np
import pytest
import torch
from ase import Atoms

from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.graph import build_batch
from xclimb.models import paths
from xclimb.models.zoo import load
from xclimb.testing import TOLERANCES, check_potential, tiny_crystals

from .test_parity import NAMES, deviations, frames, labelled, potential, require

kernels = pytest.importorskip("xclimb.models.kernels", reason="numba is not installed")
FLOAT32, CPU = torch.float32, torch.device("cpu")


@pytest.fixture(autouse=True)
def take_the_fused_path(monkeypatch):
    monkeypatch.setenv("XCLIMB_PATH", "fused")  # whatever the number of threads here


def outputs(name, batch, **options):
    model = potential(name, "float32").model
    return model(batch, **options), model(batch, update=kernels.fused, **options)


# -- the same function ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["fused", "plain"])
@pytest.mark.parametrize("name", NAMES)
def test_fifty_crystals_within_the_tolerances(name, path, monkeypatch):
    monkeypatch.setenv("XCLIMB_PATH", path)
    pot = load(name)
    assert pot.describe()["path"].startswith(path)
    require(deviations(pot.label(frames()), labelled(name)), TOLERANCES["float32"], f"{name} {pot.describe()['path']}")


def test_the_contract():
    pot = load("chgnet-0.3.0")
    assert pot.describe()["path"] == "fused (numba)"
    check_potential(pot, {name: tiny_crystals()[name] for name in ("NaCl", "Cs")})


@pytest.mark.parametrize("tile", [7, 64])
def test_tiles_of_any_size_give_the_same(tile, monkeypatch):
    few = frames()[[3, 30, 41]]
    whole = load("chgnet-0.3.0").label(few)
    monkeypatch.setattr(kernels, "TILE", tile)
    tiled = load("chgnet-0.3.0").label(few)
    np.testing.assert_allclose(tiled.energy, whole.energy, atol=1e-5, rtol=0)
    np.testing.assert_allclose(tiled.forces, whole.forces, atol=1e-5, rtol=0)


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
    plain, fast = outputs(name, build_batch(Frames.from_ase([atoms]), 6.0, 3.0))
    torch.testing.assert_close(fast.site_energies, plain.site_energies, atol=2e-5, rtol=0)
    torch.testing.assert_close(fast.forces, plain.forces, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.magmoms, plain.magmoms, atol=2e-5, rtol=0)


def test_an_empty_batch():
    _, fast = outputs("chgnet-0.3.0", build_batch(Frames.empty(), 6.0, 3.0))
    assert fast.energy.shape == (0,)
    assert fast.forces.shape == (0, 3)


def test_left_handed_cells():
    atoms = frames().to_ase()[12]
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array[[1, 0, 2]])
    one, other = load("chgnet-0.3.0").predict([atoms, mirrored])
    np.testing.assert_allclose(other.stress, one.stress, atol=TOLERANCES["float32"].stress, rtol=0)


def test_energies_alone():
    batch = build_batch(frames()[:5], 6.0, 3.0)
    plain, fast = outputs("chgnet-0.3.0", batch, derivatives=False)
    assert fast.forces is None
    torch.testing.assert_close(fast.energy, plain.energy, atol=5e-5, rtol=0)


def test_the_number_of_threads_does_not_matter():
    few, before = frames()[:20], torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(load("chgnet-0.3.0").label(few))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[1].energy / few.n_atoms, found[0].energy / few.n_atoms, atol=5e-6, rtol=0)
    np.testing.assert_allclose(found[1].forces, found[0].forces, atol=1e-4, rtol=0)


# -- the arithmetic -------------------------------------------------------------------------------------


def test_silu_and_its_slope():
    given = np.linspace(-900, 900, 100_001, dtype=np.float32).reshape(1, -1)
    given = np.concatenate([given, given / 60])
    x = torch.from_numpy(given).double().requires_grad_()
    exact = torch.nn.functional.silu(x)
    (slope,) = torch.autograd.grad(exact.sum(), x)
    got, got_slope = given.copy(), np.empty_like(given)
    kernels.rows.silu_and_slope(got, got_slope)
    np.testing.assert_allclose(got, exact.detach().numpy(), rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(got_slope, slope.numpy(), rtol=1e-6, atol=3e-7)
    tiny = np.abs(got[got != 0]).min()
    assert tiny > np.finfo(np.float32).tiny, "no subnormal numbers"
    kernels.rows.silu(given)
    np.testing.assert_array_equal(given, got)


def test_what_is_not_a_number_stays_so():
    bad = np.full((1, 8), np.nan, dtype=np.float32)
    kernels.rows.silu(bad)
    assert np.isnan(bad).all()


# -- which path -----------------------------------------------------------------------------------------


def test_double_precision_and_training_stay_plain():
    assert load("chgnet-0.3.0", dtype="float64").describe()["path"] == "plain (cpu, float64)"
    model = load("chgnet-0.3.0").model.requires_grad_(True)
    batch = build_batch(frames()[:1], 6.0, 3.0)
    with pytest.raises(RuntimeError, match="train on the plain path"):
        model(batch, update=kernels.fused)
    assert model(batch, create_graph=True).forces.requires_grad


@pytest.mark.parametrize(("threads", "path"), [(1, "fused"), (2, "fused"), (8, "plain (8 threads")])
def test_few_threads_take_the_fused_path_by_themselves(threads, path, monkeypatch):
    monkeypatch.delenv("XCLIMB_PATH")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert paths.path_of(CPU, FLOAT32).startswith(path)


def test_without_numba(monkeypatch):
    monkeypatch.setattr(paths, "_what_is_missing", lambda: "without numba")
    assert paths.path_of(CPU, FLOAT32) == "plain (without numba)"
    assert paths.update_of(CPU, FLOAT32) is paths.as_written


def test_an_unknown_path(monkeypatch):
    monkeypatch.setenv("XCLIMB_PATH", "quick")
    with pytest.raises(ConfigError, match="XCLIMB_PATH='quick' is not a path"):
        paths.path_of(CPU, FLOAT32)
