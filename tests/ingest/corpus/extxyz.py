"""Variants of extended XYZ."""

import gzip
from collections.abc import Callable
from pathlib import Path

from ingest.corpus import Case

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'
FORCES = [0.1, 0.0, 0.0, -0.1, 0.0, 0.0]
ATOMS = "Cu 0 0 0 0.1 0 0\nCu 2 2 0 -0.1 0 0\n"
BOTH = {"energy": [-7.0], "forces": FORCES}


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    """A function that writes a file of this name with this text into a folder."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8") as file:
            file.write(text)
        return path

    return write


def frame(words: str, forces: str = "forces", atoms: str = ATOMS, columns: str = "species:S:1") -> str:
    """One frame of two copper atoms, with these words in its comment line and its forces under this name."""
    return f"2\n{LATTICE} Properties={columns}:pos:R:3:{forces}:R:3 {words}\n{atoms}"


def moments(columns: str, first: str, second: str) -> str:
    """One frame with moments in these columns."""
    head = f"2\n{LATTICE} Properties=species:S:1:pos:R:3:{columns} energy=-7.0\n"
    return f"{head}Fe 0 0 0 {first}\nFe 2 2 0 {second}\n"


def numbers(text: str) -> str:
    """Atomic numbers in place of symbols."""
    return text.replace("\nCu", "\n29")


CASES = [
    Case(
        "labels under the names of ASE",
        "extxyz",
        text_file("a.extxyz", frame('energy=-7.0 stress="1 0 0 0 2 0 0 0 3" pbc="T T T"')),
        labels=BOTH | {"stress": [1, 0, 0, 0, 2, 0, 0, 0, 3]},
    ),
    Case(
        "each label under a name of its own",
        "extxyz",
        text_file("a.extxyz", frame('E=-7.0 W="64 0 0 0 64 0 0 0 64"', "F")),
        labels=BOTH | {"stress": [-1, 0, 0, 0, -1, 0, 0, 0, -1]},
        options={"energy_key": "E", "forces_key": "F", "virial_key": "W"},
    ),
    Case("Energy and Force, capital", "extxyz", text_file("a.xyz", frame("Energy=-7.0", "Force")), labels=BOTH),
    Case("energy_dft and forces_dft", "extxyz", text_file("a.xyz", frame("energy_dft=-7.0", "forces_dft")), labels=BOTH),
    Case("free_energy alone", "extxyz", text_file("a.xyz", frame("free_energy=-7.0")), labels=BOTH),
    Case("free_energy beside energy", "extxyz", text_file("a.xyz", frame("energy=-7.0 free_energy=-7.1")), labels=BOTH),
    Case("one energy under two names", "extxyz", text_file("a.xyz", frame("energy=-7.0 REF_energy=-7.0")), labels=BOTH),
    Case(
        "two energies that disagree",
        "extxyz",
        text_file("a.xyz", frame("energy=-7.0 REF_energy=-6.0")),
        error=r"1 no label; not read as labels: energy, REF_energy, forces \(they disagree\); to take one, give energy_key=",
        note="which is meant must be said",
    ),
    Case(
        "pbe_energy and r2scan_energy",
        "extxyz",
        text_file("a.xyz", frame("pbe_energy=-6.0 r2scan_energy=-7.0", "r2scan_forces")),
        error=r"1 no label; not read as labels: .*pbe_energy.*r2scan_energy.*they disagree",
        note="which is meant must be said",
    ),
    Case(
        "pbe_energy and r2scan_energy, one asked for",
        "extxyz",
        text_file("a.xyz", frame("pbe_energy=-6.0 r2scan_energy=-7.0", "r2scan_forces")),
        labels=BOTH,
        options={"functional": "r2SCAN"},
    ),
    Case(
        "stress of 6 components",
        "extxyz",
        text_file("a.xyz", frame('energy=-7.0 stress="0.1 0.2 0.3 0.4 0.5 0.6"')),
        labels=BOTH | {"stress": [0.1, 0.6, 0.5, 0.6, 0.2, 0.4, 0.5, 0.4, 0.3]},
        note="order xx yy zz yz xz xy",
    ),
    Case("no pbc stated", "extxyz", text_file("a.xyz", frame("energy=-7.0")), labels=BOTH, note="periodic, as there is a cell"),
    Case("compressed", "extxyz", text_file("a.xyz.gz", frame("energy=-7.0")), labels=BOTH),
    Case(
        "atomic numbers in place of symbols",
        "extxyz",
        text_file("a.xyz", numbers(frame("energy=-7.0", columns="Z:I:1"))),
        labels=BOTH,
    ),
    Case("info keys n_atoms and numbers", "extxyz", text_file("a.xyz", frame("energy=-7.0 n_atoms=2 numbers=29")), labels=BOTH),
    Case(
        "moments that are vectors",
        "extxyz",
        text_file("a.xyz", moments("magmoms:R:3", "0 3 4", "0 0 2")),
        labels={"energy": [-7.0], "magmoms": [5.0, 2.0]},
        note="their sizes are taken",
    ),
    Case(
        "moments of each atom",
        "extxyz",
        text_file("a.xyz", moments("magmoms:R:1", "2.5", "-1")),
        labels={"energy": [-7.0], "magmoms": [2.5, -1.0]},
    ),
    Case(
        "a frame without labels among others",
        "extxyz",
        text_file("a.xyz", frame("energy=-7.0") + f"1\n{LATTICE} Properties=species:S:1:pos:R:3\nCu 0 0 0\n"),
        rejected={"no label": 1},
        labels=BOTH,
    ),
    Case(
        "cut in the last frame",
        "extxyz",
        text_file("a.xyz", frame("energy=-7.0") + frame("energy=-6.0")[:-20]),
        rejected={"file cannot be read": 1},
        labels=BOTH,
    ),
]
