"""Variants of extended XYZ."""

from collections.abc import Callable
from pathlib import Path

from ingest.corpus import Case

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'
FORCES = [0.1, 0.0, 0.0, -0.1, 0.0, 0.0]
ATOMS = "Cu 0 0 0 0.1 0 0\nCu 2 2 0 -0.1 0 0\n"


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    """A function that writes a file of this name with this text into a folder."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def frame(words: str, forces: str = "forces", atoms: str = ATOMS) -> str:
    """One frame of two copper atoms, with these words in its comment line and its forces under this name."""
    return f"2\n{LATTICE} Properties=species:S:1:pos:R:3:{forces}:R:3 {words}\n{atoms}"


CASES = [
    Case(
        "labels under the names of ASE",
        "extxyz",
        text_file("a.extxyz", frame('energy=-7.0 stress="1 0 0 0 2 0 0 0 3" pbc="T T T"')),
        labels={"energy": [-7.0], "forces": FORCES, "stress": [1, 0, 0, 0, 2, 0, 0, 0, 3]},
    ),
    Case(
        "each label under a name of its own",
        "extxyz",
        text_file("a.extxyz", frame('E=-7.0 W="64 0 0 0 64 0 0 0 64"', "F")),
        labels={"energy": [-7.0], "forces": FORCES, "stress": [-1, 0, 0, 0, -1, 0, 0, 0, -1]},
        options={"energy_key": "E", "forces_key": "F", "virial_key": "W"},
    ),
]
