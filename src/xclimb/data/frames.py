"""Frames: many labelled structures as flat columns.

Every column declares its scope: one row a system (``[S, ...]``) or one row an atom (``[A, ...]``). Slicing, filtering,
concatenating and storing are index arithmetic over that table, never a loop over structures.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.data.chunks import Chunks
from xclimb.data.columns import COLUMNS, LABELS
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, counted

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure

    Values = np.ndarray
    LeftOut = np.ndarray
else:
    Values = np.ndarray | Chunks  # chunks in a store of several files
    LeftOut = Values | None  # None when given, filled in after that

MAX_Z = 118
MIN_VOLUME = 0.5  # Å^3 an atom: a denser crystal has too many neighbours to compute, and is none


# elements in the order of IUPAC's formulas (Red Book 2005, table VI): TiC, ZnO, NaCl, NH3, H2O; X is unknown
_IN_FORMULAS = """
    Og Rn Xe Kr Ar Ne He  Fr Cs Rb K Na Li  Ra Ba Sr Ca Mg Be  Lr No Md Fm Es Cf Bk Cm Am Pu Np U Pa Th Ac
    Lu Yb Tm Er Ho Dy Tb Gd Eu Sm Pm Nd Pr Ce La  Y Sc  Rf Hf Zr Ti  Db Ta Nb V  Sg W Mo Cr  Bh Re Tc Mn  Hs Os Ru Fe
    Mt Ir Rh Co  Ds Pt Pd Ni  Rg Au Ag Cu  Cn Hg Cd Zn  Nh Tl In Ga Al B  Fl Pb Sn Ge Si C  Mc Bi Sb As P N  H
    Lv Po Te Se S O  Ts At I Br Cl F  X
"""


@cache
def _order() -> tuple[list[str], np.ndarray]:
    """Symbols in the order of formulas, and the place of each atomic number in it ``[119]`` (0, unknown, is ``"X"``)."""
    from ase.data import chemical_symbols

    symbols = _IN_FORMULAS.split()
    return symbols, np.array([symbols.index(symbol) for symbol in chemical_symbols[: MAX_Z + 1]])


def _array(value: Any, dtype: type | None = None) -> Any:
    """A column as an array; chunks stay where they are."""
    return value if isinstance(value, Chunks) else np.asarray(value, dtype=dtype)


def join_extras(parts: Sequence[dict[str, np.ndarray]], rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Extra columns of several sets as one; where a set lacks a column, empty text, or NaN.

    Args:
        parts: the extras of each set.
        rows: frames of each set.
    """
    return {
        name: _joined([part.get(name) for part in parts], rows) for name in dict.fromkeys(n for part in parts for n in part)
    }


def _joined(parts: Sequence[np.ndarray | None], rows: Sequence[int]) -> np.ndarray:
    present = [part for part in parts if part is not None]
    text = any(part.dtype.kind in "OU" for part in present)
    empty = np.full((1, *present[0].shape[1:]), "" if text else np.nan)
    filled = [np.repeat(empty, n, axis=0) if part is None else part for part, n in zip(parts, rows, strict=True) if n]
    filled = filled or present[:1]
    return np.concatenate([part.astype(np.str_) if text and part.dtype.kind not in "OU" else part for part in filled])


@dataclass(frozen=True, eq=False)
class Frames:
    """Labelled structures in flat NumPy columns, all at one level of theory.

    Args:
        numbers: atomic numbers ``[A]``.
        positions: Cartesian positions, Å ``[A, 3]``; need not lie inside the cell.
        cells: lattice vectors as rows, Å ``[S, 3, 3]``.
        pbc: periodic directions ``[S, 3]``.
        offsets: the atoms of system s are rows ``offsets[s]:offsets[s + 1]`` ``[S + 1]``.
        energy: total energies as computed, eV ``[S]``; NaN where missing, as for all labels.
        forces: eV/Å ``[A, 3]``.
        stress: eV/Å^3, ASE sign (tension positive) ``[S, 3, 3]``.
        magmoms: µB ``[A]``.
        material_id: which frames are one material ``[S]``; splits keep these together. Where nobody says, the reduced formula:
            frames of one composition may then be one crystal, so they stay on one side of a split.
        frame_id: unique name of each frame ``[S]``.
        theory: the level of theory of all labels.
        extras: further columns with one row a system (provenance: ``"source"``, ``"kind"``, ...).

    Labels and ids may be left out (None): labels become NaN, frame ids ``"frame-<n>"``, material ids the reduced formula.

    Raises:
        DataError: on shapes that do not fit each other.
    """

    numbers: Values
    positions: Values
    cells: Values
    pbc: Values
    offsets: np.ndarray
    energy: LeftOut = None  # type: ignore[assignment]
    forces: LeftOut = None  # type: ignore[assignment]
    stress: LeftOut = None  # type: ignore[assignment]
    magmoms: LeftOut = None  # type: ignore[assignment]
    material_id: LeftOut = None  # type: ignore[assignment]
    frame_id: LeftOut = None  # type: ignore[assignment]
    theory: LevelOfTheory = field(default_factory=LevelOfTheory)
    extras: dict[str, Values] = field(default_factory=dict)

    def __post_init__(self):
        offsets = np.asarray(self.offsets, dtype=np.int64)
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise DataError("offsets must start at 0 and never decrease, with one entry more than there are frames")
        object.__setattr__(self, "offsets", offsets)
        rows = {"system": len(offsets) - 1, "atom": int(offsets[-1])}
        if self.frame_id is None:
            object.__setattr__(self, "frame_id", np.array([f"frame-{s}" for s in range(rows["system"])], dtype=np.str_))
        for name, column in COLUMNS.items():
            value = getattr(self, name)
            expected = (rows[column.scope], *column.shape)
            if value is None:  # numbers and offsets stand first in COLUMNS, so formulas() can be asked for here
                value = self.formulas() if name == "material_id" else np.full(expected, np.nan)
            value = _array(value, column.dtype)
            if value.shape != expected:
                raise DataError(f"column {name!r} has shape {value.shape}, expected {expected} ({column.scope} scope)")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "extras", {name: _array(value) for name, value in self.extras.items()})
        for name, value in self.extras.items():
            if len(value) != rows["system"]:
                raise DataError(f"extra column {name!r} has {len(value)} rows, expected {rows['system']}")

    # -- size and derived columns ---------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        present = [name for name in LABELS if self.has(name)]
        size = f"{counted(len(self), 'frame')}, {counted(self.total_atoms, 'atom')}"
        return f"Frames({size}, {self.theory}, labels: {', '.join(present) or 'none'})"

    @property
    def total_atoms(self) -> int:
        """Number of atoms of all frames together, A."""
        return int(self.offsets[-1])

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each frame ``[S]``."""
        return np.diff(self.offsets)

    @property
    def system(self) -> np.ndarray:
        """The frame that each atom belongs to ``[A]``."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def volumes(self) -> np.ndarray:
        """Cell volumes |det|, Å^3 ``[S]``."""
        return np.abs(np.linalg.det(self.cells))

    @property
    def energy_per_atom(self) -> np.ndarray:
        """eV/atom ``[S]``."""
        return self.energy / self.n_atoms

    @property
    def elements(self) -> np.ndarray:
        """Sorted atomic numbers that occur ``[K]``."""
        return np.unique(self.numbers)

    def composition(self) -> np.ndarray:
        """Number of atoms of each element in each frame, column Z for atomic number Z ``[S, 119]``."""
        flat = np.bincount(self.system * (MAX_Z + 1) + self.numbers, minlength=len(self) * (MAX_Z + 1))
        return flat.reshape(len(self), MAX_Z + 1).astype(np.float64)

    def formulas(self) -> np.ndarray:
        """Reduced formula of each frame ``[S]``, elements in IUPAC's order (``"Al2O3"``, ``"NaCl"``, ``"TiC"``)."""
        symbols, rank = _order()
        known = (self.numbers >= 0) & (self.numbers <= MAX_Z)
        present = self.system * (MAX_Z + 1) + rank[np.where(known, self.numbers, 0)]
        present, counts = np.unique(present, return_counts=True)  # one entry an element of a frame
        frame, element = np.divmod(present, MAX_Z + 1)
        bounds = np.searchsorted(frame, np.arange(len(self) + 1))
        filled = np.flatnonzero(np.diff(bounds))
        divisor = np.gcd.reduceat(counts, bounds[filled]) if len(filled) else np.ones(0, dtype=np.int64)
        reduced = counts // np.repeat(divisor, np.diff(bounds)[filled])
        parts = [symbols[e] + (str(n) if n > 1 else "") for e, n in zip(element.tolist(), reduced.tolist(), strict=True)]
        names = ["".join(parts[start:stop]) for start, stop in pairwise(bounds.tolist())]
        return np.array(names, dtype=np.str_).reshape(len(self))

    def isolated_atom_energies(self) -> dict[str, float]:
        """Energies of the isolated atoms among the frames, eV, by symbol; see :mod:`xclimb.data.isolated`."""
        from xclimb.data.isolated import isolated_atom_energies

        return isolated_atom_energies(self)

    def has(self, label: str) -> bool:
        """Whether any frame carries the label."""
        return bool(np.isfinite(getattr(self, label)).any())

    def checksum(self) -> str:
        """SHA-256 over structures, labels, ids and level of theory: the same content has the same sum on every machine."""
        digest = hashlib.sha256(json.dumps(self.theory.to_dict(), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.offsets, dtype="<i8").tobytes())
        for name, column in COLUMNS.items():
            values = getattr(self, name)
            if column.dtype is np.str_:
                digest.update("\n".join(values.tolist()).encode())
            else:
                digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    # -- selecting and combining: index arithmetic over the scopes ---------------------------------

    def __getitem__(self, key) -> "Frames":
        """Frames by index, slice, boolean mask or integer array; always a Frames, copied rows in the order asked for."""
        index = self._index(key)
        counts = self.offsets[index + 1] - self.offsets[index]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        # atom rows of the chosen systems: their start, repeated, plus a running index inside each system
        atoms = np.repeat(self.offsets[index] - offsets[:-1], counts) + np.arange(offsets[-1])
        rows = {"system": index, "atom": atoms}
        columns = {name: getattr(self, name)[rows[column.scope]] for name, column in COLUMNS.items()}
        extras = {name: value[index] for name, value in self.extras.items()}
        return Frames(**columns, offsets=offsets, theory=self.theory, extras=extras)

    def _index(self, key: Any) -> np.ndarray:
        """Numbers of the frames that a key means; what it costs depends on how many those are, not on how many there are."""
        if isinstance(key, slice):
            return np.arange(*key.indices(len(self)))
        index = np.atleast_1d(np.asarray(key, dtype=np.int64 if np.size(key) == 0 else None))
        if index.dtype.kind not in "iu":  # a mask, or nothing that NumPy takes
            return np.arange(len(self))[index]
        if ((index < -len(self)) | (index >= len(self))).any():
            raise IndexError(f"frames {index.min()} to {index.max()} are asked for of {len(self)}")
        return np.where(index < 0, index + len(self), index).astype(np.int64)

    def __iter__(self):
        return (self[s] for s in range(len(self)))

    @classmethod
    def concatenate(cls, sets: Sequence["Frames"]) -> "Frames":
        """All frames of several sets, in order; an extra column that a set lacks is empty text, or NaN, there.

        Raises:
            DataError: if there are no sets.
            TheoryError: if the sets are at different levels of theory.
        """
        if not sets:
            raise DataError("nothing to concatenate: give at least one Frames")
        theory = sets[0].theory
        for other in sets[1:]:
            theory.require_same(other.theory, "the frames to concatenate")
            theory = theory.joined(other.theory)
        columns = {name: np.concatenate([getattr(frames, name) for frames in sets]) for name in COLUMNS}
        counts = np.concatenate([frames.n_atoms for frames in sets])
        extras = join_extras([frames.extras for frames in sets], [len(frames) for frames in sets])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(**columns, offsets=offsets, theory=theory, extras=extras)

    @classmethod
    def empty(cls, theory: LevelOfTheory | None = None) -> "Frames":
        """A set without frames."""
        columns: dict[str, Any] = {name: np.zeros((0, *column.shape), column.dtype) for name, column in COLUMNS.items()}
        return cls(**columns, offsets=np.zeros(1, dtype=np.int64), theory=theory or LevelOfTheory())

    def replace(self, **columns) -> "Frames":
        """The same frames with some columns (or the theory, or the extras) exchanged."""
        return replace(self, **columns)

    def with_theory(self, theory: LevelOfTheory) -> "Frames":
        """The same frames, declared to be at another level of theory."""
        return replace(self, theory=theory)

    # -- to and from other libraries ---------------------------------------------------------------

    @classmethod
    def from_ase(cls, atoms: "Atoms | Iterable[Atoms]", theory: LevelOfTheory | None = None) -> "Frames":
        """From ASE atoms; see :func:`xclimb.data.convert.from_ase` for where labels and ids are looked for."""
        from xclimb.data.convert import from_ase

        return from_ase(atoms, theory)

    @classmethod
    def from_pymatgen(cls, structures: "Structure | Iterable[Structure]", theory: LevelOfTheory | None = None) -> "Frames":
        """From pymatgen structures or molecules (no labels)."""
        from xclimb.data.convert import from_pymatgen

        return from_pymatgen(structures, theory)

    def to_ase(self) -> "list[Atoms]":
        """ASE atoms with the finite labels in a SinglePointCalculator and the ids in ``atoms.info``."""
        from xclimb.data.convert import to_ase

        return to_ase(self)

    def to_pymatgen(self) -> "list[Structure]":
        """pymatgen structures, with magmoms as a site property where labelled.

        Raises:
            DataError: if a frame is not periodic in all directions.
        """
        from xclimb.data.convert import to_pymatgen

        return to_pymatgen(self)
