import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.tiny import rock_salts
from xclimb.config import TransferConfig
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.training.batches import BatchSource, over_budget, plan_batches, prefetch, share
from xclimb.units import GPA_PER_EV_A3


@given(
    sizes=st.lists(st.integers(1, 40), max_size=60),
    batch_size=st.integers(1, 9),
    batch_atoms=st.integers(1, 60),
    seed=st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_frame_is_in_one_batch_within_the_budget(sizes, batch_size, batch_atoms, seed):
    n_atoms = np.array(sizes, dtype=np.int64)
    plan = plan_batches(n_atoms[:, None], np.array([batch_atoms]), batch_size, seed)
    assert sorted(np.concatenate([*plan, np.zeros(0, dtype=int)]).tolist()) == list(range(len(sizes)))
    for index in plan:
        assert 1 <= len(index) <= batch_size
        assert n_atoms[index].sum() <= batch_atoms or len(index) == 1  # a giant is a batch alone, never dropped


def test_order_is_seeded_and_changes_each_epoch():
    sizes, limits = np.full((50, 1), 3), np.array([999])
    one, same, later = (np.concatenate(plan_batches(sizes, limits, 8, seed=4, epoch=epoch)) for epoch in (1, 1, 2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != later.tolist()
    assert np.concatenate(plan_batches(sizes, limits, 8)).tolist() == list(range(50))


def test_order_leaves_the_global_generators_alone():
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    plan_batches(np.full((50, 1), 3), np.array([999]), 8, seed=4, epoch=1)
    assert before == (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_are_those_of_the_frames(dtype):
    frames = rock_salts()
    references = np.linspace(-3, 3, len(frames))
    source = BatchSource(frames, references, GraphSpec(6.0, 3.0), dtype)
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
    source = BatchSource(frames, np.zeros(len(frames)), GraphSpec(6.0, 3.0), torch.float64, elements=frames.elements)
    fractions = source.batch(np.arange(len(frames))).targets.fractions
    assert fractions.shape == (len(frames), len(frames.elements))
    np.testing.assert_allclose(fractions.sum(dim=1), 1)


def source_of(frames, **more):
    return BatchSource(frames, np.zeros(len(frames)), GraphSpec(6.0, 3.0), torch.float64, **more)


def test_bonds_and_angles_are_counted_frame_by_frame():
    frames = rock_salts(5)
    sizes = source_of(frames).graph_sizes
    for s in range(5):
        graph = build_batch(frames[s], GraphSpec(6.0, 3.0))
        assert (sizes["bonds"][s], sizes["angles"][s]) == (len(graph.centres), len(graph.first))
    assert sizes["angles"].min() > 0


def test_budgets_of_bonds_and_angles_are_kept():
    source = source_of(rock_salts(9))
    sizes = source.graph_sizes
    config = TransferConfig(batch_bonds=int(2.5 * sizes["bonds"].max()), batch_angles=int(1.5 * sizes["angles"].max()))
    plan = source.plan(config, epoch=0)
    assert sorted(np.concatenate(plan).tolist()) == list(range(9))
    assert len(plan) > 3
    assert max(sizes["bonds"][index].sum() for index in plan) <= config.batch_bonds
    assert max(sizes["angles"][index].sum() for index in plan) <= config.batch_angles


def test_a_crystal_over_the_budget_is_a_batch_alone_and_named():
    source = source_of(rock_salts(6))
    bonds = source.graph_sizes["bonds"]
    config = TransferConfig(batch_bonds=int(np.sort(bonds)[3]))
    over = np.flatnonzero(bonds > config.batch_bonds)
    plan = source.plan(config, epoch=0)
    assert all(any(index.tolist() == [s] for index in plan) for s in over)
    (told,) = over_budget(source, config)
    assert f"{len(over)} training frame" in told
    assert source.frames.frame_id[bonds.argmax()] in told
    assert over_budget(source, TransferConfig()) == []


@given(costs=st.lists(st.integers(1, 1000), min_size=1, max_size=40), world=st.integers(1, 5))
def test_shares_are_the_batch_and_balanced(costs, world):
    index, cost = np.arange(len(costs))[::-1], np.array(costs)
    shares = [share(index, cost, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(costs)))
    loads = [cost[::-1][mine].sum() for mine in shares]  # cost k belongs to index[k]
    assert max(loads) <= sum(costs) / world + max(costs)


def test_items_are_made_ahead_in_order_and_errors_come_where_they_belong():
    made = []

    def make(item):
        if item == 5:
            raise ValueError("five")
        made.append(item)
        return item * item

    found = prefetch(make, range(9), depth=2)
    assert [next(found) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="five"):
        next(found)
    found = prefetch(make, iter(range(4)), depth=2)
    assert next(found) == 0
    found.close()  # nothing hangs when the training ends early
