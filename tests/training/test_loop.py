from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from training.tiny import rock_salts
from xclimb.config import LossSettings, TransferConfig
from xclimb.graph.batch import GraphSpec
from xclimb.training.adaptation import ParameterGroup
from xclimb.training.batches import BatchSource
from xclimb.training.engine import run_on_devices
from xclimb.training.loop import evaluate, train_step
from xclimb.training.optimizers import make_optimizer

WEIGHTS = LossSettings()
ENGINE = run_on_devices(TransferConfig(), lambda engine: engine)


class Springs(nn.Module):
    """A network with the interface of the real one: a harmonic energy for each bond, constants by trainable parameters."""

    def __init__(self):
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(0.05, dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        self.calls = []

    def forward(self, batch, create_graph=False, derivatives=True):
        self.calls.append((create_graph, derivatives))
        vectors = batch.vectors.detach().requires_grad_()
        with torch.enable_grad():
            per_bond = self.stiffness * (vectors.norm(dim=1) - 2) ** 2
            energy = torch.zeros(batch.n_systems, dtype=vectors.dtype).index_add(0, batch.bond_system, per_bond)
            energy = energy + self.offset * batch.n_atoms
            forces = stress = None
            if derivatives:
                (gradient,) = torch.autograd.grad(energy.sum(), vectors, create_graph=create_graph)
                forces = torch.zeros(len(batch.numbers), 3, dtype=vectors.dtype)
                forces = forces.index_add(0, batch.centres, gradient).index_add(0, batch.neighbours, -gradient)
                stress = torch.zeros(batch.n_systems, 3, 3, dtype=vectors.dtype)
        magmoms = torch.zeros(len(batch.numbers), dtype=vectors.dtype)
        return SimpleNamespace(energy=energy, forces=forces, stress=stress, magmoms=magmoms)


def source_of(frames):
    return BatchSource(frames, np.full(len(frames), -20.0), GraphSpec(4.0, 3.0), torch.float64)


def _forward(model, batch, derivatives):
    return model(batch, create_graph=True, derivatives=derivatives)


def _forward(model, batch, derivatives):
    return model(batch, create_graph=True, derivatives=derivatives)


def steps_of(model, source, config, epoch=0, plan=None, optimizer=None, **more):
    """All steps of one pass, each of ``config.accumulate`` batches."""
    optimizer = optimizer or make_optimizer(config, [ParameterGroup(list(model.parameters()))])
    plan = source.plan(config, epoch) if plan is None else plan
    done = []
    for k in range(0, len(plan), config.accumulate):
        step = plan[k : k + config.accumulate]
        totals = source.totals(np.concatenate(step))
        forward = partial(_forward, model)
        done.append(train_step(forward, source.batches(step), optimizer, config.loss, ENGINE, totals, **more))
    return done


def error_of(model, source, config):
    return evaluate(
        lambda graph, derivatives: model(graph, derivatives=derivatives),
        source.batches(source.plan(config)),
        config.loss,
        ENGINE,
    )


def test_steps_lower_the_loss():
    model, source = Springs(), source_of(rock_salts())
    config = TransferConfig(learning_rate=0.05, batch_size=2, loss=LossSettings(stress=0, magmom=0))
    before = error_of(model, source, config).loss(config.loss)
    for epoch in range(5):
        steps = steps_of(model, source, config, epoch)
    assert error_of(model, source, config).loss(config.loss) < before
    assert len(steps) == 3
    assert all(step.is_finite for step in steps)


def test_derivatives_are_computed_only_where_wanted():
    frames = rock_salts()
    model = Springs()
    steps_of(model, source_of(frames), TransferConfig(loss=LossSettings(force=0, stress=0)))
    assert set(model.calls) == {(True, False)}
    model = Springs()
    bare = frames.replace(forces=np.full_like(frames.forces, np.nan), stress=np.full_like(frames.stress, np.nan))
    steps_of(model, source_of(bare), TransferConfig())
    assert set(model.calls) == {(True, False)}
    model = Springs()
    steps_of(model, source_of(frames), TransferConfig())
    assert set(model.calls) == {(True, True)}


def test_evaluation_changes_nothing_and_builds_no_graph_of_the_gradient():
    model, source = Springs(), source_of(rock_salts())
    sums = error_of(model, source, TransferConfig(batch_size=3))
    assert set(model.calls) == {(False, True)}
    assert model.stiffness.grad is None
    assert sums.table[3, 0] == 6


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "schedulefree"])
@pytest.mark.parametrize("label", ["energy", "forces"])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(label, optimizer):
    frames = rock_salts()
    values = getattr(frames, label).copy()
    values[5 if label == "energy" else 10] = np.inf
    source, model = source_of(frames.replace(**{label: values})), Springs()
    config = TransferConfig(optimizer=optimizer, schedule="constant")
    chosen = make_optimizer(config, [ParameterGroup(list(model.parameters()))])
    (sound,) = steps_of(model, source, config, plan=[np.array([0, 1])], optimizer=chosen)
    assert sound.is_finite
    before = [value.clone() for value in (*model.parameters(), *_moments(chosen))]
    (broken,) = steps_of(model, source, config, plan=[np.array([2, 5])], optimizer=chosen)
    assert not broken.is_finite
    assert not torch.isfinite(broken.loss)
    assert torch.equal(broken.sums.table, torch.zeros_like(broken.sums.table))
    for now, then in zip((*model.parameters(), *_moments(chosen)), before, strict=True):
        assert torch.equal(now, then)


def _moments(optimizer):
    state = optimizer.state_dict()["state"]
    return [value for entries in state.values() for value in entries.values() if torch.is_tensor(value)]


def test_a_batch_without_labels_takes_no_step():
    frames = rock_salts()
    bare = frames.replace(
        **{name: np.full_like(getattr(frames, name), np.nan) for name in ("energy", "forces", "stress", "magmoms")}
    )
    model = Springs()
    steps = steps_of(model, source_of(bare), TransferConfig(batch_size=2))
    assert [float(step.loss) for step in steps] == [0, 0, 0]
    assert model.stiffness.item() == 0.05


def test_gradient_clip_bounds_the_step():
    model, source = Springs(), source_of(rock_salts())
    config = TransferConfig(batch_size=2)
    steps = steps_of(model, source, config, gradient_clip=1e-3)
    left = float(torch.stack([model.stiffness.grad, model.offset.grad]).norm())
    assert left == pytest.approx(1e-3, rel=1e-3)
    assert all(step.norm > 1e-3 for step in steps)  # told as it was


def test_accumulated_batches_are_one_step_of_all_their_frames():
    frames = rock_salts(6)
    energy = frames.energy.copy()
    energy[[0, 3]] = np.nan
    source = source_of(frames.replace(energy=energy))
    one, other = Springs(), Springs()
    (whole,) = steps_of(one, source, TransferConfig(batch_size=6))
    (parts,) = steps_of(other, source, TransferConfig(batch_size=2, accumulate=3))
    torch.testing.assert_close(whole.loss, parts.loss)
    torch.testing.assert_close(one.stiffness.grad, other.stiffness.grad)
    torch.testing.assert_close(whole.sums.table, parts.sums.table)


def test_references_have_their_own_rate_and_no_decay():
    shift = nn.Parameter(torch.zeros(3))
    config = TransferConfig(optimizer="adamw", weight_decay=0.1, method={"name": "trainable", "references_lr": 0.5})
    group = ParameterGroup(list(Springs().parameters()))
    network, references = make_optimizer(config, [group], shift, 0.5).param_groups
    assert (network["lr"], network["weight_decay"]) == (1e-3, 0.1)
    assert (references["lr"], references["weight_decay"]) == (0.5, 0.0)
