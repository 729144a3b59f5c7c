"""Convex hulls of many chemical systems at once, by pymatgen's phase diagrams."""

import warnings
from dataclasses import dataclass

import numpy as np

from xclimb.references.linear import blocks
from xclimb.references.table import element_symbols

_ON_HULL = 1e-8  # eV/atom


@dataclass(frozen=True, eq=False)
class Systems:
    """The chemical systems of a set of compounds.

    Args:
        members: which elements belong to each system ``[C, K]``.
        of_row: the system of each compound ``[R]``.
    """

    members: np.ndarray
    of_row: np.ndarray

    def __len__(self) -> int:
        return len(self.members)


def chemical_systems(fractions: np.ndarray) -> Systems:
    """The systems that the compounds span, each a set of elements.

    Args:
        fractions: composition fractions ``[R, K]``.
    """
    packed = np.packbits(fractions > 0.0, axis=1)
    _, first, of_row = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return Systems(fractions[first] > 0.0, of_row.reshape(-1))


def decomposition_energies(
    elements: np.ndarray, fractions: np.ndarray, formation: np.ndarray, systems: Systems, chosen: np.ndarray
) -> np.ndarray:
    """Decomposition energy of each compound against all others of its chemical system, eV/atom ``[R]``.

    Positive: above the convex hull, by so much. Negative: on the hull, and so far below what it would decompose into if it were
    not there (Bartel et al., npj Comput. Mater. 6, 97 (2020)). Zero for one of two phases that are equal in all.

    Args:
        elements: atomic numbers of the columns ``[K]``.
        fractions: composition fractions of the compounds ``[R, K]``.
        formation: their formation energies, eV/atom ``[R]``.
        systems: as of :func:`chemical_systems`.
        chosen: the systems to calculate; compounds of others are NaN.
    """
    result = np.full(len(fractions), np.nan)
    present = fractions > 0.0
    symbols = element_symbols()
    for s in chosen:
        outside = ~systems.members[s]
        inside = np.concatenate(
            [rows.start + np.flatnonzero(~present[rows][:, outside].any(1)) for rows in blocks(len(present))]
        )
        columns = np.flatnonzero(systems.members[s])
        names = [symbols[elements[k]] for k in columns]
        asked = systems.of_row[inside] == s
        with warnings.catch_warnings():  # pymatgen orders elements by electronegativity; noble gases have none
            warnings.filterwarnings("ignore", "No Pauling electronegativity", UserWarning)
            energies = _one_system(names, fractions[np.ix_(inside, columns)], formation[inside], np.flatnonzero(asked))
        result[inside[asked]] = energies
    return result


def _one_system(names: list[str], fractions: np.ndarray, formation: np.ndarray, asked: np.ndarray) -> list[float]:
    """Decomposition energies of some compounds of one chemical system, elements at zero."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    compounds = [
        PDEntry(Composition(dict(zip(names, row, strict=True))), energy)
        for row, energy in zip(fractions.tolist(), formation.tolist(), strict=True)
    ]
    diagram = PhaseDiagram([*compounds, *(PDEntry(Composition(name), 0.0) for name in names)])
    return [_decomposition(diagram, compounds[row]) for row in asked]


def _decomposition(diagram, entry) -> float:
    above = float(diagram.get_e_above_hull(entry))
    return above if above > _ON_HULL else min(0.0, float(diagram.get_phase_separation_energy(entry)))
