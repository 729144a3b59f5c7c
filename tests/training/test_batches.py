import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.tiny import rock_salts
from xclimb.training.batches import BatchSource, plan_batches
from xclimb.units import GPA_PER_EV_A3


@given(
    sizes=st.lists(st.integers(1, 40), max_size=60),
    batch_size=st.integers(1, 9),
    batch_atoms=st.integers(1, 60),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_frame_is_in_one_batch_within_the_budget(sizes, batch_size, batch_atoms, seed):
    n_atoms = np.array(sizes, dtype=np.int64)
    plan = plan_batches(n_atoms, batch_size, batch_atoms, seed)
    assert sorted(np.concatenate([*plan, np.zeros(0, dtype=int)]).tolist()) == list(range(len(sizes)))
    for index in plan:
        assert 1 <= len(index) <= batch_size
        assert n_atoms[index].sum() <= batch_atoms or len(index) == 1  # a giant is a batch alone, never dropped


def test_order_is_seeded_and_changes_each_epoch():
    n_atoms = np.full(50, 3)
    one, same, later = (np.concatenate(plan_batches(n_atoms, 8, 999, seed=4, epoch=epoch)) for epoch in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != later.tolist()
    assert np.concatenate(plan_batches(n_atoms, 8, 999)).tolist() == list(range(50))


def test_order_leaves_the_global_generators_alone():
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    plan_batches(np.full(50, 3), 8, 999, seed=4, epoch=1)
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_are_those_of_the_frames(dtype):
    frames = rock_salts()
    references = np.linspace(-3, 3, len(frames))
    source = BatchSource(frames, references, 6.0, 3.0, dtype)
    index = np.array([4, 1])
    batch = source.batch(index)
    assert batch.frame_ids.tolist() == frames.frame_id[index].tolist()
    assert batch.graph.numbers.tolist() == frames[index].numbers.tolist()
    targets = batch.targets
    assert targets.energy.dtype == dtype
    assert targets.fractions is None
    np.testing.assert_allclose(targets.energy, (frames.energy[index] - references[index]) / 2, rtol=1e-6)
    np.testing.assert_allclose(targets.stress, frames.stress[index] * GPA_PER_EV_A3, rtol=1e-6)
    np.testing.assert_allclose(targets.forces, frames[index].forces, rtol=1e-6)
    assert targets.counts == {"energy": 2, "forces": 12, "stress": 18, "magmoms": 4}


def test_fractions_of_trained_elements_sum_to_one():
    frames = rock_salts()
    source = BatchSource(frames, np.zeros(len(frames)), 6.0, 3.0, torch.float64, elements=frames.elements)
    fractions = source.batch(np.arange(len(frames))).targets.fractions
    assert fractions.shape == (len(frames), len(frames.elements))
    np.testing.assert_allclose(fractions.sum(dim=1), 1)
