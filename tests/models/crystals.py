"""Fifty diverse crystals from textbook prototypes, strained and rattled: the same ones on every machine, by code alone."""

from functools import cache

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

SKEWED = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])  # another choice of the same lattice, with sharp angles


def _cubic(a):
    return a, a, a, 90, 90, 90


def _tetragonal(a, c):
    return a, a, c, 90, 90, 90


def _hexagonal(a, c):
    return a, a, c, 90, 90, 120


# prototype: space group, coordinates of each site, shape of the cell
_PROTOTYPES = {
    "half-heusler": (216, [(0, 0, 0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5)], _cubic),
    "full heusler": (225, [(0.25, 0.25, 0.25), (0, 0, 0), (0.5, 0.5, 0.5)], _cubic),
    "quaternary heusler": (216, [(0, 0, 0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (0.75, 0.75, 0.75)], _cubic),
    "perovskite": (221, [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0)], _cubic),
    "double perovskite": (225, [(0.25, 0.25, 0.25), (0, 0, 0), (0.5, 0.5, 0.5), (0.24, 0, 0)], _cubic),
    "ReO3": (221, [(0, 0, 0), (0.5, 0, 0)], _cubic),
    "Cu3Au": (221, [(0, 0, 0), (0.5, 0.5, 0)], _cubic),
    "A15": (223, [(0, 0, 0), (0.25, 0, 0.5)], _cubic),
    "laves": (227, [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5)], _cubic),
    "spinel": (227, [(0.125, 0.125, 0.125), (0.5, 0.5, 0.5), (0.2624, 0.2624, 0.2624)], _cubic),
    "pyrite": (205, [(0, 0, 0), (0.385, 0.385, 0.385)], _cubic),
    "rutile": (136, [(0, 0, 0), (0.305, 0.305, 0)], _tetragonal),
    "AlB2": (191, [(0, 0, 0), (1 / 3, 2 / 3, 0.5)], _hexagonal),
    "CdI2": (164, [(0, 0, 0), (1 / 3, 2 / 3, 0.245)], _hexagonal),
    "brucite": (164, [(0, 0, 0), (1 / 3, 2 / 3, 0.222), (1 / 3, 2 / 3, 0.425)], _hexagonal),
    "delafossite": (166, [(0, 0, 0), (0, 0, 0.5), (0, 0, 0.26)], _hexagonal),
    "calcite": (167, [(0, 0, 0), (0, 0, 0.25), (0.257, 0, 0.25)], _hexagonal),
    "chalcopyrite": (122, [(0, 0, 0), (0, 0, 0.5), (0.23, 0.25, 0.125)], _tetragonal),
    "kesterite": (82, [(0, 0, 0), (0, 0.5, 0.25), (0, 0.5, 0.75), (0.5, 0.5, 0), (0.756, 0.757, 0.872)],
                 _tetragonal),
    "ZrCuSiAs": (129, [(0.25, 0.25, 0.141), (0.25, 0.25, 0.651), (0.75, 0.25, 0), (0.75, 0.25, 0.5)],
                 _tetragonal),
    "PbFCl": (129, [(0.25, 0.25, 0.17), (0.75, 0.25, 0), (0.25, 0.25, 0.645)], _tetragonal),
    "alpha-U": (63, [(0, 0.105, 0.25)], lambda a, b, c: (a, b, c, 90, 90, 90)),
    "ammonium halide": (215, [(0, 0, 0), (0.5, 0.5, 0.5), (0.153, 0.153, 0.153)], _cubic),
}  # fmt: skip

_SETTINGS = {"laves": 2, "spinel": 2, "ZrCuSiAs": 2, "PbFCl": 2}  # origin at the inversion centre

# name in ase.build.bulk or above: elements and lattice constants, Å
_CRYSTALS = (
    # elements
    ("fcc", "Ni", 3.52), ("bcc", "Fe", 2.87), ("bcc", "Cs", 6.14), ("fcc", "Ar", 5.26), ("diamond", "Si", 5.43),
    ("hcp", "Gd", 3.63, 5.78), ("alpha-U", "U", 2.85, 5.87, 4.96), ("fcc", "Pu", 4.64),
    # binaries
    ("rocksalt", "NaCl", 5.64), ("rocksalt", "LiH", 4.08), ("rocksalt", "MnO", 4.44), ("rocksalt", "NiO", 4.17),
    ("rocksalt", "EuO", 5.14), ("rocksalt", "UC", 4.96), ("rocksalt", "TiN", 4.24), ("cesiumchloride", "TlBr", 3.99),
    ("cesiumchloride", "HfRu", 3.22), ("cesiumchloride", "FeRh", 2.99), ("zincblende", "HgTe", 6.46),
    ("wurtzite", "ZnO", 3.25, 5.21), ("fluorite", "CaF2", 5.46), ("fluorite", "UO2", 5.47), ("fluorite", "CeO2", 5.41),
    ("fluorite", "ErH2", 5.13), ("rutile", "Sn O", 4.74, 3.19), ("rutile", "Cr O", 4.42, 2.92),
    ("AlB2", "Mg B", 3.09, 3.52), ("CdI2", "Cd I", 4.24, 6.86), ("ReO3", "W O", 3.78), ("Cu3Au", "Au Cu", 3.75),
    ("A15", "Sn Nb", 5.29), ("laves", "La Al", 8.15), ("pyrite", "Fe S", 5.42),
    # ternaries
    ("perovskite", "Sr Ti O", 3.91), ("perovskite", "La Mn O", 3.88), ("perovskite", "Cs Pb I", 6.29),
    ("perovskite", "K Ni F", 4.01), ("half-heusler", "Bi Pt Y", 6.64), ("full heusler", "Pd Mn Sn", 6.38),
    ("brucite", "Ca O H", 3.59, 4.91), ("delafossite", "Li Co O", 2.82, 14.05), ("calcite", "Ca C O", 4.99, 17.06),
    ("spinel", "Fe Mn O", 8.5),
    ("chalcopyrite", "Ag Ga Se", 5.97, 10.9), ("ammonium halide", "N Cl H", 3.87), ("PbFCl", "Bi O Cl", 3.89, 7.35),
    # quaternaries
    ("quaternary heusler", "Co Mn Fe Si", 5.60), ("double perovskite", "Sr Fe Mo O", 7.89),
    ("ZrCuSiAs", "La As Fe O", 4.03, 8.74), ("kesterite", "Cu Cu Zn Sn S", 5.43, 10.86),
)  # fmt: skip


def _ideal(prototype: str, elements: str, *lattice: float) -> Atoms:
    """The unstrained primitive cell."""
    if prototype not in _PROTOTYPES:
        constants = dict(zip(("a", "c"), lattice, strict=False))
        return bulk(elements, prototype, **constants)
    group, sites, cell = _PROTOTYPES[prototype]
    setting = _SETTINGS.get(prototype, 1)
    return crystal(elements.split(), sites, spacegroup=group, setting=setting, cellpar=cell(*lattice), primitive_cell=True)


def perturb(atoms: Atoms, seed: int, strain: float = 0.02, rattle: float = 0.06) -> Atoms:
    """A copy with a random strain and random displacements (Å), without the symmetry of the original."""
    rng = np.random.default_rng(seed)
    moved = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    moved.set_cell(moved.cell.array @ (np.eye(3) + rng.normal(0, strain, (3, 3))), scale_atoms=True)
    moved.positions += rng.normal(0, rattle, moved.positions.shape)
    return moved


@cache
def _all_crystals() -> tuple[Atoms, ...]:
    found = []
    for seed, (prototype, elements, *lattice) in enumerate(_CRYSTALS):
        atoms = perturb(_ideal(prototype, elements, *lattice), seed)
        if seed % 4 == 1:  # a quarter in a skewed cell, with atoms outside of it
            atoms.set_cell(SKEWED @ atoms.cell.array)
        atoms.info["frame_id"] = f"{prototype} {elements.replace(' ', '')}"
        found.append(atoms)
    return tuple(found)


def crystals() -> list[Atoms]:
    """The fifty crystals, fresh copies: 1 to 14 atoms, elements to quaternaries, H to Pu, metals, salts, magnets, layers."""
    return [atoms.copy() for atoms in _all_crystals()]
