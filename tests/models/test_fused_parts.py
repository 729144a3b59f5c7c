"""The parts of the fused path one by one: expansions and edges against the layers, memory that is used again."""

import gc
import itertools
from threading import Thread

import numpy as np
import pytest
import torch

from xclimb.data.frames import Frames
from xclimb.graph import build_batch
from xclimb.models.chgnet import CHGNet, CHGNetConfig, line_graph
from xclimb.testing import tiny_crystals

memory = pytest.importorskip("xclimb.models.fused.memory", reason="numba is not installed")
embedding = pytest.importorskip("xclimb.models.fused.embedding")
network = pytest.importorskip("xclimb.models.fused.network")
threads = pytest.importorskip("xclimb.models.fused.threads")
weights = pytest.importorskip("xclimb.models.fused.weights")

CONFIGS = [
    CHGNetConfig(),
    CHGNetConfig(n_radial=9, n_angular=7, cutoff=5.0, envelope_power=6, n_blocks=2, norm=False, out_bias=True),
]


def made(config):
    """A network whose frequencies are not whole numbers, and the batch of some crystals in float64."""
    torch.manual_seed(0)
    model = CHGNet(config)
    with torch.no_grad():
        for basis in (model.radial, model.short_radial, model.angular):
            basis.frequencies.mul_(1 + 0.01 * torch.rand_like(basis.frequencies))
    batch = build_batch(Frames.from_ase(list(tiny_crystals().values())), model.cutoff, model.bond_cutoff)
    return model, batch


# -- expansions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("config", CONFIGS, ids=["published", "another"])
def test_expansions_and_their_gradient(config, sides):
    model, batch = made(config)
    features, reverse = embedding.embed(weights.packed_weights(model), batch)
    exact = CHGNet.from_state(config, model.state_dict()).double()
    vectors = batch.vectors.clone().requires_grad_()
    wanted = exact.embed(batch, vectors, line_graph(batch))
    for found, expected in zip(features, wanted, strict=True):
        torch.testing.assert_close(found.double().reshape(expected.shape), expected, rtol=0, atol=2e-6)
    g_bonds, g_short = torch.randn(2, *wanted[0].shape), torch.randn(wanted[2].shape)
    g_angles = torch.randn(sides, *wanted[3].shape)
    cotangents = [g_bonds[0].double(), g_bonds[1].double(), g_short.double(), g_angles.double().sum(0)]
    (gradient,) = torch.autograd.grad(wanted, vectors, cotangents)
    torch.testing.assert_close(reverse(g_bonds, g_short, g_angles), gradient, rtol=2e-6, atol=2e-5)


def test_the_radial_expansion_ends_at_the_cutoff():
    model, _ = made(CONFIGS[0])
    pair = Frames.from_ase([tiny_crystals()["NaCl"]])
    batch = build_batch(pair, model.cutoff, model.bond_cutoff)
    beyond = type(batch)(**(vars(batch) | {"vectors": batch.vectors / batch.vectors.norm(dim=1, keepdim=True) * 6.001}))
    (bonds, atom_weights, *_), reverse = embedding.embed(weights.packed_weights(model), beyond)
    assert not bonds.any()
    assert not atom_weights.any()
    g_bonds, g_short = torch.ones(2, *bonds.shape), torch.zeros(batch.n_short, 64)
    assert not reverse(g_bonds, g_short, torch.zeros(1, len(batch.first), 64)).any()


def test_weights_of_expansions_that_changed_are_noticed():
    model, batch = made(CONFIGS[0])
    before = network.outputs(model, batch).energy
    with torch.no_grad():
        model.radial.frequencies.mul_(1.001)
    after = network.outputs(model, batch).energy
    assert (before - after).abs().min() > 1e-6
    torch.testing.assert_close(after, model(batch).energy.detach(), rtol=0, atol=1e-4)


# -- the network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("few", [0, 10**6], ids=["computed again", "kept"])
def test_any_number_of_blocks(n_blocks, few, monkeypatch):
    monkeypatch.setattr(network, "ROOM", few * 1024)
    monkeypatch.setattr(network, "FEW_BONDS", few)
    model, batch = made(CHGNetConfig(n_blocks=n_blocks))
    found, expected = network.outputs(model, batch), CHGNet.from_state(model.config, model.state_dict()).double()(batch)
    for name in ("site_energies", "magmoms", "forces", "stress"):
        torch.testing.assert_close(getattr(found, name).double(), getattr(expected, name), rtol=1e-5, atol=1e-5)


# -- memory ---------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(monkeypatch):
    fresh = memory._Shelf()
    monkeypatch.setattr(memory, "_shelf", fresh)
    monkeypatch.setattr(memory, "ALWAYS_KEPT", 4 << 20)
    fresh._limit = 4 << 20
    return fresh


def kept(shelf):
    gc.collect()
    return sum(block.size for block in shelf._free)


MEGABYTE = (1 << 18,)  # float32 numbers


def test_arrays_begin_at_a_cache_line_and_are_apart():
    arrays = [memory.zeros(shape) for shape in [(3,), (5, 64), MEGABYTE, (2, 3, 1 << 18)] for _ in range(2)]
    for number, array in enumerate(arrays):
        assert array.ctypes.data % memory.LINE == 0
        assert not array.any()
        array.fill(number)
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_angles_are_ordered_by_centre():
    _, batch = made(CONFIGS[0])
    line = line_graph(batch)
    assert (line.centres[line.first].diff() >= 0).all()  # threads cut between atoms


def test_memory_is_used_again_once_no_view_of_it_is_left(shelf):
    array = memory.empty(MEGABYTE)
    start, view = array.ctypes.data, torch.from_numpy(array)[5:]
    del array
    assert kept(shelf) == 0  # the view still has it
    other = memory.empty(MEGABYTE)
    assert other.ctypes.data != start
    del view
    assert memory.zeros(MEGABYTE).ctypes.data == start


def test_memory_much_larger_than_asked_for_is_not_taken(shelf):
    with memory.memory_of_one_call():
        large = memory.empty((1 << 20,))
        start = large.ctypes.data
        del large
        assert memory.empty(MEGABYTE).ctypes.data != start
        assert memory.empty((1 << 20,)).ctypes.data == start


def test_between_calls_what_two_in_a_row_needed_is_kept(shelf):
    def call(megabytes):
        with memory.memory_of_one_call():
            held = [memory.empty(MEGABYTE) for _ in range(megabytes)]
            assert len(held) == megabytes
            del held

    call(16)
    assert kept(shelf) <= 4 << 20
    call(16)
    assert kept(shelf) >= 16 << 20
    call(1)
    assert kept(shelf) <= 4 << 20


def test_threads_never_share_memory(shelf):
    wrong = []

    def work(number):
        for _ in range(200):
            array = memory.empty(MEGABYTE)
            array[:8] = number
            if not (array[:8] == number).all():
                wrong.append(number)

    workers = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not wrong


def test_predictions_hold_no_memory_when_they_are_done(shelf):
    model, batch = made(CONFIGS[0])
    output = network.outputs(model, batch)
    gc.collect()
    assert shelf._lent == 0
    assert np.isfinite(output.forces.numpy()).all()


# -- threads --------------------------------------------------------------------------------------------


def test_rows_numbered_alike_stay_in_one_part(monkeypatch):
    monkeypatch.setattr(threads, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(threads._kept, "threads", 4, raising=False)
    together, seen = np.repeat(np.arange(7), [5, 1, 9, 2, 2, 8, 1]), []
    threads.in_parts(lambda begin, end, work, first: seen.append((begin, end)) or [], len(together), [], together)
    cuts = sorted(seen)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == len(together)
    for (_, end), (begin, _) in itertools.pairwise(cuts):
        assert end == begin
        assert together[end - 1] != together[end]


def test_what_threads_add_up_is_joined(monkeypatch):
    monkeypatch.setattr(threads, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(threads._kept, "threads", 3, raising=False)
    total = np.zeros(2)

    def part(begin, end, work, first):
        mine = total if first else np.zeros(2)
        mine += (end - begin, 1)
        return [mine]

    for _ in range(50):  # helpers are used again
        threads.in_parts(part, 100, [total])
    assert total.tolist() == [5000, 150]


@pytest.mark.parametrize("where", [True, False], ids=["here", "in a helper"])
def test_an_error_in_a_thread_is_raised_and_the_next_call_works(where, monkeypatch):
    monkeypatch.setattr(threads, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(threads._kept, "threads", 2, raising=False)

    def part(begin, end, work, first):
        if first is where:
            raise ValueError("broken")
        return []

    with pytest.raises(ValueError, match="broken"):
        threads.in_parts(part, 10, [])
    threads.in_parts(lambda *_: [], 10, [])
