"""The method delta: a frozen source and a trained correction, one potential on disk and on either backend."""

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import toy
from transfer.disturbed import VAL, train
from xclimb.errors import ConfigError
from xclimb.models.base import NetworkSum, sum_networks

DELTA = {"method": "delta", "ema_decay": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("delta") / "run", **DELTA)


def test_only_the_correction_is_trained(run):
    source, last = toy().model.state_dict(), xclimb.load(run.path / "checkpoints" / "last")
    frozen, correction = (part.state_dict() for part in last.model.parts)
    assert all(torch.equal(frozen[name], source[name]) for name in source)
    assert not torch.equal(correction["readout.0.weight"], source["readout.0.weight"])
    assert correction["magmom.weight"].ne(source["magmom.weight"]).any()
    assert last.describe()["parameters"] == 2 * toy().describe()["parameters"]


def test_energies_and_forces_are_sums_on_either_backend(run, monkeypatch):
    last = xclimb.load(run.path / "checkpoints" / "last")
    monkeypatch.setenv("XCLIMB_BACKEND", "eager")
    eager = last.label(VAL)
    assert last.describe()["backend"] == "eager (XCLIMB_BACKEND)"
    monkeypatch.setenv("XCLIMB_BACKEND", "fused")
    fused = last.label(VAL)
    assert "eager" not in last.describe()["backend"]
    parts = [xclimb.models.potential.Potential(part, last.references, last.theory).label(VAL) for part in last.model.parts]
    for label, tolerance in (("forces", 1e-4), ("stress", 1e-5), ("magmoms", 1e-5)):
        np.testing.assert_allclose(getattr(eager, label), getattr(fused, label), rtol=0, atol=tolerance)
    np.testing.assert_allclose(eager.energy, fused.energy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fused.forces, parts[0].forces + parts[1].forces, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(fused.magmoms, parts[1].magmoms)
    assert np.abs(parts[1].forces).max() > 1e-3  # the correction is at work


def test_both_paths_train_alike(tmp_path, monkeypatch):
    losses = []
    for backend in ("fused", "eager"):
        monkeypatch.setenv("XCLIMB_BACKEND", backend)
        losses.append(train(tmp_path / backend, **DELTA, epochs=1).history[-1]["val"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_corrected_potential_is_corrected_again(run, tmp_path):
    again = train(tmp_path / "again", **DELTA | {"source": run.path, "epochs": 0})
    assert len(again.potential.model.parts) == 3
    before = xclimb.load(run.path).label(VAL)
    np.testing.assert_allclose(again.potential.label(VAL).forces, before.forces, rtol=0, atol=1e-6)
    other = train(tmp_path / "other", source=run.path, method="frozen", epochs=1, ema_decay=None)
    assert isinstance(other.potential.model, NetworkSum)


def test_sums_of_sums_are_flat():
    one, two, three = (toy().copy().model for _ in range(3))
    assert len(sum_networks([sum_networks([one, two]), three]).parts) == 3


def test_delta_has_no_settings(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.rank has no effect with method 'delta'"):
        train(tmp_path / "run", method={"name": "delta", "rank": 3})


def test_a_network_that_names_no_last_layer(tmp_path, monkeypatch):
    monkeypatch.setattr(type(toy().model), "energy_layer", None)
    with pytest.raises(ConfigError, match="'delta' needs a network whose energies have a last layer, CHGNet names none"):
        train(tmp_path / "run", method="delta")
