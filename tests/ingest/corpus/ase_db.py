"""Databases and trajectories of ASE, fairchem's among them, and structures without labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixedLine
from ase.db import connect
from ase.io import write

from ingest.corpus import Case

LABELS = {"energy": [-7.0], "forces": [0.1, 0.1, 0.1]}


def copper(n: int = 1, **info: Any) -> Atoms:
    """A supercell of copper with labels."""
    atoms = bulk("Cu", cubic=True) * (n, 1, 1)
    atoms.info |= info
    atoms.calc = SinglePointCalculator(atoms, energy=-7.0, forces=np.full((len(atoms), 3), 0.1))
    return atoms


def database(name: str, atoms: Atoms, **words: Any) -> Callable[[Path], Path]:
    """A function that writes a database of one row into a folder."""

    def make(folder: Path) -> Path:
        with connect(str(folder / name), type=Path(name).suffix[1:]) as rows:
            rows.write(atoms, **words)
        return folder / name

    return make


def written(name: str, atoms: Atoms, **options: Any) -> Callable[[Path], Path]:
    """A function that writes atoms into a folder, as ASE does."""

    def make(folder: Path) -> Path:
        write(folder / name, atoms, **options)
        return folder / name

    return make


def indented(folder: Path) -> Path:
    """A JSON database whose first row begins with constraints longer than the head of a file."""
    import json

    atoms = copper(30)
    atoms.set_constraint([FixedLine(n, [0, 0, 1]) for n in range(len(atoms))])
    made = database("dense.json", atoms)(folder)
    rows = json.loads(made.read_text())
    made.unlink()
    rows["1"] = {"constraints": rows["1"].pop("constraints")} | rows["1"]
    path = folder / "a.json"
    path.write_text(json.dumps(rows, indent=2))
    return path


def fixed() -> Atoms:
    """Copper with atoms that may not move: their forces are labels nevertheless."""
    atoms = copper()
    atoms.set_constraint(FixAtoms([0, 1]))
    return atoms


CASES = [
    Case("db", "ASE", database("a.db", copper()), labels=LABELS),
    Case("JSON database", "ASE", database("a.json", copper()), labels=LABELS),
    Case("indented JSON database, long constraints first", "ASE", indented, labels=LABELS),
    Case("trajectory", "ASE", written("a.traj", copper()), labels=LABELS),
    Case("db with constraints", "ASE", database("a.db", fixed()), labels=LABELS, note="forces are not zeroed"),
    Case(
        "db with the energy among the words of a row",
        "ASE",
        database("a.db", bulk("Cu"), dft_energy=-7.0, relaxed=True),
        labels={"energy": [-7.0]},
    ),
    Case("db, aselmdb", "fairchem", database("a.aselmdb", copper()), labels=LABELS, note="needs `xclimb[lmdb]`"),
    Case(
        "extxyz with sid, n_atoms and numbers",
        "fairchem",
        written("a.xyz", copper(sid=3, n_atoms=4, numbers=29)),
        labels=LABELS,
    ),
    Case(
        "CIF",
        "structures",
        written("a.cif", bulk("Cu", cubic=True)),
        error=r"none of the 1 frames can be used \(1 no label\)",
        note="no data for training; `predict` takes it",
    ),
    Case(
        "POSCAR, kept on purpose",
        "structures",
        written("POSCAR", bulk("Cu", cubic=True), format="vasp"),
        options={"checks": {"unlabelled": "off"}},
    ),
]
