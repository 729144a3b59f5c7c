"""What a data set holds, as plain numbers."""

from typing import Any

import numpy as np

from xclimb.data.frames import COLUMNS, LABELS, Frames
from xclimb.units import ev_a3_to_gpa


def overview(frames: Frames) -> dict[str, Any]:
    """Counts, elements, labels and ranges of a data set, ready for JSON."""
    sizes = frames.n_atoms
    symbols = _symbols()
    elements = {symbols[z]: int(n) for z, n in enumerate((frames.composition() > 0).sum(axis=0)) if n}
    return {
        "theory": str(frames.theory),
        "frames": len(frames),
        "materials": len(np.unique(frames.material_id)),
        "formulas": len(np.unique(frames.formulas())),
        "atoms": frames.total_atoms,
        "atoms_per_frame": _range(sizes),
        "elements": elements,
        "labels": {name: _labelled(frames, name) for name in LABELS},
        "ranges": {name: found for name, values in _quantities(frames).items() if (found := _range(values))},
        "extras": sorted(frames.extras),
    }


def _symbols() -> list[str]:
    from ase.data import chemical_symbols

    return chemical_symbols


def _labelled(frames: Frames, name: str) -> int:
    """Frames in which every entry of the label is there."""
    column = COLUMNS[name]
    values = getattr(frames, name)
    there = np.isfinite(values).reshape(len(values), int(np.prod(column.shape))).all(axis=1)
    if column.scope == "system":
        return int(there.sum())
    gaps = np.bincount(frames.system, ~there, len(frames))
    return int(((gaps == 0) & (frames.n_atoms > 0)).sum())


def _quantities(frames: Frames) -> dict[str, np.ndarray]:
    """What ranges are shown of, by name with unit."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pressure = -np.trace(ev_a3_to_gpa(frames.stress), axis1=1, axis2=2) / 3
        volumes = np.where(frames.volumes > 0, frames.volumes / frames.n_atoms, np.nan)
        energy = frames.energy / frames.n_atoms
    return {
        "energy (eV/atom)": energy,
        "|force| (eV/Å)": np.linalg.norm(frames.forces, axis=1),
        "pressure (GPa)": pressure,
        "|magmom| (µB)": np.abs(frames.magmoms),
        "volume (Å³/atom)": volumes,
    }


def _range(values: np.ndarray) -> dict[str, float]:
    """Smallest, mean and largest of the finite values; empty without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    return {"min": float(finite.min()), "mean": float(finite.mean()), "max": float(finite.max())}
