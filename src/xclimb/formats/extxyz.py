"""Extended XYZ, streamed in bounded memory without an index of the file."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.formats.ase import read_images
from xclimb.formats.base import EV_UNITS, Format, Part, ReadOptions, Source, register
from xclimb.formats.compressed import open_compressed

if TYPE_CHECKING:
    from ase import Atoms

MAX_LINE = 16_000_000  # bytes
MAX_FRAME = 256_000_000  # bytes
_AT_ONCE = 500_000  # bytes of frames that are parsed in one go
_TENSOR = re.compile(r"""(?<!\S)(stress|virial)=["'{\[]([^"'}\]]*)["'}\]]""")
_NINE_OF_SIX = (0, 5, 4, 5, 1, 3, 4, 3, 2)


def iter_extxyz(path: Path) -> "Iterator[Atoms]":
    """Frames in the order of the file.

    Raises:
        ValueError: on a line without the number of atoms where one is due, or a line or frame larger than is believed.
        ase.io.extxyz.XYZError, OSError, ...: from reading a frame.
    """
    from ase.io.extxyz import read_xyz

    with open_compressed(path) as file:
        frames, broken = _texts(file), None
        while broken is None:
            texts, size = [], 0
            try:
                for text in frames:
                    texts.append(text)
                    size += len(text)
                    if size > _AT_ONCE:
                        break
            except Exception as error:  # what stands before is given first
                broken = error
            if not texts and broken is None:
                return
            piece = io.StringIO(b"".join(texts).decode("utf-8"))
            yield from read_xyz(piece, slice(None), properties_parser=_comment_line)
        raise broken


def _comment_line(line: str) -> dict[str, Any]:
    """The comment line of a frame as ASE reads it, but stress and virial may also have 6 components (xx yy zz yz xz xy)."""
    from ase.io.extxyz import key_val_str_to_dict

    def nine(match: re.Match[str]) -> str:
        words = match[2].split()
        return f'{match[1]}="{" ".join(words[k] for k in _NINE_OF_SIX)}"' if len(words) == 6 else match[0]

    return key_val_str_to_dict(_TENSOR.sub(nine, line))


def _texts(file: io.BufferedIOBase) -> Iterator[bytes]:
    """The lines of each frame."""
    line = _line(file)
    while line:
        if not line.strip():
            line = _line(file)
            continue
        count = _count(line)
        lines, size = [line], len(line)
        for _ in range(count + 1):
            lines.append(_line(file))
            size += len(lines[-1])
            if not lines[-1]:
                break
            if size > MAX_FRAME:
                raise ValueError(f"a frame of more than {MAX_FRAME:,} bytes")
        line = _line(file)
        while line.lstrip().startswith(b"VEC"):
            lines.append(line)
            line = _line(file)
        yield b"".join(lines)


def _line(file: io.BufferedIOBase) -> bytes:
    line = file.readline(MAX_LINE)
    if len(line) == MAX_LINE:
        raise ValueError(f"a line of more than {MAX_LINE:,} bytes")
    return line


def _count(line: bytes) -> int:
    try:
        count = int(line)
    except ValueError:
        count = -1
    if count < 0:
        raise ValueError(f"number of atoms expected, but there is {line[:40].decode('utf-8', errors='replace').strip()!r}")
    return count


def _read(source: Source, options: ReadOptions) -> Iterator[Part]:
    yield from read_images(iter_extxyz(source.path), source, options)


def _kind(head: bytes, path: Path) -> str | None:
    lines = head.split(b"\n", 2)
    fits = len(lines) > 1 and lines[0].strip().isdigit() and (b"Properties=" in lines[1] or b"Lattice=" in lines[1])
    return "extxyz" if fits else None


register(
    Format(
        "extxyz",
        reads={"extended XYZ": "results under the names of ASE, or labels under their names"},
        iter=_read,
        sniff=_kind,
        units=EV_UNITS,
    )
)
