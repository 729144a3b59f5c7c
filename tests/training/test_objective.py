from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import huber_loss

from training.tiny import rock_salts
from xclimb.config import LossSettings
from xclimb.graph.batch import GraphSpec
from xclimb.training.batches import BatchSource
from xclimb.training.objective import TERMS, ErrorSums, objective
from xclimb.units import GPA_PER_EV_A3

WEIGHTS = LossSettings()


def batch_of(frames, references=None, dtype=torch.float64, elements=None):
    references = np.zeros(len(frames)) if references is None else references
    source = BatchSource(frames, references, GraphSpec(6.0, 3.0), dtype, elements=elements)
    return source.batch(np.arange(len(frames)))


def output_for(frames, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"energy": (len(frames),), "forces": (frames.total_atoms, 3), "stress": (len(frames), 3, 3)}
    shapes["magmoms"] = (frames.total_atoms,)
    made = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
    made["stress"] *= 0.01
    return SimpleNamespace(**{name: value.requires_grad_() for name, value in made.items()})


def test_loss_is_the_weighted_sum_of_mean_huber_losses():
    frames = rock_salts()
    batch, out = batch_of(frames), output_for(frames)
    loss, sums = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS)
    expected = (
        3.0 * huber_loss(out.energy / 2, torch.tensor(frames.energy / 2), delta=0.1)
        + 1.0 * huber_loss(out.forces, torch.tensor(frames.forces), delta=0.1)
        + 0.1 * huber_loss(out.stress * GPA_PER_EV_A3, torch.tensor(frames.stress * GPA_PER_EV_A3), delta=0.1)
        + 1.0 * huber_loss(out.magmoms.abs(), torch.tensor(abs(frames.magmoms)), delta=0.1)
    )
    torch.testing.assert_close(loss, expected)
    assert sums.loss(WEIGHTS) == pytest.approx(float(expected.detach()))
    mae = np.abs(out.forces.detach().numpy() - frames.forces).mean() * 1000
    assert sums.to_dict(WEIGHTS)["forces_mae"] == pytest.approx(mae)


def test_missing_labels_are_masked_component_by_component():
    frames = rock_salts()
    gaps = {name: getattr(frames, name).copy() for name in ("energy", "forces", "stress", "magmoms")}
    gaps["energy"][1], gaps["forces"][3, 2], gaps["stress"][0], gaps["magmoms"][::2] = np.nan, np.nan, np.nan, np.nan
    holed = frames.replace(**gaps)
    out = output_for(frames)
    batch = batch_of(holed)
    loss, sums = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS)
    loss.backward()
    assert torch.isfinite(loss)
    assert dict(zip(TERMS, sums.table[3].tolist(), strict=True)) == {"energy": 5, "forces": 35, "stress": 45, "magmoms": 6}
    assert out.energy.grad[1] == 0
    assert out.forces.grad[3, 2] == 0
    assert out.forces.grad[3, 1] != 0
    assert (out.stress.grad[0] == 0).all()
    assert (out.magmoms.grad[::2] == 0).all()
    assert all(torch.isfinite(getattr(out, name).grad).all() for name in TERMS)


@pytest.mark.parametrize("term", TERMS)
def test_a_label_that_nobody_has_adds_exactly_zero(term):
    frames = rock_salts()
    bare = frames.replace(**{term: np.full_like(getattr(frames, term), np.nan)})
    out = output_for(frames)
    loss, sums = objective(out, batch_of(bare).targets, batch_of(bare).graph.n_atoms, WEIGHTS)
    loss.backward()
    assert torch.isfinite(loss)
    assert getattr(out, term).grad is None
    assert sums.means()[term] is None
    weight = {"energy": "energy", "forces": "force", "stress": "stress", "magmoms": "magmom"}[term]
    batch = batch_of(frames)
    without = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS.model_copy(update={weight: 0.0}))[0]
    assert float(loss.detach()) == float(without.detach())


def test_no_labels_at_all():
    frames = rock_salts()
    bare = frames.replace(**{term: np.full_like(getattr(frames, term), np.nan) for term in TERMS})
    batch = batch_of(bare)
    loss, sums = objective(output_for(frames), batch.targets, batch.graph.n_atoms, WEIGHTS)
    assert float(loss) == 0
    assert sums.to_dict(WEIGHTS)["energy_mae"] is None


def test_references_come_off_before_rounding():
    frames = rock_salts()
    shift = -1e6  # eV; float32 would keep 1/16 eV of such a total
    heavy = frames.replace(energy=frames.energy + shift)
    batch = batch_of(heavy, np.full(len(frames), shift), torch.float32)
    np.testing.assert_allclose(batch.targets.energy.numpy(), frames.energy_per_atom, atol=2e-6)


def test_sign_of_magnetic_moments_does_not_count():
    frames = rock_salts()
    flipped = frames.replace(magmoms=-frames.magmoms)
    np.testing.assert_array_equal(batch_of(frames).targets.magmoms, batch_of(flipped).targets.magmoms)


def test_shift_of_references_is_trained_through_fractions():
    frames = rock_salts()
    elements = frames.elements
    shift = torch.zeros(len(elements), dtype=torch.float64, requires_grad=True)
    batch, out = batch_of(frames, elements=elements), output_for(frames)
    objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS, shift)[0].backward()
    assert torch.isfinite(shift.grad).all()
    assert (shift.grad != 0).all()
    moved = torch.full_like(shift, 0.25).detach()  # 0.25 eV on every atom: 0.25 eV/atom on every frame
    lifted = SimpleNamespace(**{**vars(out), "energy": out.energy + 0.25 * 2})
    with_shift = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS, moved)[0]
    torch.testing.assert_close(with_shift, objective(lifted, batch.targets, batch.graph.n_atoms, WEIGHTS)[0])


def test_sums_do_not_depend_on_batching():
    frames = rock_salts(7)
    out = output_for(frames)
    batch = batch_of(frames)
    whole = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS)[1]
    joined = ErrorSums()
    for rows in (slice(0, 3), slice(3, 7)):
        atoms = slice(2 * rows.start, 2 * rows.stop)
        part = SimpleNamespace(
            energy=out.energy[rows], forces=out.forces[atoms], stress=out.stress[rows], magmoms=out.magmoms[atoms]
        )
        some = batch_of(frames[rows])
        joined.add(objective(part, some.targets, some.graph.n_atoms, WEIGHTS)[1])
    for name, value in whole.to_dict(WEIGHTS).items():
        assert joined.to_dict(WEIGHTS)[name] == pytest.approx(value)


def test_losses_of_the_parts_of_a_step_add_up_to_its_loss():
    frames = rock_salts(7)
    energy = frames.energy.copy()
    energy[[0, 1, 5]] = np.nan  # ragged labels: two of three in the first part are missing, one of four in the second
    weights = np.arange(1.0, 8.0)
    source = BatchSource(frames.replace(energy=energy), np.zeros(7), GraphSpec(6.0, 3.0), torch.float64, weights=weights)
    out, totals = output_for(frames), source.totals(np.arange(7))
    batch = source.batch(np.arange(7))
    whole = objective(out, batch.targets, batch.graph.n_atoms, WEIGHTS)[0]
    parts = []
    for rows in (slice(0, 3), slice(3, 7)):
        atoms = slice(2 * rows.start, 2 * rows.stop)
        part = SimpleNamespace(
            energy=out.energy[rows], forces=out.forces[atoms], stress=out.stress[rows], magmoms=out.magmoms[atoms]
        )
        some = source.batch(np.arange(7)[rows])
        parts.append(objective(part, some.targets, some.graph.n_atoms, WEIGHTS, totals=totals)[0])
    torch.testing.assert_close(sum(parts), whole)


def test_weights_of_frames_weigh_their_labels():
    frames, out = rock_salts(2), output_for(rock_salts(2))
    settings = LossSettings(force=0, stress=0, magmom=0, kind="mae")
    source = BatchSource(frames, np.zeros(2), GraphSpec(6.0, 3.0), torch.float64, weights=np.array([3.0, 1.0]))
    batch = source.batch(np.arange(2))
    errors = np.abs(out.energy.detach().numpy() / 2 - frames.energy / 2)
    loss, sums = objective(out, batch.targets, batch.graph.n_atoms, settings)
    assert float(loss.detach()) == pytest.approx(3.0 * (3 * errors[0] + errors[1]) / 4)
    assert sums.to_dict(settings)["energy_mae"] == pytest.approx(1000 * errors.mean())  # errors count every frame alike


@pytest.mark.parametrize(("kind", "formula"), [("mse", np.square), ("mae", np.abs)])
def test_other_losses(kind, formula):
    frames = rock_salts()
    batch, out = batch_of(frames), output_for(frames)
    settings = LossSettings(energy=0, stress=0, magmom=0, kind=kind)
    loss, _ = objective(out, batch.targets, batch.graph.n_atoms, settings)
    assert float(loss.detach()) == pytest.approx(formula(out.forces.detach().numpy() - frames.forces).mean())


def test_conditional_huber_trusts_large_forces_less():
    frames = rock_salts(4)
    forces = np.zeros_like(frames.forces)
    forces[:, 0] = [50, 99.9, 100, 199, 200, 299, 300, 1e4]
    frames = frames.replace(forces=forces)
    batch, out = batch_of(frames), output_for(frames)
    out.forces = torch.tensor(forces + np.linspace(-2, 2, forces.size).reshape(forces.shape))
    settings = LossSettings(energy=0, stress=0, magmom=0, kind="conditional_huber")
    delta = 0.1 * np.array([1, 1, 0.7, 0.7, 0.4, 0.4, 0.1, 0.1])[:, None]
    error = np.abs(out.forces.numpy() - forces)
    expected = np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean()
    loss, _ = objective(out, batch.targets, batch.graph.n_atoms, settings)
    assert float(loss) == pytest.approx(expected)


def test_gradient_is_that_of_finite_differences():
    frames = rock_salts(2)
    batch, out = batch_of(frames), output_for(frames)

    def loss_of(*values):
        made = SimpleNamespace(**dict(zip(TERMS, values, strict=True)))
        return objective(made, batch.targets, batch.graph.n_atoms, WEIGHTS)[0]

    assert torch.autograd.gradcheck(loss_of, tuple(getattr(out, term) for term in TERMS), eps=1e-7)
