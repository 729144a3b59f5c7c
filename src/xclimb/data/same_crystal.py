"""The same crystal under several material ids: copies, supercells, scaled and rattled copies, bounded in cost.

Only structures of one reduced formula are compared. A fingerprint (partial pair distribution functions of distances in units
of the mean atomic spacing, smeared) does not depend on the choice of cell or on the volume; where two of them are close,
pymatgen's StructureMatcher decides. The cost is bounded by counts, not by seconds: the answer is the same on every machine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.data.frames import Frames

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

STRUCTURES = 20_000  # fingerprints, of a millisecond each for ten atoms
SITES = 1_000  # of structures that StructureMatcher compares, of 10 to 40 ms each
_EQUAL, _CLOSE = 1e-6, 0.04  # cosine distance: of the same crystal to the last digits; beyond which none is the same
_CANDIDATES = 32  # of one structure
_REACH, _BINS, _SMEARING = 2.6, 52, 2.0  # mean atomic spacings; bins up to there; standard deviation in bins
_MOST_ATOMS = 400
_SUPERCELL = 0.15  # root mean square displacement of a supercell, mean atomic spacings
_STRAIN, _DISPLACEMENT = 0.1, 0.3  # of cell vectors, relative; largest of an atom, mean atomic spacings


@dataclass(frozen=True, eq=False)
class SameCrystals:
    """Material ids by crystal.

    Args:
        ids: the material ids, sorted ``[M]``.
        crystal: number of the crystal of each id; equal for ids of the same crystal ``[M]``.
        pairs: pairs of ids that were joined, in the order of their discovery.
        skipped: formulas whose ids were not all compared, as the bounds were reached.
    """

    ids: np.ndarray
    crystal: np.ndarray
    pairs: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()


def same_crystals(frames: Frames, structures: int = STRUCTURES, sites: int = SITES, progress: bool = False) -> SameCrystals:
    """Join material ids of the same crystal; of each id the frame of lowest energy per atom is compared.

    Formulas with few ids go first. Frames that are not periodic in all directions, or have more than 400 atoms, are compared
    with none.

    Args:
        frames: the structures.
        structures: fingerprints at most.
        sites: sites of all structures together that StructureMatcher compares at most.
        progress: show a bar on the terminal.
    """
    from scipy.cluster.hierarchy import DisjointSet

    ids = np.unique(frames.material_id)
    several = _by_formula(frames, _representatives(frames))
    search = _Search(frames, DisjointSet(ids.tolist()), structures, sites)
    for name, those in tracked(several, "looking for the same crystal under several ids", progress):
        search.formula(name, those)
    roots = {name: search.joined[name] for name in ids.tolist()}
    _, crystal = np.unique(np.array([roots[name] for name in ids.tolist()], dtype=np.str_), return_inverse=True)
    return SameCrystals(ids, crystal.reshape(len(ids)), tuple(search.pairs), tuple(search.skipped))


def tracked(items: list, title: str, progress: bool) -> Iterator | Iterable:
    """The items, with a bar on the terminal if wanted."""
    if not progress or not items:
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, title, console=Console(stderr=True), transient=True)


def primitive_cells(frames: Frames, rows: np.ndarray) -> "list[Structure]":
    """Primitive cells of some frames."""
    return [structure.get_primitive_structure() for structure in frames[rows].to_pymatgen()]


def matcher(**options: Any) -> "StructureMatcher":
    """pymatgen's StructureMatcher with volumes scaled to each other, for cells that are primitive already."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(primitive_cell=False, scale=True, **options)


def _by_formula(frames: Frames, rows: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Rows of each reduced formula that several of them have, few rows first."""
    names, formula, sizes = np.unique(frames[rows].formulas(), return_inverse=True, return_counts=True)
    ordered, ends = rows[np.argsort(formula, kind="stable")], np.cumsum(sizes)
    several = np.flatnonzero(sizes > 1)
    several = several[np.argsort(sizes[several], kind="stable")]
    return [(str(names[k]), ordered[ends[k] - sizes[k] : ends[k]]) for k in several]


def _representatives(frames: Frames) -> np.ndarray:
    """Of each material id the comparable frame of lowest energy per atom, by id; only ids, energies and cells are read."""
    usable = np.asarray(frames.pbc).all(axis=1) & (frames.n_atoms > 0) & (frames.n_atoms <= _MOST_ATOMS) & (frames.volumes > 0)
    rows = np.flatnonzero(usable)
    order = rows[np.lexsort((frames.frame_id[rows], frames.energy_per_atom[rows], frames.material_id[rows]))]
    _, first = np.unique(frames.material_id[order], return_index=True)
    return order[first]


@dataclass
class _Search:
    """Joins ids, formula by formula, until the bounds are reached."""

    frames: Frames
    joined: Any  # DisjointSet of ids
    structures_left: int
    sites_left: int
    pairs: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def formula(self, name: str, rows: np.ndarray) -> None:
        """Compare each structure of one formula with the nearest before it, one of each crystal."""
        if len(rows) > self.structures_left:
            self.skipped.append(name)
            return
        self.structures_left -= len(rows)
        structures = self.frames[rows].to_pymatgen()
        prints = np.stack([fingerprint(structure) for structure in structures])
        ids = self.frames.material_id[rows].tolist()
        cells: dict[int, Structure] = {}
        for i in range(1, len(rows)):
            other = set()  # crystals that this structure is not
            for distance, j in _nearest(prints, i):
                if self.joined.connected(ids[i], ids[j]) or self.joined[ids[j]] in other:
                    continue
                same = distance < _EQUAL or _same_cell(self.frames, int(rows[i]), int(rows[j]))
                if not same:
                    sites = max(len(structures[i]), len(structures[j]))
                    if sites > self.sites_left:
                        self.skipped.append(name)
                        return
                    self.sites_left -= sites
                    for k in {i, j} - cells.keys():
                        cells[k] = structures[k].get_primitive_structure()
                    same = _match(cells[i], cells[j])
                if same:
                    self.joined.merge(ids[i], ids[j])
                    self.pairs.append((ids[j], ids[i]))
                else:
                    other.add(self.joined[ids[j]])


def fingerprint(structure: "Structure") -> np.ndarray:
    """Partial pair distribution functions of a crystal as one vector of length 1, the same for every cell and volume.

    Elements are numbered by atomic number: vectors can be compared within one reduced formula.
    """
    numbers = np.array([site.specie.Z for site in structure])
    spacing = (structure.volume / len(structure)) ** (1 / 3)
    centre, neighbour, _, distance = structure.get_neighbor_list(_REACH * spacing)
    distance = distance / spacing
    elements, element = np.unique(numbers, return_inverse=True)
    pair = np.minimum(element[centre], element[neighbour]) * len(elements) + np.maximum(element[centre], element[neighbour])
    weight = 0.5 * (1 + np.cos(np.pi * distance / _REACH)) / np.maximum(distance, 0.1) ** 2
    place = (distance / _REACH * _BINS)[:, None]
    at = np.floor(place).astype(np.int64) + np.arange(-6, 7)  # the bins that a Gaussian reaches
    smeared = weight[:, None] * np.exp(-0.5 * ((at - place) / _SMEARING) ** 2)
    inside = (at >= 0) & (at < _BINS)
    flat = np.bincount((pair[:, None] * _BINS + at)[inside], smeared[inside], minlength=len(elements) ** 2 * _BINS)
    return flat / max(float(np.linalg.norm(flat)), 1e-12)


def _nearest(prints: np.ndarray, i: int) -> list[tuple[float, int]]:
    """The nearest of the fingerprints before the i-th that are close to it, nearest first: (cosine distance, number)."""
    distance = 1 - prints[:i] @ prints[i]
    distance[distance < _EQUAL] = 0.0  # equal but for rounding: then the first of them
    close = np.flatnonzero(distance < _CLOSE)
    close = close[np.argsort(distance[close], kind="stable")[:_CANDIDATES]]
    return [(float(distance[j]), int(j)) for j in close]


def _same_cell(frames: Frames, one: int, other: int) -> bool:
    """Whether two frames are one cell with atoms moved a little, such as two moments of a trajectory."""
    a, b = (slice(frames.offsets[row], frames.offsets[row + 1]) for row in (one, other))
    if frames.n_atoms[one] != frames.n_atoms[other] or not np.array_equal(frames.numbers[a], frames.numbers[b]):
        return False
    cells = np.stack([frames.cells[one], frames.cells[other]])
    cells /= np.abs(np.linalg.det(cells))[:, None, None] ** (1 / 3)
    if np.abs(cells[0] - cells[1]).max() > _STRAIN * np.abs(cells[0]).max():
        return False
    shift = frames.positions[a] @ np.linalg.inv(frames.cells[one]) - frames.positions[b] @ np.linalg.inv(frames.cells[other])
    shift -= shift[0]
    shift -= np.round(shift)
    shift -= shift.mean(axis=0)
    spacing = frames.n_atoms[one] ** (-1 / 3)  # of a cell of volume 1
    return bool(np.linalg.norm(shift @ cells[0], axis=1).max() < _DISPLACEMENT * spacing)


def _match(one: "Structure", other: "Structure") -> bool:
    """StructureMatcher on primitive cells; where they differ in size, supercells of the smaller one."""
    small, large = sorted((one, other), key=len)
    if len(small) == len(large):
        return bool(matcher().fit(small, large))
    # a supercell with displacements is not reduced; with the usual tolerance of 0.3, fcc would match supercells of hcp
    return bool(matcher(attempt_supercell=True, stol=_SUPERCELL).fit(small, large))
