"""Choice of the backend by environment, device, precision and layers; a layer that the kernels do not know is not ignored."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from models.test_parity import frames, potential
from xclimb.backends import select as selection
from xclimb.backends.select import select
from xclimb.errors import ConfigError, XclimbWarning
from xclimb.graph.batch import GraphSpec, build_batch
from xclimb.models.chgnet import CHGNet, CHGNetConfig
from xclimb.models.zoo import load
from xclimb.training.adaptation import Reparametrization, merge_parametrizations

chgnet_cpu = pytest.importorskip("xclimb.backends.chgnet_cpu", reason="numba is not installed")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("XCLIMB_BACKEND", raising=False)
    monkeypatch.delenv("XCLIMB_PATH", raising=False)
    selection._warn_once.cache_clear()
    selection._log_once.cache_clear()


def published():
    return potential("chgnet-0.3.0", "float32").copy().model


def batch_of(*which):
    return build_batch(frames()[list(which)], GraphSpec(6.0, 3.0))


# -- environment, device, precision -----------------------------------------------------------------------


def test_the_fused_kernels_are_the_default():
    assert select(published()).name == "fused (numba)"
    assert load("chgnet-0.3.0").describe()["backend"] == "fused (numba)"


@pytest.mark.parametrize(("variable", "value"), [("XCLIMB_BACKEND", "eager"), ("XCLIMB_PATH", "plain")])
def test_the_environment_chooses(variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    network, batch = published(), batch_of(3)
    backend = select(network)
    assert backend.name == "eager (XCLIMB_BACKEND)"
    torch.testing.assert_close(backend.predict(network, batch, True).forces, network(batch).forces, atol=0, rtol=0)


def test_the_new_variable_wins(monkeypatch):
    monkeypatch.setenv("XCLIMB_PATH", "plain")
    monkeypatch.setenv("XCLIMB_BACKEND", "fused")
    assert select(published()).name == "fused (numba)"


def test_an_unknown_backend(monkeypatch):
    monkeypatch.setenv("XCLIMB_BACKEND", "quick")
    with pytest.raises(ConfigError, match="XCLIMB_BACKEND='quick' is not a backend"):
        load("chgnet-0.3.0").describe()


def test_double_precision_and_autocast_are_eager():
    assert select(published().double()).name == "eager (cpu, float64)"
    with torch.autocast("cpu", torch.bfloat16):
        assert select(published()).name == "eager (autocast)"


def test_without_numba(monkeypatch):
    monkeypatch.setattr(selection, "_kernels", lambda module: "without numba")
    network, batch = published(), batch_of(0)
    assert select(network).name == "eager (without numba)"
    torch.testing.assert_close(select(network).predict(network, batch, True).forces, network(batch).forces, atol=0, rtol=0)


def test_other_architectures_are_eager():
    with pytest.raises(ConfigError, match="Linear is the network of no known architecture"):
        select(nn.Linear(2, 2))


def test_both_functions_of_the_backend_are_called(monkeypatch):
    network, batch, calls = published(), batch_of(0), []
    monkeypatch.setattr(chgnet_cpu, "predict", lambda *given: calls.append("predict") or network(given[1]))
    monkeypatch.setattr(chgnet_cpu, "forward", lambda *given: calls.append("forward") or network(given[1]))
    select(network).predict(network, batch, True)
    select(network).forward(network, batch, True)
    assert calls == ["predict", "forward"]


# -- layers -----------------------------------------------------------------------------------------------


class LowRank(nn.Module):
    """A linear layer with a trainable low-rank update, as LoRA adds it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 4, bias=False), nn.Linear(4, base.out_features, bias=False)
        nn.init.constant_(self.down.weight, 0.02)
        nn.init.constant_(self.up.weight, 0.02)

    @property
    def weight(self):
        return self.base.weight

    @property
    def bias(self):
        return self.base.bias

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def wrapped(network):
    network.atom_convs[0].bond = LowRank(network.atom_convs[0].bond)


def wrapped_out(network):
    network.bond_convs[1].out = LowRank(network.bond_convs[1].out)


def hooked(network):
    network.atom_convs[1].message.core.register_forward_hook(lambda layer, inputs, output: output + torch.linspace(0, 0.5, 64))


def patched(network):
    layer = network.bond_convs[0].message
    layer.forward = lambda projected: 0.9 * type(layer).forward(layer, projected)


def other_eps(network):
    network.atom_convs[2].message.core_norm.eps = 1e6


def other_norm(network):
    network.atom_convs[2].message.core_norm = nn.Identity()


def another_block(network):
    network.atom_convs.append(network.atom_convs[0])


CHANGES = [wrapped, wrapped_out, hooked, patched, other_eps, other_norm, another_block]


@pytest.mark.parametrize("seen", [True, False], ids=["after a prediction", "before any"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_that_the_kernels_do_not_know_is_not_ignored(change, seen):
    pot, some = load("chgnet-0.3.0").copy(), frames()[[3, 41]]
    before = pot.label(some) if seen else load("chgnet-0.3.0").label(some)
    change(pot.model)
    with pytest.warns(XclimbWarning, match="the fused kernels do not know .* computed by the eager path, which is slower"):
        found = pot.label(some)
    eager = pot.model(build_batch(some, GraphSpec(6.0, 3.0)))
    np.testing.assert_array_equal(found.forces, eager.forces.double().numpy())
    assert np.abs(found.forces - before.forces).max() > 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pot.label(some)  # the note comes once


def test_the_layer_is_named():
    network = published()
    wrapped(network)
    with pytest.warns(XclimbWarning, match=r"atom_convs\.0\.bond as it is \(LowRank\)"):
        assert select(network).name.startswith("eager (the fused kernels do not know atom_convs.0.bond")


def test_a_wrapped_layer_is_trained():
    network, batch = published().requires_grad_(True), batch_of(41)
    wrapped(network)
    with pytest.warns(XclimbWarning):
        backend = select(network)
    output = backend.forward(network, batch, True)
    output.forces.square().sum().backward()
    assert float(network.atom_convs[0].bond.up.weight.grad.abs().max()) > 0


def test_a_change_taken_back_is_noticed():
    network = published()
    hook = network.atom_convs[0].bond.register_forward_pre_hook(lambda layer, inputs: None)
    assert chgnet_cpu.unknown_layer(network)
    hook.remove()
    assert not chgnet_cpu.unknown_layer(network)


def scaled(weight, factor):
    return factor * weight


def test_a_weight_that_is_a_function_of_parameters_is_read_as_its_value():
    network, batch = published().requires_grad_(False), batch_of(3, 41)
    before = select(network).predict(network, batch, True)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    for layer in layers:
        factor = torch.linspace(0.9, 1.1, layer.in_features)
        parametrize.register_parametrization(layer, "weight", Reparametrization(scaled, factor=factor))
        layer.parametrizations.weight.original.requires_grad_(False)
    backend = select(network)
    assert backend.name == "fused (numba)"
    gradients = []
    for output in (backend.forward(network, batch, True), network(batch, create_graph=True)):
        (output.forces.square().sum() + output.magmoms.square().sum()).backward()
        gradients.append(torch.cat([layer.parametrizations.weight[0].factor.grad for layer in layers]))
        network.zero_grad()
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()
    for change in (0.0, 0.01):
        for layer in layers:
            with torch.no_grad():
                layer.parametrizations.weight[0].factor += change
        fused, eager = backend.predict(network, batch, True), network(batch)
        torch.testing.assert_close(fused.forces, eager.forces, atol=1e-4, rtol=0)
        assert (fused.forces - before.forces).abs().max() > 1e-3
    merge_parametrizations(network)
    torch.testing.assert_close(select(network).predict(network, batch, True).forces, fused.forces, atol=1e-6, rtol=0)


def test_parts_that_are_called_as_modules_may_be_of_any_kind():
    network, batch = published(), batch_of(3, 41)
    network.readout[0] = LowRank(network.readout[0])
    network.magmom = LowRank(network.magmom)
    assert select(network).name == "fused (numba)"
    fused, eager = select(network).predict(network, batch, True), network(batch)
    torch.testing.assert_close(fused.site_energies, eager.site_energies, atol=2e-5, rtol=0)
    torch.testing.assert_close(fused.forces, eager.forces, atol=1e-4, rtol=0)
    torch.testing.assert_close(fused.magmoms, eager.magmoms, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (CHGNetConfig(width=32), "the fused kernels are made for a width of 64, this network has 32"),
        (CHGNetConfig(n_angular=65), "the fused kernels have memory for 64 basis functions"),
    ],
)
def test_other_sizes_are_logged(config, reason, caplog):
    network = CHGNet(config)
    assert [select(network).name for _ in range(2)] == [f"eager ({reason})"] * 2
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [reason]  # once


# -- what an import does --------------------------------------------------------------------------------------


def test_an_import_leaves_the_allocator_alone():
    script = (
        "import xclimb, xclimb.backends.select; from xclimb.backends.chgnet_cpu import buffers\n"
        "xclimb.load('chgnet-0.3.0'); assert buffers.tune_allocator.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("function", ["predict", "forward"])
def test_the_allocator_is_tuned_at_the_first_use(function, monkeypatch):
    calls = []
    for module in ("inference", "training"):
        monkeypatch.setattr(f"xclimb.backends.chgnet_cpu.{module}.tune_allocator", lambda: calls.append(function))
    network = published()
    getattr(select(network), function)(network, batch_of(0), True)
    assert calls == [function]
