"""Pre-trained weights out of the installed ``chgnet`` package: its files are read, its code is not run."""

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xclimb.data.theory import LevelOfTheory
from xclimb.errors import CheckpointError
from xclimb.models.base import Network
from xclimb.models.chgnet.network import CHGNet, CHGNetConfig
from xclimb.references import AtomRef

_FOLDERS = {"chgnet-0.2.0": "0.2.0", "chgnet-0.3.0": "0.3.0", "chgnet-r2scan": "r2scan"}


def weights_file(name: str) -> Path:
    """The ``.pth.tar`` of a zoo name inside the installed ``chgnet`` package.

    Raises:
        CheckpointError: if the package does not ship it.
    """
    archives = sorted(Path(str(files("chgnet"))).glob(f"pretrained/{_FOLDERS[name]}/*.pth.tar"))
    if not archives:
        raise CheckpointError(f"the installed chgnet package has no weights for {name}: install chgnet >= 0.4.2")
    return archives[0]


@cache
def _read(name: str) -> tuple[dict[str, Tensor], dict]:
    file = weights_file(name)
    try:
        model = torch.load(file, map_location="cpu", weights_only=True)["model"]
        return model["state_dict"], model["model_args"]
    except Exception as error:  # of whatever kind a damaged or malicious archive makes torch raise
        kind = type(error).__name__
        raise CheckpointError(f"{file} holds no weights that are safe to read ({kind}): install chgnet again") from None


def read_potential(name: str, theory: LevelOfTheory, uncovered: tuple[int, ...]) -> tuple[Network, AtomRef]:
    """Read network and references of a zoo name.

    Args:
        name: of the weights.
        theory: level of theory of the references.
        uncovered: atomic numbers whose references no data determined.
    """
    values = read_reference_energies(name).numpy()
    covered = ~np.isin(np.arange(1, len(values) + 1), uncovered)
    return read_network(name), AtomRef.from_table(values, covered, kind=name, theory=theory)


def read_network(name: str) -> Network:
    """The network of a zoo name with its pre-trained weights, float32."""
    state, arguments = _read(name)
    config = CHGNetConfig(
        n_radial=arguments["num_radial"],
        n_angular=arguments["num_angular"],
        n_blocks=arguments["n_conv"],
        width=arguments["atom_fea_dim"],
        cutoff=float(arguments["atom_graph_cutoff"]),
        bond_cutoff=float(arguments["bond_graph_cutoff"]),
        envelope_power=arguments["cutoff_coeff"],
        readout_layers=len(arguments["mlp_hidden_dims"]),
        norm=arguments["gMLP_norm"] == "layer",
        out_bias="atom_conv_layers.0.mlp_out.layers.1.bias" in state,
    )
    return CHGNet.from_state(config, _translate(state, config))


def read_reference_energies(name: str) -> Tensor:
    """Elemental reference energies of a zoo name as stored, eV ``[94]`` float64, column z - 1."""
    return _read(name)[0]["composition_model.fc.weight"].reshape(-1).double()


def _translate(state: dict[str, Tensor], config: CHGNetConfig) -> dict[str, Tensor]:
    """State dictionary of ``chgnet`` -> that of :class:`CHGNet`: first layers split, core and gate joined."""
    new: dict[str, Tensor] = {
        "atom_embedding.weight": state["atom_embedding.embedding.weight"],
        "radial.frequencies": state["bond_basis_expansion.rbf_expansion_ag.frequencies"],
        "short_radial.frequencies": state["bond_basis_expansion.rbf_expansion_bg.frequencies"],
        "angular.frequencies": state["angle_basis_expansion.fourier_expansion.frequencies"],
        "bond_embedding.weight": state["bond_embedding.weight"],
        "atom_weights.weight": state["bond_weights_ag.weight"],
        "bond_weights.weight": state["bond_weights_bg.weight"],
        "angle_embedding.weight": state["angle_embedding.weight"],
        "magmom.weight": state["site_wise.weight"],
        "magmom.bias": state["site_wise.bias"],
    }
    for layer in range(config.readout_layers + 1):
        # chgnet has a dropout before its last readout layer
        theirs = 2 * layer + (1 if layer == config.readout_layers else 0)
        for kind in ("weight", "bias"):
            new[f"readout.{2 * layer}.{kind}"] = state[f"mlp.layers.{theirs}.{kind}"]
    if config.norm:
        new |= {f"readout_norm.{kind}": state[f"readout_norm.{kind}"] for kind in ("weight", "bias")}
    parts: tuple[str, ...] = ("centre", "bond", "neighbour")
    for block in range(config.n_blocks):
        new |= _gated(state, f"atom_conv_layers.{block}.twoBody_atom", f"atom_convs.{block}", parts, "", config)
        new |= _out(state, f"atom_conv_layers.{block}", f"atom_convs.{block}", config)
    parts = ("first", "second", "angle", "centre")
    for block in range(config.n_blocks - 1):
        new |= _gated(state, f"bond_conv_layers.{block}.twoBody_bond", f"bond_convs.{block}", parts, "project.", config)
        new |= _out(state, f"bond_conv_layers.{block}", f"bond_convs.{block}", config)
    for block in range(config.n_blocks - 2):
        new |= _gated(state, f"angle_layers.{block}.twoBody_bond", f"angle_updates.{block}", parts, "project.", config)
    return new


def _gated(state: dict, theirs: str, ours: str, parts: tuple, inner: str, config: CHGNetConfig) -> dict[str, Tensor]:
    """One gated MLP: columns of the first layer by input, rows of core above those of gate."""
    hidden = f"{theirs}.mlp_core.layers.0.weight" in state
    first = 0 if hidden else 1  # without a hidden layer, the only linear layer stands behind a dropout
    joined = {
        kind: torch.cat([state[f"{theirs}.mlp_{branch}.layers.{first}.{kind}"] for branch in ("core", "gate")])
        for kind in ("weight", "bias")
    }
    blocks = joined["weight"].split(config.width, dim=1)
    new = {f"{ours}.{inner}{part}.weight": block for part, block in zip(parts, blocks, strict=True)}
    new[f"{ours}.{inner}{parts[0]}.bias"] = joined["bias"]
    for branch, norm in (("core", "bn1"), ("gate", "bn2")):
        for kind in ("weight", "bias"):
            if hidden:
                new[f"{ours}.message.{branch}.{kind}"] = state[f"{theirs}.mlp_{branch}.layers.3.{kind}"]
            if config.norm:
                new[f"{ours}.message.{branch}_norm.{kind}"] = state[f"{theirs}.{norm}.{kind}"]
    return new


def _out(state: dict, theirs: str, ours: str, config: CHGNetConfig) -> dict[str, Tensor]:
    kinds = ("weight", "bias") if config.out_bias else ("weight",)
    return {f"{ours}.out.{kind}": state[f"{theirs}.mlp_out.layers.1.{kind}"] for kind in kinds}
