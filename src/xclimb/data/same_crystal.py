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
SITES = 2_000  # of structures that StructureMatcher compares, of 10 to 40 ms each
_EQUAL, _CLOSE = 1e-6, 0.08  # cosine distance: of the same crystal to the last digits; beyond which none is the same
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
        """Compare the structures of one formula, the closest pairs first, and no two that are joined already."""
        if len(rows) > self.structures_left:
            self.skipped.append(name)
            return
        self.structures_left -= len(rows)
        structures = self.frames[rows].to_pymatgen()
        prints = np.stack([fingerprint(structure) for structure in structures])
        for distance, i, j in _close_pairs(prints):
            one, other = (str(self.frames.material_id[rows[k]]) for k in (i, j))
            if self.joined.connected(one, other):
                continue
            same = distance < _EQUAL or _same_cell(self.frames, int(rows[i]), int(rows[j]))
            if not same:
                sites = max(len(structures[i]), len(structures[j]))
                if sites > self.sites_left:
                    self.skipped.append(name)
                    return
                self.sites_left -= sites
                same = _match(structures[i], structures[j])
            if same:
                self.joined.merge(one, other)
                self.pairs.append((one, other))


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
    place = distance / _REACH * _BINS
    bins = np.arange(_BINS)
    histogram = np.zeros((len(elements) ** 2, _BINS))
    for offset in range(-6, 7):  # the Gaussian is evaluated at each distance, not at the middle of its bin
        at = np.floor(place).astype(np.int64) + offset
        inside = (at >= 0) & (at < _BINS)
        smeared = weight * np.exp(-0.5 * ((bins[np.clip(at, 0, _BINS - 1)] - place) / _SMEARING) ** 2)
        np.add.at(histogram, (pair[inside], at[inside]), smeared[inside])
    flat = histogram.ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-12)


def _close_pairs(prints: np.ndarray) -> list[tuple[float, int, int]]:
    """Pairs of fingerprints that are close, the closest first: (cosine distance, one, other)."""
    found: list[tuple[float, int, int]] = []
    for i in range(len(prints) - 1):
        distance = 1 - prints[i + 1 :] @ prints[i]
        found += [(float(distance[k]), i, i + 1 + int(k)) for k in np.flatnonzero(distance < _CLOSE)]
    return sorted((0.0 if distance < _EQUAL else distance, i, j) for distance, i, j in found)


def _same_cell(frames: Frames, one: int, other: int) -> bool:
    """Whether two frames are one cell with atoms moved a little, such as two moments of a trajectory."""
    a, b = (slice(frames.offsets[row], frames.offsets[row + 1]) for row in (one, other))
    if frames.n_atoms[one] != frames.n_atoms[other] or not np.array_equal(frames.numbers[a], frames.numbers[b]):
        return False
    cells = [np.asarray(frames.cells[row]) / frames.volumes[row] ** (1 / 3) for row in (one, other)]
    if np.abs(cells[0] - cells[1]).max() > _STRAIN * np.abs(cells[0]).max():
        return False
    shift = frames.positions[a] @ np.linalg.inv(frames.cells[one]) - frames.positions[b] @ np.linalg.inv(frames.cells[other])
    shift -= shift[0]
    shift -= np.round(shift)
    shift -= shift.mean(axis=0)
    spacing = frames.n_atoms[one] ** (-1 / 3)  # of a cell of volume 1
    return bool(np.linalg.norm(shift @ cells[0], axis=1).max() < _DISPLACEMENT * spacing)


def _match(one: "Structure", other: "Structure") -> bool:
    """StructureMatcher on primitive cells; where they differ in size, the small one against supercells of its own."""
    small, large = sorted((structure.get_primitive_structure() for structure in (one, other)), key=len)
    if len(small) == len(large):
        return bool(matcher().fit(small, large))
    # a supercell with displacements is not reduced; with the usual tolerance of 0.3, fcc would match supercells of hcp
    return bool(matcher(attempt_supercell=True, stol=_SUPERCELL).fit(small, large))
