"""The contract that every potential passes, for xclimb's own and for yours, and the tolerances of the house.

    from xclimb.testing import check_potential

    check_potential(my_potential)  # silent, or an AssertionError that says what is wrong, by how much, for which crystal

A potential is anything with ``predict(x)`` as :meth:`xclimb.Potential.predict` describes it. The physics is checked in
float64: on a copy where there is ``to(dtype=...)``; without it, the potential is taken to compute in float64.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from xclimb.errors import DataError, XclimbWarning
from xclimb.models.contract import STEP, TOLERANCES, Subject, Tolerance, run_checks
from xclimb.models.potential import as_frames

__all__ = ["STEP", "TOLERANCES", "Tolerance", "check_potential", "tiny_crystals"]


def tiny_crystals() -> dict[str, Atoms]:
    """Small crystals without symmetry: a salt, a magnetic metal, a skewed semiconductor, an oxide, one without short bonds."""
    salt, iron = bulk("NaCl", "rocksalt", a=5.64), bulk("Fe", "bcc", a=2.87, cubic=True)
    silicon, caesium = bulk("Si", "diamond", a=5.43), bulk("Cs", "bcc", a=6.14, cubic=True)
    silicon.set_cell(np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]]) @ silicon.cell.array)
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    oxide = Atoms("SrTiO3", scaled_positions=corners, cell=np.eye(3) * 3.91, pbc=True)
    crystals = {"NaCl": salt, "Fe": iron, "Si": silicon, "SrTiO3": oxide, "Cs": caesium}
    rng = np.random.default_rng(0)
    for atoms in crystals.values():
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.08, (len(atoms), 3))
    return crystals


def check_potential(potential: Any, structures: Any = None) -> None:
    """Check that a potential keeps the contract.

    Args:
        potential: anything with ``predict``. Its cutoffs are read from ``.graph`` or from itself, as ``.cutoff`` and
            ``.bond_cutoff``; 6 Å without them, and half of it for the bonds that form angles.
        structures: crystals to try, as ``predict`` takes them or ``{name: atoms}``; by default :func:`tiny_crystals`. They
            should have elements that the potential knows, few atoms and no symmetry.

    Raises:
        AssertionError: on the first breach, saying what is wrong, by how much and for which structure.
        DataError: if there are no structures.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)  # elements without data: the contract is about derivatives
        run_checks(_subject(potential, structures))


def _subject(potential: Any, structures: Any) -> Subject:
    crystals = tiny_crystals() if structures is None else _by_name(structures)
    if not crystals:
        raise DataError("no structures to check the potential on: leave them out for the built-in crystals")
    exact = potential.to(dtype="float64") if hasattr(potential, "to") else potential
    spec = getattr(potential, "graph", potential)
    cutoff = float(getattr(spec, "cutoff", 6.0))
    bond_cutoff = float(getattr(spec, "bond_cutoff", None) or cutoff / 2)  # of a graph without angles: any short distance
    return Subject(potential, exact, crystals, (cutoff, bond_cutoff))


def _by_name(structures: Any) -> dict[str, Atoms]:
    if isinstance(structures, Mapping):
        return {str(name): atoms for name, atoms in structures.items()}
    many = as_frames(structures)[0].to_ase()
    for atoms in many:
        atoms.calc = None
    return {f"{atoms.get_chemical_formula()} ({atoms.info['frame_id']})": atoms for atoms in many}
