"""Potentials on disk: ``potential.json`` (description) beside ``weights.safetensors`` (its numbers). Never pickle."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from xclimb.data.theory import LevelOfTheory
from xclimb.errors import CheckpointError, ConfigError, XclimbError
from xclimb.files import read_json, to_json, write_folder
from xclimb.models.base import ARCHITECTURES, Architecture, get_architecture
from xclimb.models.multifidelity import Level
from xclimb.references import AtomRef

if TYPE_CHECKING:
    from xclimb.models.potential import Potential

FORMAT = 1
_CARD, _WEIGHTS = "potential.json", "weights.safetensors"


def save_potential(potential: "Potential", folder: Path) -> Path:
    """Write a potential beside its place, then rename: a reader finds the old one or the new one, never half of one."""
    weights = tensor_bytes({name: value.cpu().contiguous() for name, value in potential.model.state_dict().items()})
    card = {
        "format": FORMAT,
        "name": potential.name,
        "network": {"kind": potential.architecture.kind, **asdict(potential.model.config)},
        "theory": potential.theory.to_dict(),
        "references": potential.references.to_dict(),
        "others": [{"theory": one.theory.to_dict(), "references": one.references.to_dict()} for one in potential.others],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    if folder.exists() and not (folder / _CARD).exists():
        raise CheckpointError(f"{folder} exists and is not a potential: choose another folder")
    write_folder(folder, {_WEIGHTS: weights, _CARD: to_json(card)})
    return folder


def load_potential(folder: Path) -> "Potential":
    """Read a potential folder, on the CPU in the precision it was saved in.

    Raises:
        CheckpointError: naming the file, on anything missing, truncated, altered, or written by a newer xclimb.
    """
    from xclimb.models.potential import Potential

    card = _read_card(folder)
    try:
        weights = (folder / _WEIGHTS).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder / _WEIGHTS} cannot be read ({error.strerror}): the potential is not complete") from None
    if hashlib.sha256(weights).hexdigest() != card.get("weights_sha256"):
        detail = f"its checksum is not the one in {_CARD}"
        raise CheckpointError(f"{folder / _WEIGHTS} is damaged ({detail}): restore it from a copy")
    try:
        network = dict(card["network"])
        architecture = _architecture(network.pop("kind"))
        state = read_tensors(weights)
        _check_sizes(architecture, network, state)
        model = architecture.network.from_state(architecture.config(**network), state)
        references, theory = AtomRef.from_dict(card["references"]), LevelOfTheory.from_dict(card["theory"])
        others = [
            Level(AtomRef.from_dict(one["references"]), LevelOfTheory.from_dict(one["theory"]))
            for one in card.get("others", [])
        ]
        return Potential(model, references, theory, str(card["name"]), others)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"{folder / _CARD} does not describe a potential ({reason}): restore it from a copy") from None
    except XclimbError as error:
        raise CheckpointError(f"{folder / _CARD}: {error}") from None


def _architecture(kind: object) -> Architecture:
    try:
        return get_architecture(str(kind))
    except ConfigError:
        known = f"this xclimb knows {', '.join(ARCHITECTURES)}"
        detail = f"it names a network {kind!r:.40}, {known}: install or import the package that has it"
        raise CheckpointError(detail) from None


def _check_sizes(architecture: Architecture, network: dict, state: dict[str, Tensor]) -> None:
    """Refuse hyperparameters that the weights cannot belong to, before anything of their size is made."""
    numbers = sum(value.numel() for value in state.values())
    for name, value in network.items():
        if not isinstance(value, bool | int | float) or not 0 <= value <= architecture.largest.get(name, numbers):
            raise CheckpointError(f"{name} cannot be {value!r:.40} with {numbers} weights: restore it from a copy")


def _read_card(folder: Path) -> dict:
    path = folder / _CARD
    try:
        card = read_json(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): {folder} is not a saved potential") from None
    except ValueError:
        raise CheckpointError(f"{path} is not valid JSON: the file is damaged, restore it from a copy") from None
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        raise CheckpointError(f"{path} does not describe a potential")
    if card["format"] > FORMAT:
        written = f"format {card['format']}, this one reads {FORMAT}"
        raise CheckpointError(f"{path} was written by a newer xclimb ({written}): upgrade xclimb")
    return card
