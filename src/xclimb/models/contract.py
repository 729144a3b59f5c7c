"""The checks behind :func:`xclimb.testing.check_potential`: one function each, every number against a float64 truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from xclimb.units import gpa_to_ev_a3

_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3", "magmoms": "µB", "site_energies": "eV"}
_PERIODIC = ("energy", "forces", "stress", "magmoms", "site_energies")
_CLUSTER = ("energy", "forces", "magmoms", "site_energies")  # the stress depends on the volume, which a cluster lacks


@dataclass(frozen=True)
class Tolerance:
    """Largest deviation allowed: energy (eV/atom), forces (eV/Å), stress (eV/Å^3), magmoms (µB), site energies (eV)."""

    energy: float
    forces: float
    stress: float
    magmoms: float
    site_energies: float


TOLERANCES: dict[str, Tolerance] = {
    "float64": Tolerance(1e-9, 1e-8, 1e-9, 1e-8, 1e-8),  # symmetries, batches: rounding only
    "float32": Tolerance(5e-6, 1e-4, gpa_to_ev_a3(2e-4), 5e-5, 5e-5),  # float32 against float64
    "finite_difference": Tolerance(1e-9, 1e-6, 1e-6, 1e-9, 1e-9),  # derivatives of the energy, float64
    "chgnet": Tolerance(4e-6, 4e-4, gpa_to_ev_a3(5e-4), 1e-5, 5e-5),  # noise of chgnet 0.4.2, which is float32 only
}
STEP = 2e-5  # Å and strain, of central differences in float64
_JUMP_STEP, _JUMP_ENERGY, _JUMP_FORCE = 1e-6, 1e-9, 1e-5  # Å, eV, eV/Å: either side of a cutoff


@dataclass(frozen=True)
class Subject:
    """Subject of a check: the potential as given and in float64, the crystals and the predictions for each alone."""

    given: Any
    exact: Any
    crystals: dict[str, Atoms]
    cutoffs: tuple[float, float]  # Å, atom graph and angles
    alone: dict[str, Any] = field(default_factory=dict)


# -- saying what is wrong -----------------------------------------------------------------------------


def _require(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _agree(name: str, got: Any, expected: Any, tolerance: Tolerance, labels: Iterable[str] = _PERIODIC) -> None:
    """Two predictions for the same atoms, in the same order."""
    for label in labels:
        allowed = getattr(tolerance, label)
        off = np.abs(np.asarray(getattr(got, label)) - np.asarray(getattr(expected, label))).max(initial=0.0)
        off = off / max(len(expected.forces), 1) if label == "energy" else off
        _require(off <= allowed, f"{label} of {name} off by {off:.2g} {_UNITS[label]}, allowed {allowed:.2g}")  # NaN fails


def _changed(prediction: Any, order: Any = slice(None), copies: int = 1, turn: np.ndarray | None = None) -> SimpleNamespace:
    """Expected prediction for the same crystal with atoms reordered, repeated, or turned by an orthogonal matrix."""
    turn = np.eye(3) if turn is None else turn
    return SimpleNamespace(
        energy=prediction.energy * copies,
        forces=np.tile(prediction.forces[order] @ turn.T, (copies, 1)),
        stress=turn @ prediction.stress @ turn.T,
        magmoms=np.tile(prediction.magmoms[order], copies),
        site_energies=np.tile(prediction.site_energies[order], copies),
    )


# -- the interface ------------------------------------------------------------------------------------


def _outputs(subject: Subject) -> None:
    for name, atoms in subject.crystals.items():
        for potential in (subject.given, subject.exact):
            _check_output(name, atoms, potential.predict(atoms))
        subject.alone[name] = subject.exact.predict(atoms)


def _check_output(name: str, atoms: Atoms, out: Any) -> None:
    _require(not isinstance(out, (list, tuple)), f"one structure ({name}) must give one prediction, not a {type(out).__name__}")
    n = len(atoms)
    shapes = {"forces": (n, 3), "stress": (3, 3), "magmoms": (n,), "site_energies": (n,)}
    _require(isinstance(out.energy, float), f"energy of {name} must be a Python float, not {type(out.energy).__name__}")
    _require(np.isfinite(out.energy), f"energy of {name} is not finite")
    for label, shape in shapes.items():
        value = getattr(out, label)
        _require(isinstance(value, np.ndarray), f"{label} of {name} must be a NumPy array, not {type(value).__name__}")
        _require(np.issubdtype(value.dtype, np.floating), f"{label} of {name} must be floating point, not {value.dtype}")
        _require(value.shape == shape, f"{label} of {name} must have shape {shape}, not {value.shape}")
        _require(np.isfinite(value).all(), f"{label} of {name} are not finite")
    off = abs(out.energy_per_atom * n - out.energy)
    _require(off <= 1e-9 * n + 1e-12 * abs(out.energy), f"energy_per_atom of {name} is not its energy by its number of atoms")


def _lists(subject: Subject) -> None:
    first, *_ = subject.crystals.values()
    for many in ([], [first], (first,), [first, first]):
        out = subject.given.predict(many)
        kind = f"a {type(many).__name__} of {len(many)}"
        _require(isinstance(out, list), f"{kind} must give a list of predictions, not {type(out).__name__}")
        _require(len(out) == len(many), f"{kind} gave {len(out)} predictions")


def _unmutated(subject: Subject) -> None:
    # new atoms, some of them outside the cell: nothing may wrap or mark them
    old = subject.crystals.values()
    many = [Atoms(atoms.numbers, atoms.positions + 3.3, cell=atoms.cell, pbc=atoms.pbc, info={"kept": "info"}) for atoms in old]
    kept, asked = [_snapshot(atoms) for atoms in many], list(many)
    subject.given.predict(many[0])
    subject.given.predict(many)
    _require(len(many) == len(asked) and all(a is b for a, b in zip(many, asked, strict=True)), "the list given was changed")
    for name, atoms, before in zip(subject.crystals, many, kept, strict=True):
        for what, value in _snapshot(atoms).items():
            _require(value == before[what], f"{what} of the atoms given were changed ({name})")


def _snapshot(atoms: Atoms) -> dict[str, Any]:
    arrays = {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in atoms.arrays.items()}
    return arrays | {"cell": atoms.cell.array.tobytes(), "pbc": atoms.pbc.tobytes(), "info": {**atoms.info}, "calc": atoms.calc}


def _repeatable(subject: Subject) -> None:
    for name, atoms in subject.crystals.items():
        out = subject.exact.predict(atoms)
        for label in ("forces", "stress"):
            if getattr(out, label).flags.writeable:
                getattr(out, label)[...] = np.nan  # what a user does with an answer must not reach the next one
        _agree(name, subject.exact.predict(atoms), subject.alone[name], TOLERANCES["float64"])


def _batches(subject: Subject) -> None:
    many = list(subject.crystals.values())
    single = [subject.given.predict(atoms) for atoms in many]
    single_tolerance = TOLERANCES["float32" if "float32" in str(getattr(subject.given, "dtype", "")) else "float64"]
    cases = ((subject.exact, list(subject.alone.values()), TOLERANCES["float64"]), (subject.given, single, single_tolerance))
    for potential, expected, tolerance in cases:
        for order in (slice(None), slice(None, None, -1)):
            together = potential.predict(many[order])
            for name, got, want in zip(list(subject.crystals)[order], together, expected[order], strict=True):
                _agree(name, got, want, tolerance)


def _precision(subject: Subject) -> None:
    if hasattr(subject.given, "to"):
        coarse = subject.given.to(dtype="float32")
        for name, atoms in subject.crystals.items():
            _agree(name, coarse.predict(atoms), subject.alone[name], TOLERANCES["float32"])


# -- symmetries -----------------------------------------------------------------------------------------


def _site_sums(subject: Subject) -> None:
    for name, out in subject.alone.items():
        off = abs(out.site_energies.sum() - out.energy) / len(out.site_energies)
        allowed = TOLERANCES["float64"].energy
        _require(off <= allowed, f"their sum is off the energy of {name} by {off:.2g} eV/atom, allowed {allowed:.2g}")


def _compare(subject: Subject, change: Callable[[Atoms], None], labels: Iterable[str] = _PERIODIC) -> None:
    """A change of the atoms that must not change any prediction."""
    for name, atoms in subject.crystals.items():
        changed = atoms.copy()
        change(changed)
        _agree(name, subject.exact.predict(changed), subject.alone[name], TOLERANCES["float64"], labels)


def _translation(subject: Subject) -> None:
    _compare(subject, lambda atoms: atoms.translate((0.37, -1.21, 2.05)))
    _compare(subject, lambda atoms: atoms.translate(atoms.cell.array.sum(axis=0)))


def _unwrapped(subject: Subject) -> None:
    rng = np.random.default_rng(1)

    def move(atoms: Atoms) -> None:
        atoms.positions += (rng.integers(-50, 51, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array

    _compare(subject, move)


def _left_handed(subject: Subject) -> None:
    def swap(atoms: Atoms) -> None:
        atoms.set_cell(atoms.cell.array[[1, 0, 2]])
        atoms.pbc = atoms.pbc[[1, 0, 2]]

    _compare(subject, swap)


def _permutation(subject: Subject) -> None:
    rng = np.random.default_rng(2)
    for name, atoms in subject.crystals.items():
        order = np.roll(rng.permutation(len(atoms)), 1) if len(atoms) > 2 else np.arange(len(atoms))[::-1]
        _agree(name, subject.exact.predict(atoms[order]), _changed(subject.alone[name], order), TOLERANCES["float64"])


def _rotation(subject: Subject) -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    # the same comparison without the turn has to fail somewhere, or this check could not
    telling = {"forces": 0.0, "stress": 0.0}
    for name, atoms in subject.crystals.items():
        for matrix in (turn, -turn):  # one proper, one a reflection
            expected = _changed(subject.alone[name], turn=matrix)
            turned = atoms.copy()
            turned.set_cell(atoms.cell.array @ matrix.T)
            turned.set_positions(atoms.positions @ matrix.T)
            _agree(name, subject.exact.predict(turned), expected, TOLERANCES["float64"])
            for label, most in telling.items():
                change = np.abs(getattr(expected, label) - getattr(subject.alone[name], label)).max(initial=0.0)
                telling[label] = max(most, float(change))
    for label, most in telling.items():
        _require(most > 1e-6, f"{label} of every structure look the same from all sides: rattle and strain the structures")


def _supercell(subject: Subject) -> None:
    for name, atoms in subject.crystals.items():
        for repeats in ((2, 1, 1), (1, 1, 2)):
            repeated = subject.exact.predict(atoms.repeat(repeats))
            _agree(name, repeated, _changed(subject.alone[name], copies=2), TOLERANCES["float64"])


# -- few neighbours, few periodic directions ------------------------------------------------------------


def _lone_atom(subject: Subject) -> None:
    first, *_ = subject.crystals.values()
    free = Atoms(first.numbers[:1], [(0.1, 0.2, 0.3)])
    boxed = Atoms(first.numbers[:1], [(0.1, 0.2, 0.3)], cell=np.eye(3) * 4 * subject.cutoffs[0], pbc=True)
    outs = [subject.exact.predict(free), subject.exact.predict(boxed)]
    for atoms, out in zip((free, boxed), outs, strict=True):
        _check_output("a lone atom", atoms, out)
        _require(not out.forces.any() and not out.stress.any(), "forces and stress of a lone atom must be zero")
    _agree("a lone atom in a box", outs[1], outs[0], TOLERANCES["float64"])


def _slab(subject: Subject) -> None:
    for name, atoms in subject.crystals.items():
        slab = atoms.copy()
        slab.center(vacuum=subject.cutoffs[0], axis=2)
        slab.pbc = True
        expected = subject.exact.predict(slab)
        for periodic in ((True, True, False), (False, True, True)):
            open_ended = slab.copy()
            axis = periodic.index(False)
            if axis == 0:  # the same slab with the open direction first
                open_ended.set_cell(slab.cell.array[[2, 0, 1]])
            open_ended.pbc = periodic
            _agree(f"a slab of {name}", subject.exact.predict(open_ended), expected, TOLERANCES["float64"])
        tight = atoms.copy()  # no vacuum: only pbc says that there is nothing beyond
        tight.pbc = (True, True, False)
        _agree(f"a slab of {name} without vacuum", subject.exact.predict(tight), expected, TOLERANCES["float64"], _CLUSTER)


def _cluster(subject: Subject) -> None:
    for name, atoms in subject.crystals.items():
        free = Atoms(atoms.numbers, atoms.positions)
        boxed = free.copy()
        boxed.center(vacuum=subject.cutoffs[0])
        boxed.pbc = True
        out = subject.exact.predict(free)
        _agree(f"a cluster of {name}", out, subject.exact.predict(boxed), TOLERANCES["float64"], _CLUSTER)
        _require(not out.stress.any(), f"stress of a cluster of {name} without a cell must be zero")


def _fragments(subject: Subject) -> None:
    crystals = list(subject.crystals.values())
    near, far = (Atoms(atoms.numbers, atoms.positions) for atoms in (crystals[0], crystals[-1]))
    far.translate((10 * subject.cutoffs[0], 0, 0))
    alone, together = [subject.exact.predict(part) for part in (near, far)], subject.exact.predict(near + far)
    of_atoms = {label: np.concatenate([getattr(out, label) for out in alone]) for label in _CLUSTER[1:]}
    expected = SimpleNamespace(energy=alone[0].energy + alone[1].energy, **of_atoms)
    _agree("two clusters far apart", together, expected, TOLERANCES["float64"], _CLUSTER)


# -- derivatives and smoothness -------------------------------------------------------------------------


def _stretched(subject: Subject) -> dict[str, Atoms]:
    """Structures without angles: the first crystal with all bonds between the two cutoffs, and a pair of atoms."""
    (name, first), *_ = subject.crystals.items()
    cutoff, bond_cutoff = subject.cutoffs
    wide = first.copy()
    nearest = neighbor_list("d", first, 2 * cutoff).min(initial=2 * cutoff)
    wide.set_cell(first.cell.array * max(1.0, 1.1 * bond_cutoff / nearest), scale_atoms=True)
    pair = Atoms(first.numbers[[0, -1]], [(0, 0, 0), (0.5 * bond_cutoff, 0.4 * bond_cutoff, 0.3 * bond_cutoff)])
    return {f"{name} without short bonds": wide, "two atoms": pair}


def _no_angles(subject: Subject) -> None:
    for name, atoms in _stretched(subject).items():
        _check_output(name, atoms, subject.exact.predict(atoms))


def _forces(subject: Subject) -> None:
    rng = np.random.default_rng(4)
    for name, atoms in (subject.crystals | _stretched(subject)).items():
        direction = rng.normal(size=(len(atoms), 3))
        direction /= np.linalg.norm(direction)
        ends = [atoms.copy(), atoms.copy()]
        for end, sign in zip(ends, (1, -1), strict=True):
            end.positions += sign * STEP * direction
        slope = -np.subtract(*(out.energy for out in subject.exact.predict(ends))) / (2 * STEP)
        _close_slope(f"forces of {name}", (subject.exact.predict(atoms).forces * direction).sum(), slope, "forces")


def _stress(subject: Subject) -> None:
    rng = np.random.default_rng(5)
    for name, atoms in subject.crystals.items():
        stress = subject.alone[name].stress
        _require(np.abs(stress - stress.T).max() <= TOLERANCES["float64"].stress, f"stress of {name} is not symmetric")
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        ends = [atoms.copy(), atoms.copy()]
        for end, sign in zip(ends, (1, -1), strict=True):
            end.set_cell(atoms.cell.array @ (np.eye(3) + sign * STEP * strain), scale_atoms=True)
        slope = np.subtract(*(out.energy for out in subject.exact.predict(ends))) / (2 * STEP * abs(atoms.get_volume()))
        _close_slope(f"stress of {name}", (stress * strain).sum(), slope, "stress")


def _close_slope(name: str, got: float, slope: float, label: str) -> None:
    allowed, off = getattr(TOLERANCES["finite_difference"], label), abs(got - slope)
    detail = f"{name} along a random direction: {got:.6g}, by central differences of the energy {slope:.6g} {_UNITS[label]}"
    _require(off <= allowed, f"{detail}, off by {off:.2g}, allowed {allowed:.2g}")


def _smooth(subject: Subject) -> None:
    first, *_ = subject.crystals.values()
    numbers = first.numbers[[0, -1, 0]]
    toward = np.array([np.cos(1.9), np.sin(1.9), 0.0])
    for cutoff in subject.cutoffs:
        # a third atom crosses the cutoff around the first, which has a neighbour at a short distance: an angle of 109°
        inside, outside = (
            Atoms(numbers, np.array([(0, 0, 0), (0.8 * subject.cutoffs[1], 0, 0), toward * (cutoff + sign * _JUMP_STEP)]))
            for sign in (-1, 1)
        )
        before, after = subject.exact.predict([inside, outside])
        work = (before.forces + after.forces)[2] @ toward * _JUMP_STEP
        jump = abs(after.energy - before.energy + work)
        kick = np.abs(after.forces - before.forces).max()
        _require(jump <= _JUMP_ENERGY, f"energy jumps by {jump:.2g} eV at {cutoff:g} Å, allowed {_JUMP_ENERGY:.2g}")
        _require(kick <= _JUMP_FORCE, f"forces jump by {kick:.2g} eV/Å at {cutoff:g} Å, allowed {_JUMP_FORCE:.2g}")


CHECKS: dict[str, Callable[[Subject], None]] = {
    "outputs": _outputs,  # first: it fills Subject.alone
    "a list for a list": _lists,
    "inputs stay as they are": _unmutated,
    "same question, same answer": _repeatable,
    "batch = single": _batches,
    "float32 against float64": _precision,
    "site energies": _site_sums,
    "translation": _translation,
    "atoms outside the cell": _unwrapped,
    "left-handed cell": _left_handed,
    "permutation": _permutation,
    "rotation": _rotation,
    "supercell": _supercell,
    "lone atom": _lone_atom,
    "no angles": _no_angles,
    "partial periodicity": _slab,
    "no periodicity": _cluster,
    "far fragments": _fragments,
    "forces are derivatives": _forces,
    "stress is a derivative": _stress,
    "smooth at the cutoffs": _smooth,
}


def run_checks(subject: Subject) -> None:
    """All checks, in order; the first breach, or anything the potential raises, becomes an AssertionError that says where."""
    for what, check in CHECKS.items():
        try:
            check(subject)
        except AssertionError as breach:
            raise AssertionError(f"{what}: {breach}") from None
        except Exception as error:
            raise AssertionError(f"{what}: the potential raised {type(error).__name__}: {error}") from error
