"""Crystals as the page draws them: atoms of one cell with its faces closed, bonds, edges; the page turns and projects them."""

from collections.abc import Sequence
from itertools import product

import numpy as np

_ON_FACE = 0.5  # Å: rattled atoms count too; all of them are drawn on the opposite face as well
_SAME = 0.1  # Å
_BOND = 1.2  # of the sum of two covalent radii
_RADIUS = (0.22, 0.22)  # Å, and of a covalent radius: bonds stay visible between the balls
_NON_METALS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 32, 33, 34, 35, 51, 52, 53)
_CORNERS = np.array(list(product((0, 1), repeat=3)), dtype=float)  # [8, 3]
_EDGES = [(a, b) for a in range(8) for b in range(a) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


def scenes(structures: Sequence[dict]) -> list[list[dict]]:
    """Scenes of each structure of a shift report, largest residual first: one, or two if low and high differ."""
    return [[scene(side) for side in (one["low"], one["high"]) if side] for one in structures]


def scene(side: dict) -> dict:
    """One structure to draw.

    Args:
        side: ``numbers``, ``positions``, ``cell``, ``pbc`` (:func:`xclimb.comparison.outliers.outlier_structures`).

    Returns:
        ``elements``: ``[symbol, colour, radius in Å]`` each; ``atoms``: flat ``element, x, y, z`` (Å, the middle of the cell at
        the origin); ``bonds``: flat pairs of atoms; ``edges``: flat ``x, y, z`` of the two ends of each edge of the cell.
    """
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    numbers = np.asarray(side["numbers"], dtype=int)
    cell, pbc = np.reshape(side["cell"], (3, 3)), np.asarray(side["pbc"], dtype=bool)
    numbers, positions, on_face = _closed(numbers, np.reshape(side["positions"], (-1, 3)), cell, pbc)
    numbers, positions = _completed(numbers, positions, on_face, cell[pbc], covalent_radii)
    bonds = _bonds(numbers, positions, covalent_radii)
    periodic = bool(pbc.all())
    middle = 0.5 * cell.sum(0) if periodic else 0.5 * (positions.min(0) + positions.max(0))
    corners = _CORNERS @ cell - middle
    edges = [corners[[a, b]] for a, b in _EDGES] if periodic else []
    kinds, kind = np.unique(numbers, return_inverse=True)
    colours = (255 * jmol_colors[kinds]).astype(int)
    return {
        "elements": [
            [
                chemical_symbols[z],
                "#{:02x}{:02x}{:02x}".format(*colour),
                round(_RADIUS[0] + _RADIUS[1] * float(covalent_radii[z]), 2),
            ]
            for z, colour in zip(kinds.tolist(), colours.tolist(), strict=True)
        ],
        "atoms": [one for k, place in zip(kind.tolist(), positions - middle, strict=True) for one in (k, *_short(place))],
        "bonds": bonds.ravel().tolist(),
        "edges": _short(np.ravel(edges)),
    }


def _short(values: np.ndarray) -> list[float]:
    return np.round(values, 2).tolist()


def _closed(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atoms of the cell, then those on its faces, edges and corners on the opposite ones too; which of the first are such."""
    if not pbc.any():
        return numbers, positions, np.zeros(len(numbers), dtype=bool)
    inverse = np.linalg.pinv(cell)
    fractions = positions @ inverse
    near = np.minimum(_ON_FACE * np.linalg.norm(inverse, axis=0), 0.3)  # [3]: shares of the distances between faces
    wrapped = np.where(pbc, fractions - np.floor(fractions + near), fractions)  # [A, 3]
    on_face = (wrapped < near) & pbc
    drawn = [(on_face | (corner == 0)).all(1) for corner in _CORNERS]
    moved = [(wrapped - fractions + corner)[chosen] @ cell for corner, chosen in zip(_CORNERS, drawn, strict=True)]
    at = np.concatenate([np.flatnonzero(chosen) for chosen in drawn])
    return numbers[at], positions[at] + np.concatenate(moved), on_face.any(1)


def _completed(
    numbers: np.ndarray, positions: np.ndarray, on_face: np.ndarray, vectors: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Also the neighbours outside of non-metals inside, so that no molecule is cut and anions are surrounded.

    What is on a face has its other half at the opposite one, and is completed by non-metals only.

    Args:
        numbers: of the atoms drawn ``[D]``; those of the cell come first.
        positions: Å ``[D, 3]``.
        on_face: of the atoms of the cell ``[A]``.
        vectors: lattice vectors of the periodic directions, Å ``[0 to 3, 3]``.
        radii: covalent radii by atomic number, Å.
    """
    count = len(on_face)
    linked = np.flatnonzero(np.isin(numbers[:count], _NON_METALS))
    places = positions[linked]
    if not len(linked) or not len(vectors):
        return numbers, positions
    steps = np.array([step for step in product((-1, 0, 1), repeat=len(vectors)) if any(step)]) @ vectors
    images, kinds = (positions[:count] + steps[:, None]).reshape(-1, 3), np.tile(numbers[:count], len(steps))
    reach = 2 * _BOND * radii[numbers].max()
    close = ((images > places.min(0) - reach) & (images < places.max(0) + reach)).all(1)
    images, kinds = images[close], kinds[close]
    bonded = _apart(images, places) < _BOND * (radii[kinds][:, None] + radii[numbers[linked]][None])
    wanted = (bonded & (np.isin(kinds, _NON_METALS)[:, None] | ~on_face[linked][None])).any(1)
    new = wanted & (_apart(images, positions) > _SAME).all(1)
    return np.concatenate([numbers, kinds[new]]), np.concatenate([positions, images[new]])


def _apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(some[:, None] - others[None], axis=-1)


def _bonds(numbers: np.ndarray, positions: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Pairs of drawn atoms closer than 1.2 covalent radii ``[B, 2]``; no metal with a metal beside non-metals."""
    near = _apart(positions, positions) < _BOND * (radii[numbers][:, None] + radii[numbers][None])
    metal = ~np.isin(numbers, _NON_METALS)
    if not metal.all():
        near &= ~(metal[:, None] & metal[None])
    return np.argwhere(np.triu(near, 1))
