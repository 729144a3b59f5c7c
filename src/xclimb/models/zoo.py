"""Potentials by name: pre-trained weights, run folders and saved potentials."""

import difflib
from pathlib import Path

import numpy as np
import torch

from xclimb.data.theory import LevelOfTheory
from xclimb.errors import CheckpointError
from xclimb.models.chgnet import CHGNet
from xclimb.models.chgnet.pretrained import read_network, read_reference_energies
from xclimb.models.potential import Potential
from xclimb.references import AtomRef

_GGA = LevelOfTheory(
    "GGA/GGA+U", corrections="MP2020", code="VASP", pseudopotentials="PAW PBE (MPRelaxSet)", energy_flavour="e_0"
)
_R2SCAN = LevelOfTheory("r2SCAN", code="VASP", pseudopotentials="PAW PBE_54 (MPScanRelaxSet)", energy_flavour="e_0")

# name -> (level of theory, elements without data in the table of references, what it is)
_ZOO = {
    "chgnet-0.2.0": (_GGA, (84, 85, 86, 87, 88), "CHGNet 0.2.0, MPtrj, kept for comparison"),
    "chgnet-0.3.0": (_GGA, (84, 85, 86, 87, 88), "CHGNet 0.3.0, MPtrj (1.58 M structures)"),
    "chgnet-r2scan": (_R2SCAN, (70, 84, 85, 86, 87, 88), "CHGNet transferred to MP-r2SCAN (0.24 M structures)"),
}


def model_names() -> dict[str, str]:
    """The names :func:`load` knows, with a line about each."""
    return {name: about for name, (_, _, about) in _ZOO.items()}


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
    if str(name) in _ZOO:
        return _from_zoo(str(name)).to(device, dtype)
    folder = Path(name)
    for place in (folder, folder / "checkpoints" / "best"):
        if (place / "potential.json").exists():
            return Potential.load(place, device, dtype)
    if folder.exists():
        raise CheckpointError(
            f"{folder} holds no potential (no potential.json, no checkpoints/best): give a run folder or a saved potential"
        )
    near = difflib.get_close_matches(str(name), _ZOO, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = f"known names are {', '.join(_ZOO)}, or give the path of a run folder"
    raise CheckpointError(f"no potential {str(name)!r}: {hint}{known}")


def _from_zoo(name: str) -> Potential:
    theory, uncovered, _ = _ZOO[name]
    values = read_reference_energies(name).numpy()
    covered = ~np.isin(np.arange(1, len(values) + 1), uncovered)
    references = AtomRef.from_table(values, covered, kind=name, theory=theory)
    return Potential(read_network(name), references, theory, name)


def fresh(source: Potential, seed: int) -> Potential:
    """The same architecture with new random weights; references and level of theory are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CHGNet(source.model.config)
    model.to(device=source.device, dtype=source.dtype)
    return Potential(model, source.references, source.theory, f"{source.name} (new weights)")
