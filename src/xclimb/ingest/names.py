"""Names of frames that are unique in a store, and frames that are in it already under another name."""

import warnings
from dataclasses import dataclass, field

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import XclimbWarning, counted

_DIGITS = 5  # decimals of Å, eV/Å and eV that count for sameness


@dataclass
class Names:
    """Makes frame ids unique: a name of an earlier file gets this file's stem before it, one of the same file ``#n`` behind."""

    seen: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    renamed: list[str] = field(default_factory=list)

    def next_file(self) -> None:
        """Another file begins."""
        if self.own:
            self.seen |= self.own
            self.own = set()

    def unique(self, frames: Frames, stem: str) -> Frames:
        """The frames, those renamed whose name stands for another frame."""
        names = frames.frame_id.tolist()
        if len(set(names)) == len(names) and self.seen.isdisjoint(names) and self.own.isdisjoint(names):
            self.own.update(names)
            return frames
        out = [self._free(name, stem) for name in names]
        self.renamed += [old for old, new in zip(names, out, strict=True) if old != new]
        return frames.replace(frame_id=np.array(out, dtype=np.str_))

    def _free(self, name: str, stem: str) -> str:
        candidate = f"{stem}/{name}" if name in self.seen else name
        tried, n = candidate, 0
        while tried in self.own or tried in self.seen:
            n += 1
            tried = f"{candidate}#{n}"
        self.own.add(tried)
        return tried

    def warn(self) -> None:
        """Say that frames were renamed, if any were."""
        if self.renamed:
            frame_ids = counted(len(self.renamed), "frame id")
            text = f"{frame_ids} stood for another frame already: renamed, {self.renamed[0]!r} the first"
            warnings.warn(text, XclimbWarning, stacklevel=3)


def fingerprints(frames: Frames) -> np.ndarray:
    """Hash structure and labels of each frame ``[S]``: equal where all are equal to five decimals."""
    if not len(frames):
        return np.zeros(0, dtype=np.uint64)
    columns = [frames.numbers[:, None], frames.positions, frames.forces, frames.magmoms[:, None]]
    place = np.arange(frames.total_atoms) - np.repeat(frames.offsets[:-1], frames.n_atoms)
    atoms = _mixed(np.concatenate([_rounded(column) for column in columns], axis=1), place)
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(atoms, dtype=np.uint64)])
    of_atoms = sums[frames.offsets[1:]] - sums[frames.offsets[:-1]]
    rows = len(frames)
    system = [frames.cells.reshape(rows, 9), frames.pbc, frames.energy[:, None], frames.stress.reshape(rows, 9)]
    return _mixed(np.concatenate([_rounded(column) for column in (*system, frames.n_atoms[:, None])], axis=1)) ^ of_atoms


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values as whole numbers of the last decimal that counts, as unsigned bits; what is missing is a number of its own."""
    scaled = np.nan_to_num(np.round(values.astype(np.float64) * 10**_DIGITS), nan=9e15)
    return np.ascontiguousarray(np.clip(scaled, -9e15, 9e15) + 0.0).view(np.uint64)


def _mixed(bits: np.ndarray, salt: np.ndarray | None = None) -> np.ndarray:
    """Columns of bits -> one number a row, every bit of which depends on all."""
    out = np.zeros(len(bits), dtype=np.uint64) if salt is None else salt.astype(np.uint64)
    for column in bits.T:
        out = (out ^ column) * np.uint64(0x9E3779B97F4A7C15)
        out ^= out >> np.uint64(29)
    return out * np.uint64(0xBF58476D1CE4E5B9)
