"""The method head: trains the readout and layers chosen by name, and nothing else."""

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import toy
from transfer.disturbed import TRAIN, VAL, interrupted, outcome, train
from xclimb.errors import ConfigError


def changed(run) -> set[str]:
    """Names of the tensors that are not those of the source."""
    before, after = toy().model.state_dict(), xclimb.load(run.path / "checkpoints" / "last").model.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_only_the_readout_is_trained(tmp_path):
    run = train(tmp_path / "run", method="head", ema_decay=None)
    names = changed(run)
    assert any(name.startswith("readout.") for name in names)
    assert all(name.startswith("readout") for name in names)


def test_layers_by_pattern(tmp_path):
    last = f"atom_convs.{len(toy().model.atom_convs) - 1}.*"
    run = train(tmp_path / "run", method={"name": "head", "targets": ["readout*", last]})
    names = changed(run)
    assert any(name.startswith(last[:-1]) for name in names)
    assert all(name.startswith(("readout", last[:-1])) for name in names)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["readuot"],
            r"method.targets: 'readuot' matches no layer: did you mean 'readout'\? There are .*atom_convs\.\*\.centre",
        ),
        (["readout", "zzz"], "'zzz' matches no layer: There are"),
        ([], "at least 1 item"),
    ],
)
def test_targets_that_match_nothing(tmp_path, targets, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", method={"name": "head", "targets": targets})
    assert not (tmp_path / "run").exists()


def test_a_head_without_labels_trains_nothing(tmp_path):
    frames = TRAIN.replace(magmoms=np.full_like(TRAIN.magmoms, np.nan))
    with pytest.raises(ConfigError, match="method 'head' trains no parameter"):
        train(tmp_path / "run", train=frames, method={"name": "head", "targets": ["magmom"]})


def test_step_zero_is_that_of_residual(tmp_path):
    head, residual = (train(tmp_path / name, method=name, epochs=0) for name in ("head", "residual"))
    assert head.history[0]["val"] == residual.history[0]["val"]
    assert (head.potential.label(VAL).energy == residual.potential.label(VAL).energy).all()


def test_a_killed_run_goes_on_to_the_bit(tmp_path):
    settings = {"method": {"name": "head", "targets": ["readout", "atom_convs.1.*"]}}
    whole = train(tmp_path / "whole", **settings)
    assert interrupted(tmp_path / "half", 4, **settings) == 0
    assert outcome(train(tmp_path / "half", resume=True, **settings).path) == outcome(whole.path)
