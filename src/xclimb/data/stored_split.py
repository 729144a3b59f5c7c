"""A split kept in its store: ``STORE:train``, ``STORE:val``, ``STORE:test`` and nested subsets ``STORE:train-1000`` are data.

``split.json`` in the folder of the store holds the frame ids of each part, and how they were chosen. A store that is written
anew, or appended to, has no split until it is split again: frames are never in a part that nobody chose.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.splits import PARTS, Split, nested_subsets, propose_split
from xclimb.data.store import is_store, open_store
from xclimb.errors import DataError, XclimbWarning
from xclimb.files import read_json, write_json

SPLIT = "split.json"


@dataclass(frozen=True)
class StoredSplit:
    """Result of :func:`split_store`.

    Args:
        split: the three parts.
        parts: name of every part, subsets included -> sorted frame indices.
        materials: name -> how many materials.
    """

    split: Split
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    materials: dict[str, int] = field(default_factory=dict)


def split_store(
    store: str | os.PathLike,
    ratios: Sequence[int | float] = (8, 1, 1),
    subsets: Sequence[int] = (),
    seed: int = 0,
    by: str | None = None,
    *,
    overwrite: bool = False,
    **how: Any,
) -> StoredSplit:
    """Split the frames of a store and keep the split with it.

    Args:
        store: its folder.
        ratios: shares of train, validation and (if there are three) test; any positive numbers.
        subsets: sizes of nested subsets of train: each within the next.
        seed: of the shuffle.
        by: as for :func:`xclimb.data.splits.split_frames`.
        overwrite: replace the split that is there.
        how: further arguments of :func:`xclimb.data.splits.propose_split`: ``group``, ``cover``, ``gap``, ``progress``.

    Raises:
        DataError: if there is no store, a split already, or too few materials; on ratios or sizes that make no sense.
    """
    path = Path(store)
    frames = open_store(path)
    if (path / SPLIT).exists() and not overwrite:
        raise DataError(f"{path} is split already: overwrite=True (--overwrite) to split it anew")
    return split_data(frames, path / SPLIT, ratios, subsets, seed, by, overwrite=overwrite, **how)


def split_data(
    frames: Frames,
    file: str | os.PathLike,
    ratios: Sequence[int | float] = (8, 1, 1),
    subsets: Sequence[int] = (),
    seed: int = 0,
    by: str | None = None,
    *,
    overwrite: bool = False,
    **how: Any,
) -> StoredSplit:
    """Split any frames and write the split to a JSON file, which ``xclimb transfer --split`` reads. See :func:`split_store`.

    Raises:
        DataError: if the file exists or cannot be written, and as :func:`split_store`.
    """
    path = Path(file)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists already: give another name, or overwrite=True (--overwrite) to replace it")
    if not path.parent.is_dir():
        raise DataError(f"the folder {path.parent} does not exist: make it first, or write the split somewhere else")
    if len(np.unique(frames.frame_id)) < len(frames):
        raise DataError(
            "frame ids are not unique, and a split names frames by id: make a store of these data, which renames them"
        )
    split = propose_split(frames, shares_of(ratios), by, seed, **how)
    for sentence in split.notes:
        warnings.warn(sentence, XclimbWarning, stacklevel=3)
    train = frames[split.train]
    nested = nested_subsets(train, sorted(set(subsets)), seed, split.by, group=split.group) if subsets else {}
    parts = {name: getattr(split, name) for name in PARTS if len(getattr(split, name))}
    parts |= {f"train-{size}": split.train[index] for size, index in nested.items()}
    content = split.to_dict() | {"subsets": {str(size): train.frame_id[index].tolist() for size, index in nested.items()}}
    write_json(path, content)
    return StoredSplit(split, parts, {name: len(np.unique(frames.material_id[index])) for name, index in parts.items()})


def shares_of(ratios: Sequence[int | float], val_fraction: float | None = None) -> tuple[float, float, float]:
    """Shares of train, validation and test from ratios such as 8:1:1; of two there is no test part.

    Args:
        ratios: two or three numbers that are not negative.
        val_fraction: share of validation in place of theirs; the others keep their ratio.

    Raises:
        DataError: on other ratios, or a fraction that is not between 0 and 1.
    """
    if len(ratios) not in (2, 3) or not all(np.isfinite(ratios)) or min(ratios) < 0 or not sum(ratios) > 0:
        raise DataError(f"ratios are {':'.join(f'{r:g}' for r in ratios)}: give two or three shares, such as 8:1:1")
    train, val, test = (ratio / sum(ratios) for ratio in (*ratios, 0)[:3])
    if val_fraction is None:
        return train, val, test
    if not 0 < val_fraction < 1 or not train + test > 0:
        raise DataError(f"the validation fraction is {val_fraction:g}: give a number between 0 and 1, such as 0.1")
    rest = (1 - val_fraction) / (train + test)
    return train * rest, val_fraction, test * rest


def named_part(name: str | os.PathLike) -> tuple[Path, str] | None:
    """``"STORE:train"`` -> the store and the part; None for anything else."""
    text = os.fspath(name)
    store, colon, part = text.rpartition(":")
    return (Path(store), part) if colon and store and not Path(text).exists() and is_store(store) else None


def validation_part(name: str | os.PathLike) -> str | None:
    """``"STORE:train"`` or one of its subsets -> ``"STORE:val"``, if the split of the store has validation frames."""
    store_and_part = named_part(name)
    if store_and_part is None:
        return None
    store, part = store_and_part
    if part.split("-")[0] != "train" or not (store / SPLIT).is_file() or not len(Split.load(store / SPLIT).val):
        return None
    return f"{store}:val"


def open_part(store: Path, part: str) -> Frames:
    """The frames of one part of a store's split, in the order of the store.

    Raises:
        DataError: if the store has no split, or the split no such part.
    """
    path = store / SPLIT
    if not path.is_file():
        raise DataError(f"{store} has no parts yet: make them with xclimb split {store}")
    split = Split.load(path)
    subsets = read_json(path).get("subsets", {})
    ids = {name: split.frame_id[getattr(split, name)] for name in PARTS}
    ids |= {f"train-{size}": np.array(names, dtype=np.str_) for size, names in subsets.items()}
    ids = {name: chosen for name, chosen in ids.items() if len(chosen)}
    if part not in ids:
        raise DataError(f"{store} has no part {part!r}: its split has {', '.join(ids)}")
    frames = open_store(store)
    chosen = np.flatnonzero(np.isin(frames.frame_id, ids[part]))
    if len(chosen) != len(ids[part]):
        raise DataError(f"{path} is the split of other frames: split the store again, overwrite=True")
    return frames[chosen]
