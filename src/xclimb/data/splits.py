"""Leak-free splits and nested training subsets: frames of one group never stand on two sides.

A group is a material (``material_id``, those of the same crystal joined), a composition or a chemical system. Groups are
sorted by name before they are shuffled, so a split depends on the data and the seed, not on the order of the frames, the
machine or its locale. Where there is one material, or few, blocks of frames are split instead, in the order of the data.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson

from xclimb.data.frame_blocks import LEFT_OUT, cut_blocks
from xclimb.data.frames import Frames
from xclimb.data.groups import Groups, elements_of, group_frames, sole_holders
from xclimb.data.isolated import is_isolated_atom
from xclimb.errors import DataError, XclimbWarning, counted
from xclimb.files import read_json, write_json

PARTS = ("train", "val", "test")
_GAPS = "left_out"
_SCHEMA = 1
_BY_GROUP = {"composition": ("material", "composition")}  # a former name of a way to split: by, group


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
    """Division of frames into training, validation and test.

    Args:
        train: indices into ``frame_id``.
        val: indices into ``frame_id``.
        test: indices into ``frame_id``.
        frame_id: ids of the frames that were split ``[S]``.
        seed: seed of the shuffle.
        by: ``"material"`` (groups stay whole) or ``"frame"`` (blocks of frames).
        ratios: shares asked for.
        names: groups that were moved to train because no other training group holds one of their elements.
        group: frames of a group, see :func:`xclimb.data.groups.group_frames`.
        left_out: frames of the gaps between blocks, which are in no part: indices into ``frame_id``.
        notes: what a reader of errors on these parts should know, a sentence each; not saved.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    frame_id: np.ndarray
    seed: int = 0
    by: str = "material"
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    names: tuple[str, ...] = ()
    group: str = "structure"
    left_out: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    notes: tuple[str, ...] = ()

    def apply(self, frames: Frames) -> tuple[Frames, Frames, Frames]:
        """Train, validation and test frames, matched by ``frame_id``: the split of one functional's frames fits the other's.

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
        """Dictionary for JSON: the frame ids of each part, and how they were chosen."""
        ids = {part: self.frame_id[getattr(self, part)].tolist() for part in PARTS}
        how = {"by": self.by, "group": self.group, "seed": self.seed, "ratios": list(self.ratios), "moved": list(self.names)}
        return {"schema": _SCHEMA, **how, **ids, "left_out": self.frame_id[self.left_out].tolist()}

    @classmethod
    def from_dict(cls, fields: dict) -> "Split":
        """The inverse of :meth:`to_dict`; indices count through train, val, test and gaps in turn.

        Raises:
            DataError: if parts are missing or a frame id is in two parts.
        """
        try:
            ids = [np.array(fields.get(part, []) if part == _GAPS else fields[part], dtype=np.str_) for part in (*PARTS, _GAPS)]
            by, group = _BY_GROUP.get(fields["by"], (fields["by"], "ids"))
            how = {
                "seed": fields["seed"],
                "by": by,
                "group": fields.get("group", group),  # splits of xclimb 0.1.0 have none
                "ratios": tuple(fields["ratios"]),
                "names": tuple(fields["moved"]),
            }
        except KeyError as error:
            raise DataError(f"this is no xclimb split: it has no {error}") from None
        frame_id = np.concatenate(ids)
        if len(np.unique(frame_id)) != len(frame_id):
            raise DataError("this split has a frame id in two places: split the frames anew")
        starts = np.cumsum([0] + [len(part) for part in ids])
        train, val, test, left_out = (np.arange(starts[k], starts[k + 1]) for k in range(4))
        return cls(train, val, test, frame_id, **how, left_out=left_out)

    def save(self, path: str | os.PathLike) -> None:
        """Write the split as JSON."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Split":
        """Read a split written by :meth:`save`.

        Raises:
            DataError: if the file is missing or no split.
        """
        try:
            return cls.from_dict(read_json(Path(path)))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except FileNotFoundError:
            raise DataError(f"{path} does not exist: give the JSON file of a split") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): give the JSON file of a split") from None
        except orjson.JSONDecodeError as error:
            raise DataError(f"{path} is no JSON file ({error})") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no split ({error}): split the frames anew") from None


def split_frames(
    frames: Frames,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    by: str | None = None,
    seed: int = 0,
    cover: bool = True,
    *,
    group: str = "structure",
    gap: int | None = None,
) -> Split:
    """Split frames into train, validation and test without a group on two sides.

    The shares are of frames, met as closely as whole groups allow; a part with a positive share gets one group at least.
    Isolated atoms are in no part. What :func:`propose_split` notes is a warning.

    Args:
        frames: what to split.
        ratios: shares of train, validation and test; they must sum to 1.
        by: ``"material"``: groups stay whole. ``"frame"``: the frames of each group, in the order of the data, are cut into
            contiguous blocks, train first and test last; frames of one group are then in several parts, and errors say
            nothing about other materials. None: by material, or by frame where materials are too few (with a warning).
        seed: seed of the shuffle of groups; blocks of frames do not depend on it.
        cover: put a group that holds an element no other training group has into train (the reference energy of that
            element could not be learned otherwise), and name it in ``Split.names``.
        group: ``"structure"`` (``material_id``, and ids of the same crystal are one material), ``"ids"``,
            ``"composition"`` or ``"chemical-system"``.
        gap: frames between two blocks that are in no part (by frame only); None: until the autocorrelation of the energy
            falls below 1/e, at most a twentieth of the frames, at least 1.

    Raises:
        DataError: if there are too few groups, or ratios, ``by`` or ``group`` make no sense.
    """
    split = propose_split(frames, ratios, by, seed, cover, group=group, gap=gap)
    for sentence in split.notes:
        warnings.warn(sentence, XclimbWarning, stacklevel=2)
    return split


def propose_split(
    frames: Frames,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    by: str | None = None,
    seed: int = 0,
    cover: bool = True,
    *,
    group: str = "structure",
    gap: int | None = None,
    progress: bool = False,
) -> Split:
    """The same without warnings: what should be known is in ``Split.notes``. See :func:`split_frames`.

    Args:
        frames: as there.
        ratios: as there.
        by: as there.
        seed: as there.
        cover: as there.
        group: as there.
        gap: as there.
        progress: show a bar on the terminal where comparing structures takes time.
    """
    shares = _checked_ratios(ratios)
    by, group = _BY_GROUP.get(by or "", (by, group))
    if by not in ("material", "frame", None):
        raise DataError(f"by={by!r} is no way to split: use 'material' or 'frame' (and group='composition', ...)")
    if gap is not None and (gap < 0 or by == "material"):
        raise DataError(f"gap={gap} has no meaning here: give 0 or more frames, with by='frame'")
    rows = np.flatnonzero(~is_isolated_atom(frames))
    if len(rows) < len(frames):  # in no part
        split = propose_split(frames[rows], ratios, by, seed, cover, group=group, gap=gap, progress=progress)
        parts = {name: rows[getattr(split, name)] for name in (*PARTS, _GAPS)}
        return replace(split, **parts, frame_id=frames.frame_id)
    groups = group_frames(frames, group, progress)
    if by == "frame":
        return _split_blocks(frames, groups, shares, seed, group, gap)
    try:
        return _split_groups(frames, groups, shares, seed, group, cover)
    except SplitError as problem:
        if by == "material":
            raise
        try:
            split = _split_blocks(frames, groups, shares, seed, group, gap)
        except SplitError:
            raise problem from None
        text = f"{problem.why}, so blocks of frames were split instead (by='frame')"
        text = f"{text[0].upper()}{text[1:]}: errors on them say nothing about other materials."
        return replace(split, notes=(text, *split.notes))


def _split_groups(
    frames: Frames, groups: Groups, shares: tuple[float, float, float], seed: int, kind: str, cover: bool
) -> Split:
    """Whole groups in each part."""
    names, group = groups.names, groups.group
    wanted = sum(share > 0 for share in shares)
    if len(names) < max(wanted, 1):
        raise SplitError(
            f"{counted(len(names), groups.noun)} cannot be split into {wanted} parts without leaks",
            ": give more data, fewer parts (ratios=...), material_ids that tell the materials apart, or by='frame'",
        )
    sizes = np.bincount(group, minlength=len(names))
    if seed < 0:
        raise DataError(f"seed={seed}: seeds count from 0")
    order = np.random.default_rng(seed).permutation(len(names))
    part = _parts(order, sizes, shares)
    moved: tuple[str, ...] = ()
    if cover:
        covered = _covered(order, sizes, shares, elements_of(frames, groups))
        moved = tuple(str(name) for name in names[(part != 0) & (covered == 0)])
        part = covered
    thin = _thin(np.bincount(part, minlength=3), shares, groups.noun)
    train, val, test = (np.flatnonzero(part[group] == k) for k in range(3))
    return Split(train, val, test, frames.frame_id, seed, "material", shares, moved, kind, notes=(*groups.notes, *thin))


def _split_blocks(
    frames: Frames, groups: Groups, shares: tuple[float, float, float], seed: int, kind: str, gap: int | None
) -> Split:
    """Blocks of frames of each group, see :mod:`xclimb.data.frame_blocks`."""
    part, longest = cut_blocks(frames.energy_per_atom, groups.group, shares, gap)
    train, val, test, left_out = (np.flatnonzero(part == k) for k in (0, 1, 2, LEFT_OUT))
    if any(share > 0 and not len(rows) for share, rows in zip(shares, (train, val, test), strict=True)):
        wanted = sum(share > 0 for share in shares)
        raise SplitError(
            f"no {groups.noun} has frames enough for {wanted} blocks with a gap between them (the most: {longest})",
            ": give more frames, fewer parts or a smaller gap",
        )
    notes = []
    if len(left_out):
        named = ", ".join(frames.frame_id[left_out[:3]].tolist()) + (", ..." if len(left_out) > 3 else "")
        notes.append(f"{counted(len(left_out), 'frame')} between the blocks left out, as neighbours are correlated ({named}).")
    text = (*groups.notes, *notes)
    return Split(train, val, test, frames.frame_id, seed, "frame", shares, (), kind, left_out, text)


def _checked_ratios(ratios: Sequence[float]) -> tuple[float, float, float]:
    values = tuple(float(ratio) for ratio in ratios)
    if len(values) != 3 or min(values) < 0 or values[0] <= 0 or not np.isclose(sum(values), 1.0):
        raise DataError(f"ratios are {values}: give three shares (train, val, test) that sum to 1, train above 0")
    return values


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
    alone = sole_holders(holds)
    order = np.concatenate([order[alone[order]], order[~alone[order]]])
    part = _parts(order, sizes, shares)
    part[alone] = 0
    for group in order:  # what is left: elements whose two or more groups all fell outside train
        missing = holds.any(axis=0) & ~holds[part == 0].any(axis=0)
        if not missing.any():
            break
        if holds[group, missing].any():
            part[group] = 0
    lacks = [share > 0 and not (part == k).any() for k, share in enumerate(shares)]
    return _spared(order, sizes, shares, holds) if any(lacks) else part


def _spared(order: np.ndarray, sizes: np.ndarray, shares: tuple[float, float, float], holds: np.ndarray) -> np.ndarray:
    """Groups that train can spare, one after another into the part that lacks the most frames; the others are in train."""
    part, copies = np.zeros(len(order), dtype=np.int64), holds.sum(axis=0)
    lacking = np.array(shares[1:]) * sizes.sum()
    for group in order:
        k = int(np.argmax(lacking))
        is_empty = not (part == k + 1).any()
        wanted = lacking[k] > 0 if is_empty else lacking[k] >= 0.5 * sizes[group]
        if wanted and (copies[holds[group]] > 1).all():
            part[group], copies = k + 1, copies - holds[group]
            lacking[k] -= sizes[group]
    return part


def _thin(counts: np.ndarray, shares: tuple[float, float, float], noun: str) -> list[str]:
    """A note where a part has few groups.

    Raises:
        SplitError: if a part has none.
    """
    empty = [name for name, count, share in zip(PARTS, counts, shares, strict=True) if share > 0 and count == 0]
    thin = [f"{name} {count}" for name, count, share in zip(PARTS, counts, shares, strict=True) if share > 0 and 0 < count < 3]
    if empty:
        raise SplitError(
            f"no {noun} is left for {' and '.join(empty)}: each holds an element that no other training {noun} would hold",
            "; give more data, fewer parts, or cover=False to let them be in val or test alone",
        )
    text = f"few {noun}s in a part of the split ({', '.join(thin)}): errors measured on them say little about others"
    return [text] if thin else []


def nested_subsets(
    frames: Frames, sizes: Sequence[int], seed: int = 0, by: str = "material", *, group: str = "structure"
) -> dict[int, np.ndarray]:
    """Training subsets of growing size, each within the next: group after group in shuffled order until the size is met.

    Args:
        frames: the training frames.
        sizes: numbers of frames.
        seed: seed of the shuffle.
        by: ``"material"``, or ``"frame"``: frame after frame.
        group: as for :func:`split_frames`.

    Returns:
        size -> sorted frame indices ``[size]``.

    Raises:
        DataError: if a size is below 1 or above the number of frames.
    """
    wrong = [size for size in sizes if not 1 <= size <= len(frames)]
    if wrong:
        raise DataError(f"a subset of {wrong[0]} frames cannot be taken from {len(frames)}: give sizes from 1 to {len(frames)}")
    by, group = _BY_GROUP.get(by, (by, group))
    rows = np.unique(frames.frame_id, return_inverse=True)[1] if by == "frame" else group_frames(frames, group).group
    rank = np.random.default_rng(seed).permutation(rows.max() + 1)
    order = np.lexsort((frames.frame_id, rank[rows]))
    return {int(size): np.sort(order[:size]) for size in sizes}
