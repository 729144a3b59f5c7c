"""Overview of a data set: counts, ranges and histograms."""

from typing import Any

import numpy as np

from xclimb.data.frames import COLUMNS, LABELS, MAX_Z, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.units import ev_a3_to_gpa, full_to_voigt

_BINS = 40
_TAIL = 0.005  # share of the values beyond the outermost bins on either side
_BLOCK = 20_000  # frames looked at in one go


def overview(frames: Frames) -> dict[str, Any]:
    """Counts, elements, labels, ranges and histograms of a data set, ready for JSON."""
    symbols = _symbols()
    elements = {symbols[z]: int(n) for z, n in enumerate(_frames_with(frames)) if n}
    quantities = _quantities(frames)
    alone = is_isolated_atom(frames)
    return {
        "theory": str(frames.theory),
        "level_of_theory": frames.theory.to_dict(),
        "frames": len(frames),
        "isolated_atoms": int(alone.sum()),
        "materials": len(np.unique(frames.material_id[~alone])),
        "formulas": len(np.unique(frames.formulas()[~alone])),
        "atoms": frames.total_atoms,
        "atoms_per_frame": _range(frames.n_atoms),
        "elements": elements,
        "labels": {name: _labelled(frames, name) for name in LABELS},
        "ranges": {name: bounds for name, values in quantities.items() if (bounds := _range(values))},
        "histograms": {name: bins for name, values in quantities.items() if (bins := _histogram(values))},
        "extras": sorted(frames.extras),
    }


def _frames_with(frames: Frames) -> np.ndarray:
    """Number of frames that hold each element ``[119]``."""
    counts = np.zeros(MAX_Z + 1, dtype=np.int64)
    for start in range(0, len(frames), _BLOCK):
        stop = min(start + _BLOCK, len(frames))
        rows = slice(frames.offsets[start], frames.offsets[stop])
        system = np.repeat(np.arange(stop - start), np.diff(frames.offsets[start : stop + 1]))
        held = np.unique(system * (MAX_Z + 1) + frames.numbers[rows])
        counts += np.bincount(held % (MAX_Z + 1), minlength=MAX_Z + 1)
    return counts


def _histogram(values: np.ndarray) -> dict[str, list]:
    """Edges ``[n + 1]`` and counts ``[n]`` of the finite values; the outermost bins hold all that lies beyond them."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    whole = np.issubdtype(finite.dtype, np.integer)
    low, high = (float(np.quantile(finite, q, method="nearest")) for q in (_TAIL, 1 - _TAIL))
    if whole:
        step = max(1, int(np.ceil((high - low + 1) / _BINS)))
        edges = np.arange(low - 0.5, high + step, step)
    else:
        edges = np.linspace(low, high, _BINS + 1) if high > low else low + np.array([-0.5, 0.5])
    counts, edges = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


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
    """Quantities whose ranges are shown, by name with unit."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pressure = -np.trace(ev_a3_to_gpa(frames.stress), axis1=1, axis2=2) / 3
        volumes = np.where(frames.volumes > 0, frames.volumes / frames.n_atoms, np.nan)
        energy = frames.energy / frames.n_atoms
    return {
        "atoms a frame": frames.n_atoms,
        "energy (eV/atom)": energy,
        "|force| (eV/Å)": np.linalg.norm(frames.forces, axis=1),
        "stress component (GPa)": full_to_voigt(ev_a3_to_gpa(frames.stress)).reshape(-1),
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
