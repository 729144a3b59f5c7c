"""Parts of the fused kernels: expansions against the eager layers, the buffer pool, the worker threads."""

import gc
import itertools
from threading import Thread

import numpy as np
import pytest
import torch

from xclimb.data.frames import Frames
from xclimb.graph.batch import build_batch
from xclimb.models.base import get_architecture
from xclimb.models.chgnet.network import CHGNet, CHGNetConfig, line_graph
from xclimb.testing import tiny_crystals

buffers = pytest.importorskip("xclimb.backends.chgnet_cpu.buffers", reason="numba is not installed")
embedding = pytest.importorskip("xclimb.backends.chgnet_cpu.embedding")
inference = pytest.importorskip("xclimb.backends.chgnet_cpu.inference")
workers = pytest.importorskip("xclimb.backends.chgnet_cpu.workers")
weights = pytest.importorskip("xclimb.backends.chgnet_cpu.weights")

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
    batch = build_batch(Frames.from_ase(list(tiny_crystals().values())), get_architecture("chgnet").graph(model.config))
    return model, batch


# -- expansions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("config", CONFIGS, ids=["published", "another"])
def test_expansions_and_their_gradient(config, directions):
    model, batch = made(config)
    features, backward = embedding.embed(weights.packed_weights(model), batch)
    exact = CHGNet.from_state(config, model.state_dict()).double()
    vectors = batch.vectors.clone().requires_grad_()
    wanted = exact.embed(batch, vectors, line_graph(batch))
    for found, expected in zip(features, wanted, strict=True):
        torch.testing.assert_close(found.double().reshape(expected.shape), expected, rtol=0, atol=2e-6)
    g_bonds, g_short = torch.randn(2, *wanted[0].shape), torch.randn(wanted[2].shape)
    g_angles = torch.randn(directions, *wanted[3].shape)
    cotangents = [g_bonds[0].double(), g_bonds[1].double(), g_short.double(), g_angles.double().sum(0)]
    (gradient,) = torch.autograd.grad(wanted, vectors, cotangents)
    torch.testing.assert_close(backward(g_bonds, g_short, g_angles), gradient, rtol=2e-6, atol=2e-5)


def test_the_radial_expansion_ends_at_the_cutoff():
    model, _ = made(CONFIGS[0])
    pair = Frames.from_ase([tiny_crystals()["NaCl"]])
    batch = build_batch(pair, get_architecture("chgnet").graph(model.config))
    beyond = type(batch)(**(vars(batch) | {"vectors": batch.vectors / batch.vectors.norm(dim=1, keepdim=True) * 6.001}))
    (bonds, atom_weights, *_), backward = embedding.embed(weights.packed_weights(model), beyond)
    assert not bonds.any()
    assert not atom_weights.any()
    g_bonds, g_short = torch.ones(2, *bonds.shape), torch.zeros(batch.n_short, 64)
    assert not backward(g_bonds, g_short, torch.zeros(1, len(batch.first), 64)).any()


def test_weights_of_expansions_that_changed_are_noticed():
    model, batch = made(CONFIGS[0])
    before = inference.predict(model, batch).energy
    with torch.no_grad():
        model.radial.frequencies.mul_(1.001)
    after = inference.predict(model, batch).energy
    assert (before - after).abs().min() > 1e-6
    torch.testing.assert_close(after, model(batch).energy.detach(), rtol=0, atol=1e-4)


# -- the network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 5])
@pytest.mark.parametrize("few", [0, 10**6], ids=["computed again", "kept"])
def test_any_number_of_blocks(n_blocks, few, monkeypatch):
    monkeypatch.setattr(inference, "CACHE_BYTES", few * 1024)
    monkeypatch.setattr(inference, "FEW_BONDS", few)
    model, batch = made(CHGNetConfig(n_blocks=n_blocks))
    found, expected = inference.predict(model, batch), CHGNet.from_state(model.config, model.state_dict()).double()(batch)
    for name in ("site_energies", "magmoms", "forces", "stress"):
        torch.testing.assert_close(getattr(found, name).double(), getattr(expected, name), rtol=1e-5, atol=1e-5)


# -- the buffer pool ---------------------------------------------------------------------------------------------


@pytest.fixture
def pool(monkeypatch):
    fresh = buffers.BufferPool()
    monkeypatch.setattr(buffers, "_pool", fresh)
    monkeypatch.setattr(buffers, "ALWAYS_RETAINED", 4 << 20)
    fresh._retained = 4 << 20
    return fresh


def retained(pool):
    gc.collect()
    return sum(buffer.size for buffer in pool._free)


MEGABYTE = (1 << 18,)  # float32 numbers


def test_arrays_begin_at_a_cache_line_and_are_apart():
    arrays = [buffers.zeros(shape) for shape in [(3,), (5, 64), MEGABYTE, (2, 3, 1 << 18)] for _ in range(2)]
    for number, array in enumerate(arrays):
        assert array.ctypes.data % buffers.LINE == 0
        assert not array.any()
        array.fill(number)
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_angles_are_ordered_by_centre():
    _, batch = made(CONFIGS[0])
    line = line_graph(batch)
    assert (line.centres[line.first].diff() >= 0).all()  # threads cut between atoms


def test_memory_is_used_again_once_no_view_of_it_is_left(pool):
    array = buffers.empty(MEGABYTE)
    start, view = array.ctypes.data, torch.from_numpy(array)[5:]
    del array
    assert retained(pool) == 0  # the view still has it
    other = buffers.empty(MEGABYTE)
    assert other.ctypes.data != start
    del view
    assert buffers.zeros(MEGABYTE).ctypes.data == start


def test_memory_much_larger_than_asked_for_is_not_taken(pool):
    with buffers.retained_buffers():
        large = buffers.empty((1 << 20,))
        start = large.ctypes.data
        del large
        assert buffers.empty(MEGABYTE).ctypes.data != start
        assert buffers.empty((1 << 20,)).ctypes.data == start


def test_between_calls_what_two_in_a_row_needed_is_retained(pool):
    def call(megabytes):
        with buffers.retained_buffers():
            held = [buffers.empty(MEGABYTE) for _ in range(megabytes)]
            assert len(held) == megabytes
            del held

    call(16)
    assert retained(pool) <= 4 << 20
    call(16)
    assert retained(pool) >= 16 << 20
    call(1)
    assert retained(pool) <= 4 << 20


def test_threads_never_share_memory(pool):
    wrong = []

    def work(number):
        for _ in range(200):
            array = buffers.empty(MEGABYTE)
            array[:8] = number
            if not (array[:8] == number).all():
                wrong.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_predictions_hold_no_memory_when_they_are_done(pool):
    model, batch = made(CONFIGS[0])
    output = inference.predict(model, batch)
    gc.collect()
    assert pool._in_use == 0
    assert np.isfinite(output.forces.numpy()).all()


# -- worker threads --------------------------------------------------------------------------------------------


def test_rows_numbered_alike_stay_in_one_part(monkeypatch):
    monkeypatch.setattr(workers, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(workers._local, "threads", 4, raising=False)
    groups, seen = np.repeat(np.arange(7), [5, 1, 9, 2, 2, 8, 1]), []
    workers.parallel_rows(lambda begin, end, work, first: seen.append((begin, end)) or [], len(groups), [], groups)
    cuts = sorted(seen)
    assert cuts[0][0] == 0
    assert cuts[-1][1] == len(groups)
    for (_, end), (begin, _) in itertools.pairwise(cuts):
        assert end == begin
        assert groups[end - 1] != groups[end]


def test_what_threads_add_up_is_joined(monkeypatch):
    monkeypatch.setattr(workers, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(workers._local, "threads", 3, raising=False)
    total = np.zeros(2)

    def part(begin, end, work, first):
        mine = total if first else np.zeros(2)
        mine += (end - begin, 1)
        return [mine]

    for _ in range(50):  # threads are used again
        workers.parallel_rows(part, 100, [total])
    assert total.tolist() == [5000, 150]


@pytest.mark.parametrize("where", [True, False], ids=["here", "in a worker"])
def test_an_error_in_a_thread_is_raised_and_the_next_call_works(where, monkeypatch):
    monkeypatch.setattr(workers, "ROWS_PER_THREAD", 1)
    monkeypatch.setattr(workers._local, "threads", 2, raising=False)

    def part(begin, end, work, first):
        if first is where:
            raise ValueError("broken")
        return []

    with pytest.raises(ValueError, match="broken"):
        workers.parallel_rows(part, 10, [])
    workers.parallel_rows(lambda *_: [], 10, [])
