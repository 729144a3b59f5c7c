"""The method ewc: Fisher information of the source's own predictions, and the pull that it weights."""

import numpy as np
import pytest
import torch

import xclimb
from training.tiny import toy
from transfer.disturbed import TRAIN, train
from xclimb.errors import ConfigError
from xclimb.graph.batch import build_batch
from xclimb.transfer.methods import get_method
from xclimb.transfer.methods.ewc import fisher_information

FRAMES = TRAIN[:3]


def test_the_mean_weight_is_one():
    weights = fisher_information(toy(), FRAMES, seed=0)
    assert set(weights) == {name for name, _ in toy().model.named_parameters()}
    assert torch.cat([weight.flatten() for weight in weights.values()]).mean() == pytest.approx(1, rel=1e-5)
    assert not weights["magmom.weight"].any()  # neither energies nor forces depend on it


def test_it_predicts_how_far_energies_and_forces_move():
    """The mean over random signs is the sum over the force components, each differentiated alone."""
    frames = TRAIN[:1]
    sampled = torch.stack([fisher_information(toy(), frames, seed=seed)["readout.0.weight"][0] for seed in range(64)])
    ratio = sampled.mean(dim=0) / _component_by_component(frames)[0]
    assert ratio.std() / ratio.mean() < 0.3  # 64 samples


def _component_by_component(frames):
    potential = toy().copy()
    model = potential.model.requires_grad_(True)
    parameters = list(model.parameters())
    output = model(build_batch(frames, potential.graph), create_graph=True)
    squares = []
    for values in (output.energy, output.forces.flatten()):
        grads = [
            torch.autograd.grad(v, parameters, retain_graph=True, allow_unused=True, materialize_grads=True) for v in values
        ]
        total = [sum(grad[k].square() for grad in grads) for k in range(len(parameters))]
        mean = torch.cat([part.flatten() for part in total]).mean()
        squares.append([part / mean for part in total])
    place = [name for name, _ in model.named_parameters()].index("readout.0.weight")
    return (squares[0][place] + squares[1][place]) / 2


def test_labels_are_not_read():
    other = FRAMES.replace(energy=FRAMES.energy + 7, forces=2 * FRAMES.forces)
    one, two = (fisher_information(toy(), frames, seed=0) for frames in (FRAMES, other))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_strong_pull_holds_what_the_source_is_sensitive_to(tmp_path):
    def moved(strength: float) -> float:
        method = {"name": "ewc", "strength": strength, "fisher_frames": 4}
        run = train(tmp_path / f"run-{strength:g}", method=method, ema_decay=None, learning_rate=1e-3)
        after, before = xclimb.load(run.path / "checkpoints" / "last").model, dict(toy().model.named_parameters())
        weights = fisher_information(toy(), TRAIN[:4], seed=0)
        return sum(float((weights[name] * (p - before[name]).square()).sum()) for name, p in after.named_parameters())

    assert moved(1e4) < 0.5 * moved(0.0)


def test_no_strength_is_no_penalty(tmp_path):
    recipe = {**get_method("l2sp").recipe, "epochs": 1, "batch_size": 4}
    both = {"name": "ewc", "strength": 0.0}, {"name": "l2sp", "strength": 0.0, "rate_decay": 1.0}
    runs = [train(tmp_path / method["name"], method=method, **recipe) for method in both]
    np.testing.assert_array_equal(*(run.potential.label(TRAIN).energy for run in runs))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": -1.0}, "'strength' in method 'ewc' must be greater than or equal to 0"),
        ({"fisher_frames": 0}, "'fisher_frames' in method 'ewc' must be greater than or equal to 1"),
        ({"rank": 3}, "method.rank has no effect with method 'ewc'"),
    ],
)
def test_wrong_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", method={"name": "ewc"} | settings)
