"""Stores of xclimb: folders of Arrow files, audited and in eV, Å when they were made."""

from collections.abc import Iterator
from pathlib import Path

from xclimb.data.store import is_store, iter_store, read_manifest
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.formats.base import EV_UNITS, STORE, Format, Part, ReadOptions, Source, register

_ROWS = 20_000  # frames of a part


def iter_frames(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Frames of a store, in parts."""
    first = 0
    for frames in iter_store(source.path):
        for start in range(0, len(frames), _ROWS):
            some = frames[start : start + _ROWS]
            yield Part(some, first)
            first += len(some)


def _level(source: Source) -> LevelOfTheory:
    return LevelOfTheory.from_dict(read_manifest(source.path)["theory"])


def _refuse_part(head: bytes, path: Path) -> None:
    if head.startswith(b"ARROW1") and is_store(path.parent):
        raise DataError(f"{path} is a part of a store: give its folder, {path.parent}")


register(Format(STORE, reads={"stores": "everything"}, iter=iter_frames, sniff=_refuse_part, level=_level, units=EV_UNITS))
