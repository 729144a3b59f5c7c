"""The method layerwise: learning rates by the distance from the readout, and layers frozen by name."""

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import toy
from transfer.disturbed import TRAIN, train
from xclimb.errors import ConfigError
from xclimb.transfer.methods import get_method, settings_of
from xclimb.transfer.methods.layerwise import distance_from_readout


def groups_of(**settings):
    network = toy().copy().model.requires_grad_(True)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = get_method("layerwise").adapt(network, settings_of({"name": "layerwise"} | settings))
    return {group.rate: {names[id(parameter)] for parameter in group.parameters} for group in groups}, set(names.values())


def test_rates_fall_geometrically_from_the_readout():
    groups, every = groups_of(rate_decay=0.5)
    assert list(groups) == [1.0, 0.5, 0.25, 0.125]  # readout, two blocks, embedding
    assert {"readout.0.weight", "readout_norm.weight", "magmom.bias"} <= groups[1.0]
    assert {name for name in every if name.startswith("atom_convs.1.")} <= groups[0.5]
    assert {name for name in every if name.startswith(("atom_convs.0.", "bond_convs.0."))} == groups[0.25]
    assert {"atom_embedding.weight", "radial.frequencies", "angle_embedding.weight"} <= groups[0.125]
    assert sorted(name for names in groups.values() for name in names) == sorted(every)  # each in one group


def test_a_network_without_lists_of_blocks_is_one_block():
    assert distance_from_readout(torch.nn.Sequential(torch.nn.Linear(2, 2)), "0.weight") == 0


def test_frozen_layers_stay_as_they_are(tmp_path):
    method = {"name": "layerwise", "freeze": ["atom_embedding", "atom_convs.0.message.*norm"]}
    run = train(tmp_path / "run", method=method, ema_decay=None)
    before, after = toy().model.state_dict(), xclimb.load(run.path / "checkpoints" / "last").model.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    norms = {name for name in before if name.startswith("atom_convs.0.message.") and "norm" in name}
    assert norms
    assert kept >= norms | {"atom_embedding.weight"}
    assert not kept & {"readout.0.weight", "atom_convs.0.centre.weight", "atom_convs.1.message.core_norm.weight"}


def test_equal_rates_are_those_of_residual(tmp_path):
    runs = [
        train(tmp_path / m["name"], method=m, epochs=1)
        for m in ({"name": "layerwise", "rate_decay": 1.0}, {"name": "residual"})
    ]
    np.testing.assert_array_equal(*(run.potential.label(TRAIN).forces for run in runs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["atom_embeding"]}, r"method.freeze: 'atom_embeding' matches no layer: did you mean 'atom_embedding'\?"),
        ({"freeze": ["*"]}, "method 'layerwise' trains no parameter"),
        ({"rate_decay": 0.0}, "'rate_decay' in method 'layerwise' must be greater than 0"),
        ({"rate_decay": 1.5}, "'rate_decay' in method 'layerwise' must be less than or equal to 1"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", method={"name": "layerwise"} | settings)
