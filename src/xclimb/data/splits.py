"""Leak-free splits and nested training subsets: frames of one group never stand on two sides.

A group is a material (``material_id``) or a composition (reduced formula). Groups are sorted by name before they are
shuffled, so a split depends on the data and the seed, not on the order of the frames, the machine or its locale.
"""

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.errors import DataError, XclimbWarning

PARTS = ("train", "val", "test")
_SCHEMA = 1


class SplitError(DataError):
    """Too few groups for the parts that were asked for.

    Args:
        why: what is wrong, without a way out.
        way_out: the rest of the sentence, for whoever chose the parts.
    """

    def __init__(self, why: str, way_out: str):
        super().__init__(why + way_out)
        self.why = why


@dataclass(frozen=True, eq=False)
class Split:
    """Which frames are for training, validation and test.

    Args:
        train: indices into ``frame_id``.
        val: indices into ``frame_id``.
        test: indices into ``frame_id``.
        frame_id: ids of the frames that were split ``[S]``.
        seed: seed of the shuffle.
        by: ``"material"`` or ``"composition"``.
        ratios: shares asked for.
        names: groups that were moved to train because no other training group holds one of their elements.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    frame_id: np.ndarray
    seed: int = 0
    by: str = "material"
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    names: tuple[str, ...] = ()

    def apply(self, frames: Frames) -> tuple[Frames, Frames, Frames]:
        """Train, validation and test frames, found by ``frame_id``: the split of one functional's frames fits the other's.

        Raises:
            DataError: if a frame is in no part of the split, or a frame id stands for two frames.
        """
        if len(np.unique(frames.frame_id)) != len(frames):
            raise DataError("frame ids are not unique, so a split cannot be applied by id: rename the frames first")
        order = np.argsort(frames.frame_id)
        where = np.searchsorted(frames.frame_id, self.frame_id, sorter=order)
        at = order[np.minimum(where, len(order) - 1)] if len(order) else np.zeros(len(where), dtype=np.int64)
        present = frames.frame_id[at] == self.frame_id if len(order) else np.zeros(len(where), dtype=bool)
        foreign = frames.frame_id[~np.isin(frames.frame_id, self.frame_id) & ~is_isolated_atom(frames)]
        if len(foreign):
            raise DataError(
                f"frame {foreign[0]} (and {len(foreign) - 1} more) is in no part of the split: split these frames anew"
            )
        if not present.all():
            first = self.frame_id[~present][0]
            text = f"{(~present).sum()} of the split's {len(present)} frames are not in these data, {first} the first"
            warnings.warn(text, XclimbWarning, stacklevel=2)
        train, val, test = (frames[at[part[present[part]]]] for part in (self.train, self.val, self.test))
        return train, val, test

    def to_dict(self) -> dict:
        """Plain dictionary for JSON: the frame ids of each part, and how they were chosen."""
        ids = {part: self.frame_id[getattr(self, part)].tolist() for part in PARTS}
        how = {"by": self.by, "seed": self.seed, "ratios": list(self.ratios), "moved": list(self.names)}
        return {"schema": _SCHEMA, **how, **ids}

    @classmethod
    def from_dict(cls, fields: dict) -> "Split":
        """The inverse of :meth:`to_dict`; indices count through train, val and test in turn.

        Raises:
            DataError: if parts are missing or a frame id is in two parts.
        """
        try:
            ids = [np.array(fields[part], dtype=np.str_) for part in PARTS]
            how = {
                "seed": fields["seed"],
                "by": fields["by"],
                "ratios": tuple(fields["ratios"]),
                "names": tuple(fields["moved"]),
            }
        except KeyError as error:
            raise DataError(f"this is no xclimb split: it has no {error}") from None
        frame_id = np.concatenate(ids)
        if len(np.unique(frame_id)) != len(frame_id):
            raise DataError("this split has a frame id in two places: split the frames anew")
        starts = np.cumsum([0] + [len(part) for part in ids])
        train, val, test = (np.arange(starts[k], starts[k + 1]) for k in range(3))
        return cls(train, val, test, frame_id, **how)

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Split":
        """Read a split written by :meth:`save`.

        Raises:
            DataError: if the file is missing or no split.
        """
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: give the JSON file of a split") from None
        except ValueError as error:
            raise DataError(f"{path} is no JSON file ({error})") from None
        return cls.from_dict(fields)


def split_frames(
    frames: Frames,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    by: str = "material",
    seed: int = 0,
    cover: bool = True,
) -> Split:
    """Split frames into train, validation and test without a group on two sides.

    The shares are of frames, met as closely as whole groups allow; a part with a positive share gets one group at least.
    Isolated atoms are in no part.

    Args:
        frames: what to split.
        ratios: shares of train, validation and test; they must sum to 1.
        by: ``"material"`` (``material_id``) or ``"composition"`` (reduced formula).
        seed: seed of the shuffle.
        cover: put a group that holds an element no other training group has into train (the reference energy of that
            element could not be learned otherwise), and name it in ``Split.names``.

    Raises:
        DataError: if there are too few groups, or ratios or ``by`` make no sense.
    """
    shares = _checked_ratios(ratios)
    rows = np.flatnonzero(~is_isolated_atom(frames))
    if len(rows) < len(frames):  # in no part
        split = split_frames(frames[rows], ratios, by, seed, cover)
        train, val, test = (rows[part] for part in (split.train, split.val, split.test))
        return replace(split, train=train, val=val, test=test, frame_id=frames.frame_id)
    names, group = _groups(frames, by)
    wanted = sum(share > 0 for share in shares)
    if len(names) < max(wanted, 1):
        raise SplitError(
            f"{len(names)} {by}(s) cannot be split into {wanted} parts without leaks",
            ": give more data, fewer parts (ratios=...) or material_ids that tell the materials apart",
        )
    sizes = np.bincount(group, minlength=len(names))
    order = np.random.default_rng(seed).permutation(len(names))
    part = _parts(order, sizes, shares)
    moved: tuple[str, ...] = ()
    if cover:
        covered = _covered(order, sizes, shares, _elements(frames, group, len(names)))
        moved = tuple(str(name) for name in names[(part != 0) & (covered == 0)])
        part = covered
    _warn_if_thin(np.bincount(part, minlength=3), shares, by)
    train, val, test = (np.flatnonzero(part[group] == k) for k in range(3))
    return Split(train, val, test, frames.frame_id, seed, by, shares, moved)


def _checked_ratios(ratios: Sequence[float]) -> tuple[float, float, float]:
    values = tuple(float(ratio) for ratio in ratios)
    if len(values) != 3 or min(values) < 0 or values[0] <= 0 or not np.isclose(sum(values), 1.0):
        raise DataError(f"ratios are {values}: give three shares (train, val, test) that sum to 1, train above 0")
    return values


def _groups(frames: Frames, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Sorted group names ``[G]`` and the group of each frame ``[S]``."""
    if by not in ("material", "composition"):
        raise DataError(f"by={by!r} is no way to group frames: use 'material' or 'composition'")
    return np.unique(frames.material_id if by == "material" else frames.formulas(), return_inverse=True)


def _elements(frames: Frames, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Which group holds which element ``[G, 119]``."""
    holds = np.zeros((n_groups, MAX_Z + 1), dtype=bool)
    holds[group[frames.system], frames.numbers] = True
    return holds


def _parts(order: np.ndarray, sizes: np.ndarray, shares: tuple[float, float, float]) -> np.ndarray:
    """Part (0 train, 1 val, 2 test) of each group: the order is cut where the running number of frames is nearest."""
    total = np.concatenate([[0], np.cumsum(sizes[order])])
    bounds: list[int] = []
    for k in (1, 2):
        before = sum(share > 0 for share in shares[:k])  # parts that need a group on either side of the cut
        after = sum(share > 0 for share in shares[k:])
        low, high = max([before, *(b + (shares[1] > 0) for b in bounds)]), len(order) - after
        target = sum(shares[:k]) * total[-1]
        bounds.append(low + int(np.argmin(np.abs(total[low : high + 1] - target))))
    if shares[1] == 0:
        bounds[1] = bounds[0]
    if shares[2] == 0:
        bounds[1] = len(order)
    part = np.empty(len(order), dtype=np.int64)
    part[order] = np.repeat([0, 1, 2], np.diff([0, *bounds, len(order)]))
    return part


def _covered(order: np.ndarray, sizes: np.ndarray, shares: tuple[float, float, float], holds: np.ndarray) -> np.ndarray:
    """As :func:`_parts`, with every element in train: groups with an element of their own stand first in the order."""
    alone = np.any(holds[:, holds.sum(axis=0) == 1], axis=1)
    order = np.concatenate([order[alone[order]], order[~alone[order]]])
    part = _parts(order, sizes, shares)
    part[alone] = 0
    for group in order:  # what is left: elements whose two or more groups all fell outside train
        missing = holds.any(axis=0) & ~holds[part == 0].any(axis=0)
        if not missing.any():
            break
        if holds[group, missing].any():
            part[group] = 0
    return part


def _warn_if_thin(counts: np.ndarray, shares: tuple[float, float, float], by: str) -> None:
    empty = [name for name, count, share in zip(PARTS, counts, shares, strict=True) if share > 0 and count == 0]
    thin = [f"{name} {count}" for name, count, share in zip(PARTS, counts, shares, strict=True) if share > 0 and 0 < count < 3]
    if empty:
        raise SplitError(
            f"no {by} is left for {' and '.join(empty)}: each holds an element of its own and is needed in train",
            "; give more data, fewer parts, or cover=False (from Python)",
        )
    if thin:
        text = f"few {by}s in a part of the split ({', '.join(thin)}): errors measured on them say little about others"
        warnings.warn(text, XclimbWarning, stacklevel=3)


def nested_subsets(frames: Frames, sizes: Sequence[int], seed: int = 0, by: str = "material") -> dict[int, np.ndarray]:
    """Training subsets of growing size, each within the next: group after group in shuffled order until the size is met.

    Args:
        frames: the training frames.
        sizes: numbers of frames.
        seed: seed of the shuffle.
        by: ``"material"`` or ``"composition"``.

    Returns:
        size -> sorted frame indices ``[size]``.

    Raises:
        DataError: if a size is below 1 or above the number of frames.
    """
    wrong = [size for size in sizes if not 1 <= size <= len(frames)]
    if wrong:
        raise DataError(f"a subset of {wrong[0]} frames cannot be taken from {len(frames)}: give sizes from 1 to {len(frames)}")
    names, group = _groups(frames, by)
    rank = np.random.default_rng(seed).permutation(len(names))
    order = np.lexsort((frames.frame_id, rank[group]))
    return {int(size): np.sort(order[:size]) for size in sizes}
