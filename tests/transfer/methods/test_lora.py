"""The method lora: exact at step 0, trained on either path, merged where it is saved, kept through a kill."""

import pytest
import torch
from torch import nn

import xclimb
from training.tiny import toy
from transfer.disturbed import TRAIN, VAL, interrupted, outcome, places, train
from xclimb.errors import ConfigError
from xclimb.runs.states import read_state

LORA = {"method": {"name": "lora", "rank": 3, "alpha": 6.0}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("lora") / "run", **LORA, ema_decay=None)


@pytest.mark.parametrize("backend", ["fused", "eager"])
def test_step_zero_is_exact(tmp_path, backend, monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", backend)
    settings = {"source": "chgnet-0.3.0", "epochs": 0}
    lora, residual = (train(tmp_path / name, method=name, **settings) for name in ("lora", "residual"))
    assert lora.history[0]["val"] == residual.history[0]["val"]
    for name in ("energy", "forces", "stress"):
        assert (getattr(lora.potential.label(VAL), name) == getattr(residual.potential.label(VAL), name)).all()


def test_what_is_saved_is_a_plain_network(run):
    before = toy().model.state_dict()
    for name in ("best", "last"):
        saved = xclimb.load(run.path / "checkpoints" / name).model
        assert saved.state_dict().keys() == before.keys()
        assert not any(nn.utils.parametrize.is_parametrized(layer) for layer in saved.modules())
    assert any(line["val"]["loss"] < run.history[0]["val"]["loss"] for line in run.history)


def test_updates_have_the_rank_and_the_rest_is_frozen(run):
    last = xclimb.load(run.path / "checkpoints" / "last").model
    layers = {name for name, layer in last.named_modules() if isinstance(layer, nn.Linear)}
    before = toy().model.state_dict()
    for name, value in last.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer in layers and kind == "weight":
            assert torch.linalg.matrix_rank((value - before[name]).double(), atol=1e-5) <= 3
        else:
            assert torch.equal(value, before[name])
    assert not torch.equal(last.readout[0].weight, before["readout.0.weight"])


def test_the_saved_network_has_the_errors_of_the_trained_one(run):
    last, line = xclimb.load(run.path / "checkpoints" / "last"), run.history[-1]["val"]
    assert xclimb.evaluate(last, VAL).energy_mae == pytest.approx(line["energy_mae"], rel=1e-5)
    assert xclimb.evaluate(last, VAL).forces_mae == pytest.approx(line["forces_mae"], rel=1e-5)


def test_only_targets_are_updated(tmp_path):
    run = train(tmp_path / "run", method={"name": "lora", "targets": ["atom_convs.*.bond", "readout.*"]})
    before, after = toy().model.state_dict(), xclimb.load(run.path / "checkpoints" / "last").model.state_dict()
    names = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.endswith("bond.weight") for name in names)
    assert all(name.endswith("bond.weight") or name.startswith("readout.") for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": ["atom_conv.*"]}, r"'atom_conv\.\*' matches no layer: did you mean 'atom_convs"),
        ({"targets": ["readout_norm"]}, "'readout_norm' matches no layer"),  # a norm is no linear layer
        ({"rank": 0}, "'rank' in method 'lora' must be greater than or equal to 1"),
        ({"rnk": 4}, "unknown setting 'rnk' in method 'lora': did you mean 'rank'"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", method={"name": "lora"} | settings)


def test_rank_is_a_setting_of_lora(tmp_path):
    with pytest.raises(ConfigError, match=r"method\.rank has no effect with method 'residual', it is a setting of 'lora'"):
        train(tmp_path / "run", **{"method.rank": 8})


def test_both_paths_train_alike(tmp_path, monkeypatch):
    settings = LORA | {"source": "chgnet-0.3.0", "epochs": 1, "batch_size": 5}
    losses = []
    for backend in ("fused", "eager"):
        monkeypatch.setenv("XCLIMB_BACKEND", backend)
        run = train(tmp_path / backend, **settings)
        assert "eager" not in run.potential.describe()["backend"] or backend == "eager"
        losses.append(run.history[-1]["val"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_killed_run_goes_on_to_the_bit(tmp_path, ema):
    settings = LORA | {"ema_decay": ema}
    whole = train(tmp_path / "whole", **settings)
    assert interrupted(tmp_path / "half", 4, **settings) == 0
    tensors, _ = read_state(places(tmp_path / "half")[-1])
    assert any(name.startswith("trained/network.readout.0.parametrizations.weight.0.a") for name in tensors)
    assert outcome(train(tmp_path / "half", resume=True, **settings).path) == outcome(whole.path)


def test_a_transferred_potential_is_a_source_like_any_other(run, tmp_path):
    more = train(tmp_path / "more", source=run.path, train=TRAIN[:6], method="frozen", epochs=1)
    assert more.history[0]["val"]["forces_mae"] == pytest.approx(run.metrics.forces_mae, rel=1e-4)
