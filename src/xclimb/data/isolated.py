"""Isolated atoms among frames: recognition, and their energies."""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xclimb.data.frames import Frames

CONFIG_TYPE = "config_type"  # column by which GAP and MACE name the kind of a frame
_NAMES = ("isolatedatom", "isolated_atom")
_BOX = 8.0  # Å: beyond any bond in a crystal of one atom a cell (Cs: 5.3 Å), stretched by half
_IMAGES = np.array([image for image in product((-2, -1, 0, 1, 2), repeat=3) if any(image)])


def is_isolated_atom(frames: "Frames") -> np.ndarray:
    """Whether each frame is one isolated atom ``[S]``.

    It is if it has one atom, and ``config_type`` says so, or no periodic image of the atom is within 8 Å.
    """
    isolated = np.zeros(len(frames), dtype=bool)
    single = np.flatnonzero(frames.n_atoms == 1)
    if not len(single):
        return isolated
    cells, pbc = np.nan_to_num(frames.cells[single]), frames.pbc[single]
    images = np.where(pbc[:, None, :], _IMAGES, 0)
    distances = np.linalg.norm(images @ cells, axis=2)
    distances[~images.any(axis=2)] = np.inf
    isolated[single] = distances.min(axis=1) > _BOX
    kinds = frames.extras.get(CONFIG_TYPE)
    if kinds is not None and kinds.dtype.kind in "OU":
        isolated[single] |= np.isin(np.char.lower(np.asarray(kinds[single]).astype(np.str_)), _NAMES)
    return isolated


def isolated_atom_energies(frames: "Frames") -> dict[str, float]:
    """Energies of the isolated atoms among frames, eV, by symbol: the lowest, where an element has several."""
    from ase.data import chemical_symbols

    rows = np.flatnonzero(is_isolated_atom(frames))
    rows = rows[np.isfinite(frames.energy[rows])]
    energies: dict[str, float] = {}
    for z, energy in sorted(zip(frames.numbers[frames.offsets[rows]].tolist(), frames.energy[rows].tolist(), strict=True)):
        energies.setdefault(chemical_symbols[z], energy)
    return energies
