"""Potentials by name: pre-trained weights, run folders and saved potentials."""

import difflib
from pathlib import Path

import torch

from xclimb.errors import CheckpointError
from xclimb.models.base import ARCHITECTURES, Pretrained
from xclimb.models.potential import Potential


def _pretrained() -> dict[str, Pretrained]:
    """Pre-trained weights of all architectures, by name."""
    return {name: entry for architecture in ARCHITECTURES.values() for name, entry in architecture.pretrained.items()}


def model_names() -> dict[str, str]:
    """The names :func:`load` knows, with a line about each."""
    return {name: entry.summary for name, entry in _pretrained().items()}


def load(name: str | Path | Potential, device: str = "cpu", dtype: str = "float32") -> Potential:
    """A potential by name or path.

    Args:
        name: a zoo name (``"chgnet-0.3.0"``), a run folder (its best checkpoint) or a saved potential.
        device: ``"cpu"``, ``"cuda"``, ...
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        CheckpointError: on an unknown name (naming the nearest) or an unreadable folder.
        ConfigError: on an unknown device or dtype.
    """
    if isinstance(name, Potential):
        return name.to(device, dtype)
    zoo = _pretrained()
    if str(name) in zoo:
        network, references = zoo[str(name)].read()
        return Potential(network, references, references.theory, str(name)).to(device, dtype)
    folder = Path(name)
    for place in (folder, folder / "checkpoints" / "best"):
        if (place / "potential.json").exists():
            return Potential.load(place, device, dtype)
    if folder.exists():
        raise CheckpointError(
            f"{folder} holds no potential (no potential.json, no checkpoints/best): give a run folder or a saved potential"
        )
    near = difflib.get_close_matches(str(name), zoo, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = f"known names are {', '.join(zoo)}, or give the path of a run folder"
    raise CheckpointError(f"no potential {str(name)!r}: {hint}{known}")


def fresh(source: Potential, seed: int) -> Potential:
    """The same architecture with new random weights; references and level of theory are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(source.model)(source.model.config)
    model.to(device=source.device, dtype=source.dtype)
    return Potential(model, source.references, source.theory, f"{source.name} (new weights)")
