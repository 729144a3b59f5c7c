"""Checks of the structures and labels of frames, vectorised over a set.

A check gives the frames that fail it and, for each, the figure that shows why. A frame is rejected for the first
check it fails, structure before labels. What would break a computation (no atoms, unknown elements, numbers that are not
finite, a cell without volume, labels in part) is always rejected; every other check may also warn, or be off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from xclimb.data.frames import MAX_Z, MIN_VOLUME, Frames
from xclimb.errors import DataError
from xclimb.formats.base import Reject
from xclimb.units import ev_a3_to_gpa

# check -> what is done about a frame that fails it, unless said otherwise
CHECKS = {
    "force": "reject",
    "energy": "reject",
    "stress": "reject",
    "magmom": "reject",
    "overlap": "reject",
    "converged": "reject",
    "element": "warn",
    "unlabelled": "reject",
    "isolated": "off",
    "duplicate": "warn",
    # of the whole set, against a potential: see xclimb.ingest.model_audit
    "energy_unit": "reject",
    "force_unit": "reject",
    "stress_unit": "reject",
    "zero_force": "reject",  # the label, not the frame: it is taken as missing
    "zero_stress": "reject",
    "outlier": "warn",
}
NO_LABEL = "no label"  # reason of a frame that has none
ACTIONS = ("reject", "warn", "off")
_UNCONVERGED = "the electronic steps ran out (NELM) before the energy settled; --check converged=warn keeps the frame"


@dataclass(frozen=True)
class Limits:
    """Limits beyond which a frame is not believed.

    Args:
        distance: shortest distance between two atoms, Å.
        isolation: an atom without another within this distance is isolated, Å.
        volume: smallest volume an atom, Å^3.
        force: largest force on an atom, eV/Å.
        energy: largest absolute energy, eV/atom.
        stress: largest absolute stress component, eV/Å^3 (5 eV/Å^3 are 800 GPa).
        magmom: largest absolute magnetic moment, µB.
        element: largest atomic number that potentials know.
        outlier: largest distance of an energy from what a potential says, elemental references fitted, eV/atom.
    """

    distance: float = 0.5
    isolation: float = 6.0
    volume: float = MIN_VOLUME
    force: float = 100.0
    energy: float = 1e4
    stress: float = 5.0
    magmom: float = 20.0
    element: float = 94.0
    outlier: float = 1.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value >= 0:
                raise DataError(f"the limit {name} cannot be {value:g}: give a number from 0 on")


Faults = tuple[np.ndarray, str, Callable[[int], str]]
Check = Callable[[Frames, Limits, np.ndarray], list[Faults]]


def resolve_checks(checks: Mapping[str, str] | None) -> dict[str, str]:
    """Every check and what is done about frames that fail it.

    Raises:
        DataError: on an unknown check or action.
    """
    checks = {name.replace("-", "_"): action for name, action in (checks or {}).items()}
    for name, action in checks.items():
        if name not in CHECKS:
            raise DataError(f"there is no check {name!r}: known are {', '.join(CHECKS)}")
        if action not in ACTIONS:
            raise DataError(f"check {name} cannot be {action!r}: give {', '.join(ACTIONS)}")
    return CHECKS | checks


def audit(
    frames: Frames,
    limits: Limits | None = None,
    *,
    first: int = 0,
    file: str = "",
    checks: Mapping[str, str] | None = None,
    units_stated: bool = False,
) -> list[Reject]:
    """Find the frames that cannot be used, in order; an empty list if all can.

    A label is either missing from a frame (all NaN) or whole; magnetic moments may be known for some atoms only.

    Args:
        frames: the frames to check.
        limits: beyond which a frame is not believed.
        first: number of the first frame in its file.
        file: name of that file.
        checks: check -> ``"reject"``, ``"warn"`` or ``"off"``, where it is not to be the usual (:data:`CHECKS`).
        units_stated: the format states the units of its labels, so that no wrong unit is guessed.

    Returns:
        the failures; with ``action="warn"`` a frame is sound as far as that check goes.
    """
    from xclimb.ingest.distances import isolated, overlaps

    limits, chosen, guess = limits or Limits(), resolve_checks(checks), not units_stated
    sound = np.ones(len(frames), dtype=bool)
    failures: list[Reject] = []
    every: tuple[tuple[Check, str], ...] = (
        (_atoms, ""), (_elements, ""), (_finite_structure, ""), (_cells, ""), (_unlabelled, "unlabelled"), (_labels, ""),
        (_forces, "force"), (partial(_energies, guess=guess), "energy"), (partial(_stresses, guess=guess), "stress"),
        (_magmoms, "magmom"),
        (overlaps, "overlap"), (_converged, "converged"), (_foreign, "element"), (isolated, "isolated"),
    )  # fmt: skip
    with np.errstate(all="ignore"):  # broken numbers are expected
        for check, name in every:
            action = chosen[name] if name else "reject"
            if action == "off":
                continue
            for bad, reason, detail in check(frames, limits, sound):
                failed = np.flatnonzero(bad & sound)
                failures += [
                    Reject(str(frames.frame_id[s]), first + int(s), reason, detail(int(s)), file, action) for s in failed
                ]
                if action == "reject":
                    sound &= ~bad
    return sorted(failures, key=lambda reject: reject.index)


def _converged(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Frames whose reader says that the electrons did not converge."""
    stated = frames.extras.get("converged")
    if stated is None or stated.dtype.kind not in "biuf":
        return []
    return [(stated == 0, "not converged", lambda s: _UNCONVERGED)]


def _foreign(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Frames with elements that no potential knows."""
    heaviest = _per_frame(frames, frames.numbers)
    what = f"potentials know elements up to {limits.element:g}"
    return [(heaviest > limits.element, "element outside the potential", lambda s: f"atomic number {heaviest[s]}, {what}")]


def _per_frame(frames: Frames, atoms: np.ndarray, reduce: np.ufunc = np.maximum) -> np.ndarray:
    """Reduce a column of the atoms ``[A]`` to the frames ``[S]``; 0 for a frame without atoms."""
    out = np.zeros(len(frames), dtype=atoms.dtype)
    filled = frames.n_atoms > 0
    if filled.any():
        out[filled] = reduce.reduceat(atoms, frames.offsets[:-1][filled])
    return out


def _any(frames: Frames, atoms: np.ndarray) -> np.ndarray:
    """Whether any atom of each frame ``[S]``, from a flag (or several) an atom."""
    flags: np.ndarray = np.logical_or.reduce(atoms, axis=1) if atoms.ndim > 1 else atoms
    return _per_frame(frames, flags, np.logical_or)


def _atoms(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    return [(frames.n_atoms == 0, "no atoms", lambda s: "the frame has 0 atoms")]


def _elements(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    unknown = (frames.numbers < 1) | (frames.numbers > MAX_Z)

    def detail(s: int) -> str:
        rows = slice(frames.offsets[s], frames.offsets[s + 1])
        return f"atomic number {frames.numbers[rows][unknown[rows]][0]}, known are 1 to {MAX_Z}"

    return [(_any(frames, unknown), "unknown element", detail)]


def _finite_structure(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    cells = ~np.isfinite(frames.cells).all(axis=(1, 2))
    positions = _any(frames, ~np.isfinite(frames.positions))
    return [
        (cells, "cell is not finite", lambda s: "NaN or infinity in the lattice vectors"),
        (positions, "positions are not finite", lambda s: "NaN or infinity in the positions"),
    ]


def _cells(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Cells without a volume: flat, thin, or missing though the frame is periodic."""
    periodic = frames.pbc.any(axis=1)
    full = completed(frames.cells, frames.pbc)
    volume = np.abs(np.linalg.det(np.where(np.isfinite(full), full, 0.0)))
    lengths = np.linalg.norm(frames.cells, axis=2)
    singular = periodic & ((volume < 1e-6) | ((lengths < 1e-6) & frames.pbc).any(axis=1))
    crowded = frames.pbc.all(axis=1) & (volume < limits.volume * frames.n_atoms)
    short = ((lengths < limits.distance) & frames.pbc).any(axis=1)
    return [
        (singular, "singular cell", lambda s: f"periodic, but the lattice vectors span {volume[s]:.3g} Å^3"),
        (
            crowded,
            "cell too small",
            lambda s: f"{volume[s] / frames.n_atoms[s]:.3g} Å^3 an atom, at least {limits.volume:g} expected",
        ),
        (short, "overlapping atoms", lambda s: f"an atom is {lengths[s].min():.3f} Å from its own periodic image"),
    ]


def _unlabelled(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Frames with no label at all."""
    of_atoms = ~np.isnan(frames.forces).all(axis=1) | ~np.isnan(frames.magmoms)
    labelled = ~np.isnan(frames.energy) | ~np.isnan(frames.stress).all(axis=(1, 2)) | _any(frames, of_atoms)
    return [(~labelled, NO_LABEL, lambda s: "a structure alone: there is neither energy, force, stress nor moment")]


def _labels(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Labels in part: infinite, or NaN for some entries of a frame and not for others."""
    faults: list[Faults] = [(np.isinf(frames.energy), "energy is not finite", lambda s: f"energy {frames.energy[s]} eV")]
    nan = np.isnan(frames.forces)
    part = _any(frames, nan) & _any(frames, ~nan) | _any(frames, np.isinf(frames.forces))
    faults.append((part, "forces are incomplete", lambda s: "NaN or infinity in some of the forces"))
    nan = np.isnan(frames.stress)
    part = nan.any(axis=(1, 2)) & ~nan.all(axis=(1, 2)) | np.isinf(frames.stress).any(axis=(1, 2))
    faults.append((part, "stress is incomplete", lambda s: "NaN or infinity in some of the stress components"))
    faults.append((_any(frames, np.isinf(frames.magmoms)), "magmoms are not finite", lambda s: "infinite magnetic moment"))
    return faults


def _forces(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    largest = _per_frame(frames, np.nan_to_num(np.linalg.norm(frames.forces, axis=1)))
    return [(largest > limits.force, "force too large", lambda s: f"|F| up to {largest[s]:.4g} eV/Å, limit {limits.force:g}")]


def _energies(frames: Frames, limits: Limits, sound: np.ndarray, guess: bool) -> list[Faults]:
    absurd = np.abs(frames.energy) > limits.energy * frames.n_atoms

    def detail(s: int) -> str:
        unit = ": is the unit eV?" if guess else ""
        return f"{frames.energy[s] / frames.n_atoms[s]:.6g} eV/atom, limit ±{limits.energy:g}{unit}"

    return [(absurd, "energy too large", detail)]


def _stresses(frames: Frames, limits: Limits, sound: np.ndarray, guess: bool) -> list[Faults]:
    largest = np.nan_to_num(np.abs(frames.stress)).max(axis=(1, 2), initial=0.0)

    def detail(s: int) -> str:
        gpa = ev_a3_to_gpa(largest[s])
        unit = ": likely kbar or GPa given as eV/Å^3" if guess else ""
        return f"{largest[s]:.4g} eV/Å^3 ({gpa:.4g} GPa), limit {limits.stress:g}{unit}"

    return [(largest > limits.stress, "stress too large", detail)]


def _magmoms(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    largest = _per_frame(frames, np.nan_to_num(np.abs(frames.magmoms)))
    return [(largest > limits.magmom, "magmom too large", lambda s: f"|m| up to {largest[s]:.4g} µB, limit {limits.magmom:g}")]


def completed(cells: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Cells with a vector of 1 Å, at right angles to the others, where a non-periodic direction has none ``[S, 3, 3]``.

    A frame without any periodic direction gets a cube of 1 Å: its cell does not matter.
    """
    from ase.geometry import complete_cell

    full = np.where(np.logical_or.reduce(pbc, axis=1)[:, None, None], cells, np.eye(3))
    empty = (full == 0.0).all(axis=2) & ~pbc
    for s in np.flatnonzero(np.any(empty, axis=1) & np.isfinite(full).all(axis=(1, 2))):
        full[s] = complete_cell(full[s])
    return full
