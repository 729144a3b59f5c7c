"""Bonds and angles of many crystals: arrays in, arrays out.

Two searches find the same bonds. With numba (``pip install 'xclimb[fast]'``) one compiled call takes all crystals; its time
grows with the square of the atoms of a crystal, which is the faster way up to about a thousand. Larger crystals, and all of
them without numba, go to vesin one by one; its cell lists take a time in proportion to the atoms.
"""

import threading
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import vesin
from jaxtyping import Bool, Float, Int

LARGE = 1000  # atoms of one crystal; beyond, vesin is faster than the compiled search


class Bonds(NamedTuple):
    """Bonds of all crystals, each once, those shorter than the bond cutoff first."""

    centres: Int[np.ndarray, "bonds"]
    neighbours: Int[np.ndarray, "bonds"]
    vectors: Float[np.ndarray, "bonds 3"]  # Å, from centre to neighbour
    n_short: int
    closest: float  # Å, length of the shortest bond; inf without bonds


Search = Callable[..., Bonds]  # find_bonds, or a VerletList: the same arguments, the same bonds


def find_bonds(
    positions: Float[np.ndarray, "atoms 3"],
    cells: Float[np.ndarray, "systems 3 3"],
    pbc: Bool[np.ndarray, "systems 3"],
    offsets: Int[np.ndarray, "ends"],
    cutoff: float,
    bond_cutoff: float,
) -> Bonds:
    """Bonds of all crystals.

    Args:
        positions: Å ``[A, 3]``, finite; atoms may lie outside of their cells.
        cells: lattice vectors as rows, Å ``[S, 3, 3]``, linearly independent, also where a direction is not periodic.
        pbc: periodic directions ``[S, 3]``.
        offsets: the atoms of crystal s are rows ``offsets[s]:offsets[s + 1]``.
        cutoff: bonds are shorter, Å.
        bond_cutoff: those shorter than this come first, Å.
    """
    compiled = _compiled()
    if compiled is None or np.diff(offsets).max(initial=0) > LARGE:
        return _by_vesin(positions, cells, pbc, offsets, cutoff, bond_cutoff)
    # a row-major copy where it is not, or may not be written to: numba would compile once more for these
    crystals = [np.require(column, requirements=("C", "W")) for column in (positions, cells, pbc, offsets)]
    ends, vectors = _memory(32 * len(positions))
    n = compiled.list_bonds(*crystals, cutoff, ends, vectors)
    if n > len(ends):
        ends, vectors = _memory(n)
        compiled.list_bonds(*crystals, cutoff, ends, vectors)
    return Bonds(*compiled.short_first(ends, vectors, n, bond_cutoff))


class VerletList:
    """:func:`find_bonds` for one crystal that moves, by a list of pairs that lasts for several steps (Verlet 1967).

    The list holds the pairs within the cutoff and a skin. While no atom has moved by more than half the skin since it was
    made, no pair outside of it can have come within the cutoff: bonds and their vectors, taken anew from the list at each
    call, are those of a fresh search. Any change of the cell, or of what is periodic, makes a new list.

    Args:
        skin: Å.
    """

    def __init__(self, skin: float = 0.5):
        self.skin = skin
        self.n_searches = 0
        self._made_for: tuple = ()  # positions; then all other arguments of the call

    def __call__(self, positions, cells, pbc, offsets, cutoff: float, bond_cutoff: float) -> Bonds:
        """As :func:`find_bonds`."""
        if not self._holds(positions, cells, pbc, offsets, cutoff):
            bonds = find_bonds(positions, cells, pbc, offsets, cutoff + self.skin, 0.0)
            self._i, self._j = bonds.centres, bonds.neighbours
            self._images = bonds.vectors - (positions[self._j] - positions[self._i])  # [P, 3], the same until the cell changes
            self._made_for = tuple(np.copy(column) for column in (positions, cells, pbc, offsets, cutoff))
            self.n_searches += 1
        compiled = _compiled()
        if compiled is None:
            vectors = positions[self._j] - positions[self._i] + self._images
            return _short_first(self._i, self._j, vectors, cutoff, bond_cutoff)
        memory = _memory(len(self._i))
        positions = np.require(positions, requirements=("C", "W"))
        n = compiled.list_again(positions, self._i, self._j, self._images, cutoff, *memory)
        return Bonds(*compiled.short_first(*memory, n, bond_cutoff))

    def _holds(self, positions, *others) -> bool:
        if not self._made_for or not all(map(np.array_equal, others, self._made_for[1:])):
            return False
        moved = positions - self._made_for[0]
        return float(np.einsum("ai,ai->a", moved, moved).max(initial=0.0)) <= (self.skin / 2) ** 2


def find_angles(
    centres: Int[np.ndarray, "short"], neighbours: Int[np.ndarray, "short"], n_atoms: int
) -> tuple[Int[np.ndarray, "angles"], Int[np.ndarray, "angles"]]:
    """Pairs of different short directed edges with one centre, each pair once, ordered by centre.

    Args:
        centres: of the short bonds; directed edge b runs from here, edge ``n_short + b`` from the neighbour.
        neighbours: the other ends.
        n_atoms: of all crystals together.
    """
    compiled = _compiled()
    if compiled is not None:
        return compiled.find_angles(centres, neighbours, n_atoms)
    at = np.concatenate([centres, neighbours])  # [2 n_short], centre of each short directed edge
    edges = np.argsort(at, kind="stable")  # edges grouped by centre
    at = at[edges]
    # within its group, the edge at place p pairs with those at the places after it
    last = np.searchsorted(at, at, side="right")
    places = np.arange(len(at))
    partners = last - places - 1
    starts = np.cumsum(partners) - partners
    lower = np.repeat(places, partners)
    upper = np.arange(partners.sum()) - np.repeat(starts, partners) + lower + 1
    return edges[lower], edges[upper]


@cache
def _compiled() -> ModuleType | None:
    """The compiled searches, where numba is there and has a folder to keep them in."""
    try:
        from xclimb.graph import compiled_neighbours
    except (ImportError, RuntimeError):
        return None
    return compiled_neighbours


_kept = threading.local()  # memory of each thread, kept from call to call: fresh pages would cost more than the search


def _memory(room: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends ``[room, 2]``, and vectors with their squared lengths ``[room, 4]``, of at least so many bonds."""
    if not hasattr(_kept, "ends") or len(_kept.ends) < room:
        _kept.ends, _kept.vectors = np.empty((room, 2), np.int64), np.empty((room, 4))
    return _kept.ends, _kept.vectors


def _by_vesin(positions, cells, pbc, offsets, cutoff: float, bond_cutoff: float) -> Bonds:
    """The other search of :func:`find_bonds`, crystal by crystal."""
    finder = vesin.NeighborList(cutoff=cutoff, full_list=False, n_threads=torch.get_num_threads())
    bonds = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3)))]
    for cell, periodic, start, stop in zip(cells, pbc, offsets[:-1], offsets[1:], strict=True):
        if stop > start:
            here = positions[start:stop]
            if not periodic.all():
                here, cell = _compact(here, cell, periodic)
            i, j, vectors = finder.compute(here, cell, periodic, "ijD", copy=False)  # views, until the next
            # ordered by centre, so that what a bond needs is near what the bond before it needed, in the cache
            order = np.argsort(i, kind="stable")
            bonds.append((i[order].astype(np.int64) + start, j[order].astype(np.int64) + start, vectors[order]))
    centres, neighbours, vectors = (np.concatenate(column) for column in zip(*bonds, strict=True))
    return _short_first(centres, neighbours, vectors, cutoff, bond_cutoff)


def _compact(positions, cell, periodic) -> tuple[np.ndarray, np.ndarray]:
    """The same crystal, atoms wrapped, open directions normal to the others: vesin lays its grid over all that lies between."""
    from ase.cell import Cell

    cell = Cell(cell * periodic[:, None]).complete().array
    return positions - np.floor(positions @ np.linalg.inv(cell)) * periodic @ cell, cell


def _short_first(centres, neighbours, vectors, cutoff: float, bond_cutoff: float) -> Bonds:
    """The bonds below the cutoff, those below the bond cutoff first, otherwise in the same order."""
    lengths = np.sqrt(np.einsum("bi,bi->b", vectors, vectors))  # [B]
    short = np.flatnonzero(lengths < bond_cutoff)
    order = np.concatenate([short, np.flatnonzero((lengths >= bond_cutoff) & (lengths < cutoff))])
    return Bonds(centres[order], neighbours[order], vectors[order], len(short), float(lengths.min(initial=np.inf)))
