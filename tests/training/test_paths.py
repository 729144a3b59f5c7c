"""Backends of training: validation with that of predictions, steps in bfloat16 by autocast."""

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import rock_salts, toy
from xclimb.backends.select import select
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError
from xclimb.training.engine import run_on_devices
from xclimb.training.objective import objective
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import get_method

TRAIN, VAL = rock_salts(8, seed=0), rock_salts(3, seed=1)
OPTIMIZERS = [
    {"ema_decay": 0.5},
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "schedulefree", "schedule": "constant"},
]


@pytest.fixture(scope="module")
def start():
    return get_method("residual").prepare(xclimb.load("chgnet-0.3.0"), TRAIN, TransferConfig().method, 0)


def trainer_of(start, **settings):
    config = TransferConfig.build({"batch_size": 4, "epochs": 2, "learning_rate": 0.01} | settings)
    return run_on_devices(config, lambda engine: Trainer(config, start, TRAIN, VAL, engine, get_method("residual")))


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=lambda settings: settings.get("optimizer", "ema"))
def test_validation_follows_the_weights_whatever_changes_them(start, settings, monkeypatch):
    """Kernels keep weights in a form of their own: an optimiser that changes them unseen would be validated with old ones."""
    pytest.importorskip("numba")
    trainer = trainer_of(start, **settings)
    assert select(trainer.evaluated.network).name == "fused (numba)"
    trainer.close_epoch()
    for _ in trainer.steps():
        pass
    found = trainer.close_epoch()["val"]
    monkeypatch.setenv("XCLIMB_BACKEND", "eager")
    eager = xclimb.evaluate(trainer.last, VAL)
    for name in ("energy_mae", "forces_mae", "stress_mae", "magmom_mae"):
        assert found[name] == pytest.approx(getattr(eager, name), rel=1e-4), name
    assert found["forces_mae"] != pytest.approx(trainer.history[0]["val"]["forces_mae"], rel=1e-3)


def gradient(start, **settings):
    """Of the loss of all training frames; and what the network gave for them."""
    trainer = trainer_of(start, **settings)
    batch, network = trainer.train_data.batch(np.arange(len(TRAIN))), trainer.trained.network
    found = trainer.engine.forward(network)(batch.graph, True)
    objective(found, batch.targets, batch.graph.n_atoms, trainer.config.loss)[0].backward()
    slopes = [parameter.grad.reshape(-1) for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat(slopes), found


def test_steps_in_bfloat16_point_where_those_in_float32_do(start):
    full, exact = gradient(start)
    low, rough = gradient(start, precision="bf16")
    assert rough.energy.dtype == rough.forces.dtype == rough.stress.dtype == low.dtype == torch.float32
    assert 0.97 < float(torch.cosine_similarity(full, low, dim=0)) < 0.999999
    # bfloat16 has three digits: seen, and no more than that
    assert 1e-4 < float((rough.forces - exact.forces).detach().abs().max()) < 0.1
    assert 1e-5 < float((rough.energy - exact.energy).detach().abs().max()) / 2 < 0.03


def test_bfloat16_is_for_steps_alone(tmp_path):
    runs = [
        xclimb.transfer(
            toy(), train=TRAIN, val=VAL, out=tmp_path / name, epochs=1, batch_size=4, precision=name, progress=False
        )
        for name in ("full", "bf16")
    ]
    full, low = (run.history for run in runs)
    assert low[0]["val"] == full[0]["val"]  # validated, and predicting, in float32
    assert low[1]["train"]["loss"] != full[1]["train"]["loss"]
    assert low[1]["val"]["loss"] == pytest.approx(full[1]["val"]["loss"], rel=0.1)
    assert any("made for accelerators" in note for note in runs[1].notes)
    assert not any("made for accelerators" in note for note in runs[0].notes)


def test_bfloat16_beside_float64_is_refused():
    with pytest.raises(ConfigError, match="precision has no effect with dtype 'float64'"):
        TransferConfig.build({"precision": "bf16", "dtype": "float64"})
