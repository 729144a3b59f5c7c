"""Neighbours, bonds and angles of many crystals as one flat :class:`Batch`.

Conventions that make the network fast:

* A *bond* is undirected and kept once. Its two directions share length and features; directed edge ``b`` runs from
  ``centres[b]`` to ``neighbours[b]``, directed edge ``B + b`` is the same bond seen from the other end.
* Bonds shorter than ``bond_cutoff`` come first, so everything about angles is a slice, not a mask.
* An *angle* is a pair of different short directed edges with one centre, kept once as well: it is seen from either
  edge, and its opening is computed once.

All geometry is float64, up to and including the expansions in the network.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
import vesin
from jaxtyping import Float, Int
from torch import Tensor

from xclimb.data.frames import Frames
from xclimb.errors import DataError

CLOSEST = 0.1  # Å; atoms nearer than this are overlapping, not bonded
FLAT = 1e-6  # a cell with less of the volume of a right-angled one has none


@dataclass(frozen=True)
class Batch:
    """Flat graph of S crystals with A atoms, B bonds (the first ``n_short`` of them short) and G pairs of short edges."""

    numbers: Int[Tensor, "atoms"]  # atomic numbers
    system: Int[Tensor, "atoms"]  # crystal of each atom
    n_atoms: Int[Tensor, "systems"]
    volumes: Float[Tensor, "systems"]  # Å^3, infinite for a cell without volume
    vectors: Float[Tensor, "bonds 3"]  # Å, from centre to neighbour
    centres: Int[Tensor, "bonds"]
    neighbours: Int[Tensor, "bonds"]
    bond_system: Int[Tensor, "bonds"]
    n_short: int  # bonds [0, n_short) take part in angles
    first: Int[Tensor, "angles"]  # short directed edges (0 .. 2 n_short) that form each angle
    second: Int[Tensor, "angles"]

    @property
    def n_systems(self) -> int:
        """Number of crystals, S."""
        return self.n_atoms.shape[0]

    def to(self, device) -> "Batch":
        """The batch on another device."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: value.to(device, non_blocking=True) for name, value in columns.items() if torch.is_tensor(value)}
        return Batch(**(columns | moved))


def build_batch(
    frames: Frames,
    cutoff: float,
    bond_cutoff: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Batch:
    """The graph of all frames.

    Args:
        frames: any number of structures; any periodicity, handedness of the cell, wrapped or not.
        cutoff: radius of the atom graph, Å.
        bond_cutoff: radius of the bonds that form angles, Å.
        dtype: of vectors and volumes on Apple's GPUs, which have no float64; elsewhere the geometry stays in float64, since
            vectors rounded to float32 cost forces and stress a digit.
        device: where the tensors go.

    Raises:
        DataError: on positions that are not finite, a periodic cell without volume, or overlapping atoms, naming the frame.
    """
    cells, volumes = _complete_cells(frames)  # [S, 3, 3], [S]
    finder = vesin.NeighborList(cutoff=cutoff, full_list=False, n_threads=torch.get_num_threads())
    pairs = [_half_list(finder, frames, cells, s) for s in range(len(frames))]
    centres, neighbours, vectors = (np.concatenate(parts) for parts in zip(*pairs, strict=True)) if pairs else _no_pairs()
    lengths = np.sqrt(np.einsum("bi,bi->b", vectors, vectors))  # [B]
    system = frames.system  # [A]
    if lengths.size and lengths.min() < CLOSEST:
        bad = int(lengths.argmin())
        raise DataError(
            f"frame {frames.frame_id[system[centres[bad]]]}: two atoms are {lengths[bad]:.3f} Å apart, closer than {CLOSEST} Å"
            "; check positions, cell and their units (Å)"
        )
    is_short = lengths < bond_cutoff
    short = np.flatnonzero(is_short)
    order = np.concatenate([short, np.flatnonzero(~is_short)])
    centres, neighbours = centres[order], neighbours[order]
    first, second = _angles(centres[: len(short)], neighbours[: len(short)])

    real = {"volumes": volumes, "vectors": vectors[order]}
    whole = {
        "numbers": frames.numbers.astype(np.int64),
        "system": system,
        "n_atoms": frames.n_atoms,
        "centres": centres,
        "neighbours": neighbours,
        "bond_system": system[centres],
        "first": first,
        "second": second,
    }
    dtype = dtype if torch.device(device).type == "mps" else torch.float64
    tensors = {name: torch.from_numpy(value).to(device, dtype) for name, value in real.items()}
    tensors |= {name: torch.from_numpy(value).to(device) for name, value in whole.items()}
    return Batch(**tensors, n_short=len(short))


def _complete_cells(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """Cells, missing vectors of non-periodic directions filled in, ``[S, 3, 3]``; volumes, inf without a cell ``[S]``."""
    if not (np.isfinite(frames.positions).all() and np.isfinite(frames.cells).all()):
        finite = np.isfinite(frames.cells).all(axis=(1, 2))
        np.logical_and.at(finite, frames.system, np.isfinite(frames.positions).all(axis=1))
        raise DataError(f"frame {frames.frame_id[~finite][0]}: positions or cell are not finite")
    volumes = frames.volumes
    flat = volumes <= FLAT * np.linalg.norm(frames.cells, axis=2).prod(axis=1)  # also where a vector is zero
    if not flat.any():
        return frames.cells, volumes
    from ase.cell import Cell

    cells = frames.cells.copy()
    for s in np.flatnonzero(flat):
        periodic = frames.pbc[s]
        if np.linalg.matrix_rank(cells[s][periodic], tol=FLAT) < periodic.sum():
            name = frames.frame_id[s]
            raise DataError(f"frame {name}: the cell is periodic but has no volume; give its lattice vectors, or set pbc")
        cells[s] = Cell(cells[s] * periodic[:, None]).complete().array
    return cells, np.where(flat, np.inf, volumes)


def _half_list(
    finder: vesin.NeighborList, frames: Frames, cells: np.ndarray, s: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonds of frame s, each once: global centre and neighbour ``[B_s]``, vector from one to the other ``[B_s, 3]``."""
    start, stop = frames.offsets[s], frames.offsets[s + 1]
    if stop - start == 0:
        return _no_pairs()
    positions, periodic = frames.positions[start:stop], frames.pbc[s]
    i, j, vectors = finder.compute(positions, cells[s], periodic, "ijD", copy=False)  # views, until the next call
    return i.astype(np.int64) + start, j.astype(np.int64) + start, vectors.copy()


def _no_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 3))


def _angles(centres: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different short directed edges with one centre, each pair once, ``[G]`` and ``[G]``."""
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
