"""Replay: the share of frames labelled by the source in every epoch, their targets, settings, resume, and what they keep."""

import ase.io
import numpy as np
import pytest

import xclimb
from training.tiny import rock_salts, toy
from transfer.disturbed import TRAIN, VAL, interrupted, outcome, train
from xclimb.config import TransferConfig
from xclimb.errors import ConfigError, DataError
from xclimb.files import read_json
from xclimb.references import fit_references
from xclimb.training.batches import BatchSource
from xclimb.training.engine import run_on_devices
from xclimb.training.replay import Mixture, with_replay
from xclimb.training.trainer import Trainer
from xclimb.transfer.methods import get_method


def crystals(path, count=12, seed=7):
    ase.io.write(path, rock_salts(count, seed=seed).to_ase())
    return str(path)


def test_an_epoch_has_every_training_frame_and_its_share_of_replay():
    replay = Mixture(sizes=(40, 7), drawn=(10,))
    orders = [replay.order(seed=3, epoch=epoch) for epoch in range(7)]
    for order in orders:
        assert sorted(order[order < 40].tolist()) == list(range(40))
        assert [(order[k : k + 10] >= 40).sum() for k in range(0, 50, 10)] == [2] * 5  # evenly spread
    used = np.concatenate([order[order >= 40] for order in orders]) - 40
    assert np.bincount(used, minlength=7).tolist() == [10] * 7  # 70 places, ten passes over seven crystals
    assert replay.order(3, 1).tolist() == orders[1].tolist() != replay.order(4, 1).tolist()


def test_targets_of_replay_frames_are_those_of_the_network_alone():
    start, config = toy(), TransferConfig(method="trainable", replay={"fraction": 0.5})
    other = rock_salts(4, seed=7, functional="PBE")
    trainer = Trainer(config, start, TRAIN, VAL, run_on_devices(config, lambda engine: engine), get_method("trainable"), other)
    data, n = trainer.train_data, len(TRAIN)
    assert len(data) == 2 * n + 4
    replayed = data.batch(np.arange(n, len(data)))
    wanted = start.label(other)
    np.testing.assert_allclose(replayed.targets.energy[n:], start.interaction_energy(other) / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(replayed.targets.forces[2 * n :], wanted.forces, rtol=0, atol=1e-6)
    assert not replayed.targets.fractions.any()  # the references of the target are not theirs
    assert replayed.frame_ids[0] == f"replay of {TRAIN.frame_id[0]}"
    own = data.batch(np.arange(n)).targets
    np.testing.assert_allclose(own.energy, (TRAIN.energy - start.references.energy(TRAIN)) / 2, rtol=0, atol=1e-5)
    assert own.fractions.any(dim=1).all()


def test_weights_of_frames_go_on():
    source = BatchSource(TRAIN, np.zeros(len(TRAIN)), toy().graph, toy().dtype, weights=np.linspace(0.5, 1.5, len(TRAIN)))
    assert with_replay(source, toy(), None, 0.2).weights[len(TRAIN) :].tolist() == pytest.approx([1.0] * len(TRAIN))


def test_a_killed_run_goes_on_to_the_bit_with_the_same_crystals(tmp_path):
    settings = {"replay": {"fraction": 0.3, "structures": crystals(tmp_path / "more.extxyz")}}
    whole = train(tmp_path / "whole", **settings)
    assert interrupted(tmp_path / "half", 4, **settings) == 0
    assert outcome(train(tmp_path / "half", resume=True, **settings).path) == outcome(whole.path)
    record = read_json(whole.path / "run.json")
    assert record["data"]["replay"]["frames"] == 12
    assert "Replay: 30 % of the frames of an epoch are of 22 crystals labelled by toy itself." in record["notes"]
    assert outcome(whole.path) != outcome(train(tmp_path / "without").path)
    interrupted(tmp_path / "other", 4, **settings)
    crystals(tmp_path / "more.extxyz", seed=8)
    with pytest.raises(DataError, match="the replay frames are not those that the run"):
        train(tmp_path / "other", resume=True, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replay": {"fraction": 1.0}}, r"'replay.fraction' must be less than 1"),
        ({"replay": {"structures": "x.cif"}}, r"replay.structures has no effect with replay.fraction 0: give replay.fraction"),
        ({"replay.fraction": 0.2, "method": "scratch"}, "replay.fraction has no effect with method 'scratch'"),
        ({"replay.share": 0.2}, "unknown setting 'replay.share'"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", **settings)


def test_replay_keeps_the_source_where_training_without_forgets_it(tmp_path):
    """Training on NaCl; errors on MgO and LiF with labels of the source's functional, its predictions and noise."""
    rng, (chloride, others) = np.random.default_rng(0), _by_material(rock_salts(30, seed=5))
    labels = toy().label(others)
    size = np.abs(labels.forces).mean()  # of the noise: the source has an error of its own
    noise = {"energy": rng.normal(0, size, len(labels)), "forces": rng.normal(0, size, labels.forces.shape)}
    labels = labels.replace(energy=labels.energy + noise["energy"], forces=labels.forces + noise["forces"])

    def errors(potential):
        fitted = potential.with_references(fit_references(labels, potential=potential, kind="residual"))
        metrics = xclimb.evaluate(fitted, labels)
        return np.array([metrics.energy_mae, metrics.forces_mae])

    ase.io.write(tmp_path / "more.extxyz", _by_material(rock_salts(60, seed=7))[1].to_ase())
    settings = {"train": chloride[:8], "val": chloride[8:], "epochs": 8, "learning_rate": 3e-3, "ema_decay": None}
    replay = {"fraction": 0.75, "structures": str(tmp_path / "more.extxyz")}
    runs = {"without": train(tmp_path / "without", **settings), "with": train(tmp_path / "with", **settings, replay=replay)}
    ratios = {name: errors(xclimb.load(run.path / "checkpoints" / "last")) / errors(toy()) for name, run in runs.items()}
    assert (ratios["with"] < 1.5).all(), ratios
    assert (ratios["without"] > 1.5).any(), ratios


def _by_material(frames):
    """NaCl, and the others."""
    return frames[frames.material_id == "m0"], frames[frames.material_id != "m0"]
