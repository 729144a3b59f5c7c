"""Atoms on top of each other, and atoms with nothing around them: checks that need distances."""

import numpy as np

from xclimb.data.frames import Frames
from xclimb.ingest.audit import Faults, Limits, completed

_ALL_PAIRS = 256  # atoms up to which comparing all pairs is quicker than a neighbour search
_PAIRS = 1_000_000  # pairs compared in one go: some 100 MB


def overlaps(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Frames with two atoms nearer than ``limits.distance``, periodic images included."""
    shortest = np.full(len(frames), np.inf)
    full = completed(frames.cells, frames.pbc)
    # an image closer than half of every height of the cell is the one that rounding fractional differences finds
    inverse = np.linalg.inv(np.where(sound[:, None, None], full, np.eye(3)))
    heights = 1.0 / np.linalg.norm(inverse, axis=1)
    wide = sound & ((heights >= 2.0 * limits.distance) | ~frames.pbc).all(axis=1)
    periodic = wide & frames.pbc.all(axis=1)
    _sweep(frames, np.flatnonzero(periodic), inverse, limits.distance, shortest)
    simple = wide & ~periodic & (frames.n_atoms <= _ALL_PAIRS)
    for n in np.unique(frames.n_atoms[simple]):
        if n > 1:
            chosen = np.flatnonzero(simple & (frames.n_atoms == n))
            rows = max(1, int(_PAIRS // (n * (n - 1) // 2)))
            for start in range(0, len(chosen), rows):
                some = chosen[start : start + rows]
                shortest[some] = _shortest(frames, some, int(n), full[some], inverse[some])
    for s in np.flatnonzero(sound & ~simple & ~periodic):
        shortest[s] = _shortest_by_search(frames, int(s), limits.distance)

    def detail(s: int) -> str:
        return f"two atoms {shortest[s]:.3f} Å apart, at least {limits.distance:g} Å expected"

    return [(shortest < limits.distance, "overlapping atoms", detail)]


def isolated(frames: Frames, limits: Limits, sound: np.ndarray) -> list[Faults]:
    """Frames with an atom that has no other within ``limits.isolation``, periodic images included."""
    alone = np.zeros(len(frames), dtype=bool)
    for s in np.flatnonzero(sound):
        if frames.pbc[s].all() and frames.volumes[s] < limits.isolation**3 * frames.n_atoms[s] / 8:
            shortest_vector = np.linalg.norm(frames.cells[s], axis=1).min()
            if shortest_vector < limits.isolation:
                continue  # every atom sees its own image
        alone[s] = _neighbours(frames, int(s), limits.isolation).min(initial=0) == 0
    return [(alone, "isolated atom", lambda s: f"an atom has no other within {limits.isolation:g} Å")]


def _neighbours(frames: Frames, s: int, cutoff: float) -> np.ndarray:
    """Neighbours of each atom of a frame within a distance."""
    from ase.neighborlist import primitive_neighbor_list

    rows, pbc = slice(frames.offsets[s], frames.offsets[s + 1]), frames.pbc[s]
    cell = completed(frames.cells[s : s + 1], frames.pbc[s : s + 1])[0]
    first = primitive_neighbor_list("i", pbc, cell, frames.positions[rows], cutoff)
    return np.bincount(first, minlength=int(frames.n_atoms[s]))


def _sweep(frames: Frames, some: np.ndarray, inverse: np.ndarray, limit: float, shortest: np.ndarray) -> None:
    """Pairs nearer than a limit in periodic frames, all frames at once: sorted along a lattice direction, then compared.

    Two atoms that near are also near in the phase of any lattice plane, here (1 1 1); what remains is compared in space.
    """
    counts = frames.n_atoms[some]
    system = np.repeat(some, counts)
    atoms = np.repeat(frames.offsets[some] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(len(system))
    fractional = np.einsum("ai,aij->aj", frames.positions[atoms], inverse[system])
    fractional -= np.floor(fractional)
    phase = np.mod(fractional.sum(axis=1), 1.0)
    window = (limit * np.linalg.norm(inverse.sum(axis=2), axis=1))[system]
    again = np.flatnonzero(phase < window)  # beyond the far boundary once more
    rows = np.concatenate([np.arange(len(system)), again])
    key = np.concatenate([2.0 * system + phase, 2.0 * system[again] + phase[again] + 1.0])
    order = np.argsort(key)
    rows, key = rows[order], key[order]
    reach, along = window[rows], fractional[rows, 0]
    width = (limit * np.linalg.norm(inverse[:, :, 0], axis=1))[system[rows]]
    active, step = np.arange(len(rows)), 1
    while len(active := active[active + step < len(rows)]):
        active = active[key[active + step] - key[active] < reach[active]]
        apart = along[active + step] - along[active]  # most pairs that are near in phase are not along the first vector
        near = active[np.abs(apart - np.round(apart)) < width[active]]
        one, other = rows[near], rows[near + step]
        difference = fractional[other] - fractional[one]
        difference -= np.round(difference)
        distance = np.linalg.norm(np.einsum("pi,pij->pj", difference, frames.cells[system[one]]), axis=1)
        close = (distance < limit) & (one != other) & (system[one] == system[other])
        np.minimum.at(shortest, system[one[close]], distance[close])
        step += 1


def _shortest(frames: Frames, some: np.ndarray, n: int, cells: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Shortest distance in each of some frames of n atoms, from all pairs."""
    positions = frames.positions[frames.offsets[some][:, None] + np.arange(n)]  # [k, n, 3]
    first, second = np.triu_indices(n, 1)
    difference = (positions[:, second] - positions[:, first]) @ inverse  # [k, pairs, 3]
    difference -= np.where(frames.pbc[some][:, None], np.round(difference), 0.0)
    return np.sqrt(((difference @ cells) ** 2).sum(axis=-1).min(axis=1))


def _shortest_by_search(frames: Frames, s: int, cutoff: float) -> float:
    """The same for one frame that is large, or whose cell is thin and slanted, by a neighbour search.

    In the reduced cell, else a search through a thin one would go through very many images.
    """
    from ase.geometry import minkowski_reduce
    from ase.neighborlist import primitive_neighbor_list

    pbc, rows = frames.pbc[s], slice(frames.offsets[s], frames.offsets[s + 1])
    cell = completed(frames.cells[s : s + 1], frames.pbc[s : s + 1])[0]
    if pbc.any():
        cell = minkowski_reduce(cell, pbc)[0]
    itself = np.linalg.norm(cell[pbc], axis=1).min(initial=np.inf)
    if itself < cutoff:
        return float(itself)
    return float(primitive_neighbor_list("d", pbc, cell, frames.positions[rows], cutoff).min(initial=np.inf))
