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
from ase.data import chemical_symbols, covalent_radii
from jaxtyping import Float, Int
from torch import Tensor

from xclimb.data.frames import MIN_VOLUME, Frames
from xclimb.errors import DataError
from xclimb.graph.neighbours import Bonds, Search, find_angles, find_bonds

CLOSEST = 0.1  # Å; atoms nearer than this are overlapping, not bonded
OVERLAPPING, CLOSE = 0.2, 0.5  # distance over the sum of covalent radii: below, no structure; below, one to doubt
FEW = 64  # atoms of a cluster that may all be neighbours
FLAT = 1e-6  # a cell with less of the volume of a right-angled one has none


@dataclass(frozen=True)
class GraphSpec:
    """Graph that a network needs.

    Args:
        cutoff: radius of the atom graph, Å.
        bond_cutoff: radius of the bonds that form angles, Å; None for a graph without angles.
    """

    cutoff: float
    bond_cutoff: float | None = None


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
    level: int = 0  # functional of all crystals, of a network that has weights for several
    close: str = ""  # a sentence about atoms closer than half the sum of their covalent radii, if there are any

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
    spec: GraphSpec,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    search: Search = find_bonds,
) -> Batch:
    """Build the graph of all frames.

    Args:
        frames: any number of structures; any periodicity, handedness of the cell, wrapped or not.
        spec: cutoffs; without a bond cutoff no bond is short, and there are no angles.
        dtype: of vectors and volumes on Apple's GPUs, which have no float64; elsewhere the geometry stays in float64, since
            vectors rounded to float32 cost forces and stress a digit.
        device: of the tensors.
        search: search for bonds; a :class:`xclimb.graph.neighbours.VerletList` for one crystal that moves.

    Raises:
        DataError: on positions that are not finite, a periodic cell without volume, less than :data:`MIN_VOLUME` an atom, or
            atoms closer than a fifth of the sum of their covalent radii, naming the frame.
    """
    cells, volumes = _complete_cells(frames)  # [S, 3, 3], [S]
    system = frames.system  # [A]
    _check_crowded(frames, cells)
    bond_cutoff = spec.bond_cutoff or 0.0
    bonds = search(frames.positions, cells, frames.pbc, frames.offsets, spec.cutoff, bond_cutoff)
    close = _check_distances(frames, bonds, bond_cutoff)
    first = second = np.zeros(0, dtype=np.int64)
    if spec.bond_cutoff is not None:
        short = slice(bonds.n_short)
        first, second = find_angles(bonds.centres[short], bonds.neighbours[short], len(system))
    columns = {
        "numbers": frames.numbers.astype(np.int64),
        "system": system,
        "n_atoms": frames.n_atoms,
        "volumes": volumes,
        "vectors": bonds.vectors,
        "centres": bonds.centres,
        "neighbours": bonds.neighbours,
        "bond_system": system[bonds.centres],
        "first": first,
        "second": second,
    }
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    if torch.device(device).type == "mps":
        tensors |= {name: tensors[name].to(dtype) for name in ("volumes", "vectors")}
    batch = Batch(**tensors, n_short=bonds.n_short, close=close)
    return batch if torch.device(device).type == "cpu" else batch.to(device)


def _check_crowded(frames: Frames, cells: np.ndarray) -> None:
    """Refuse a structure with so little room for its atoms that their neighbours could fill the memory.

    The room of a direction that is not periodic is the extent of the atoms along it and 1 Å.
    """
    sizes, periodic = frames.n_atoms, frames.pbc.all(axis=1)
    room = np.abs(np.linalg.det(cells))  # Å^3
    room[~periodic & ~frames.pbc.any(axis=1) & (sizes <= FEW)] = np.inf
    for s in np.flatnonzero(~periodic & (sizes > 0) & np.isfinite(room)):
        inverse, rows = np.linalg.inv(cells[s]), slice(frames.offsets[s], frames.offsets[s + 1])
        extent = np.ptp(frames.positions[rows] @ inverse, axis=0) + np.linalg.norm(inverse, axis=0)
        room[s] *= np.where(frames.pbc[s], 1.0, extent).prod()
    crowded = np.flatnonzero(room < MIN_VOLUME * sizes)
    if len(crowded):
        s = crowded[0]
        raise DataError(
            f"frame {frames.frame_id[s]}: {room[s] / sizes[s]:.3g} Å^3 an atom, at least {MIN_VOLUME:g} expected"
            "; check positions, cell and their units (Å)"
        )


def _check_distances(frames: Frames, bonds: Bonds, bond_cutoff: float) -> str:
    """Refuse atoms on top of each other; a sentence about atoms that are closer than any bond, empty without such."""
    radii = covalent_radii[frames.numbers]  # [A]
    widest = 2 * CLOSE * radii.max(initial=0.0)
    if bonds.closest >= max(widest, CLOSEST):
        return ""
    rows = slice(bonds.n_short if widest <= bond_cutoff else None)
    i, j, vectors = bonds.centres[rows], bonds.neighbours[rows], bonds.vectors[rows]
    lengths, sums = np.sqrt(np.einsum("bi,bi->b", vectors, vectors)), radii[i] + radii[j]
    ratio = np.where(lengths < CLOSEST, 0.0, lengths / sums)
    b = int(ratio.argmin())
    if ratio[b] >= CLOSE:
        return ""
    name, pair = (
        frames.frame_id[frames.system[i[b]]],
        "-".join(sorted(chemical_symbols[frames.numbers[k]] for k in (i[b], j[b]))),
    )
    if ratio[b] < OVERLAPPING:
        raise DataError(
            f"frame {name}: two atoms ({pair}) are {lengths[b]:.3f} Å apart, their covalent radii add up to {sums[b]:.2f} Å"
            "; check positions, cell and their units (Å)"
        )
    return (
        f"frame {name}: {pair} atoms are closer than half the sum of their covalent radii ({CLOSE * sums[b]:.2f} Å), "
        "where predictions mean little; check positions, cell and their units (Å)"
    )


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
