from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from training.tiny import rock_salts
from xclimb.config import LossSettings, TransferConfig
from xclimb.training.batches import BatchSource
from xclimb.training.loop import NonFiniteLossError, evaluate, learning_rate_factor, make_optimizer, train_epoch

WEIGHTS = LossSettings()


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
    return BatchSource(frames, np.full(len(frames), -20.0), 4.0, 3.0, torch.float64)


def steps_of(model, source, config, epoch=0, **more):
    optimizer = make_optimizer(config, model)
    batches = source.batches(source.plan(2, 999, seed=0, epoch=epoch))
    return list(train_epoch(model, batches, optimizer, lambda place: 1.0, config.loss, **more))


def test_steps_lower_the_loss():
    model, source = Springs(), source_of(rock_salts())
    config = TransferConfig(learning_rate=0.05, loss=LossSettings(stress=0, magmom=0))
    before = evaluate(model, source.batches(source.plan(3, 99)), config.loss).loss(config.loss)
    for epoch in range(5):
        steps = steps_of(model, source, config, epoch, first_step=3 * epoch)
    after = evaluate(model, source.batches(source.plan(3, 99)), config.loss).loss(config.loss)
    assert after < before
    assert [step.number for step in steps] == [13, 14, 15]


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
    sums = evaluate(model, source.batches(source.plan(3, 99)), WEIGHTS)
    assert set(model.calls) == {(False, True)}
    assert model.stiffness.grad is None
    assert sums.count["energy"] == 6


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_a_loss_that_is_not_finite_names_the_frames_before_the_step(label):
    frames = rock_salts()
    values = getattr(frames, label).copy()
    values[5 if label == "energy" else 10] = np.inf
    source = source_of(frames.replace(**{label: values}))
    model = Springs()
    optimizer = make_optimizer(TransferConfig(), model)
    batches = source.batches([np.array([0, 1]), np.array([2, 5])])
    done = []
    with pytest.raises(NonFiniteLossError) as error:
        done.extend(train_epoch(model, batches, optimizer, lambda place: 1.0, WEIGHTS, first_step=10))
    assert error.value.frame_ids.tolist() == ["f0-2", "f0-5"]
    assert error.value.step == 12
    assert torch.isfinite(model.stiffness)


def test_a_batch_without_labels_takes_no_step():
    frames = rock_salts()
    bare = frames.replace(
        **{name: np.full_like(getattr(frames, name), np.nan) for name in ("energy", "forces", "stress", "magmoms")}
    )
    model = Springs()
    steps = steps_of(model, source_of(bare), TransferConfig())
    assert [step.loss for step in steps] == [0, 0, 0]
    assert model.stiffness.item() == 0.05


def test_gradient_clip_bounds_the_step():
    model, source = Springs(), source_of(rock_salts())
    norms = []
    optimizer = make_optimizer(TransferConfig(), model)
    batches = source.batches(source.plan(2, 999))
    for _ in train_epoch(model, batches, optimizer, lambda place: 1.0, WEIGHTS, gradient_clip=1e-3):
        norms.append(float(torch.stack([model.stiffness.grad, model.offset.grad]).norm()))  # noqa: PERF401
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_learning_rate_falls_along_a_cosine():
    config = TransferConfig()
    assert learning_rate_factor(config, 0.0) == 1
    assert learning_rate_factor(config, 0.5) == pytest.approx(0.505)
    assert learning_rate_factor(config, 1.0) == pytest.approx(0.01)
    assert learning_rate_factor(TransferConfig(schedule="constant"), 0.9) == 1


def test_references_have_their_own_rate_and_no_decay():
    shift = nn.Parameter(torch.zeros(3))
    config = TransferConfig(optimizer="adamw", weight_decay=0.1, references_lr=0.5)
    network, references = make_optimizer(config, Springs(), shift).param_groups
    assert (network["lr"], network["weight_decay"]) == (1e-3, 0.1)
    assert (references["lr"], references["weight_decay"]) == (0.5, 0.0)
