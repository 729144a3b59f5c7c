"""Files that may be compressed, whatever they are called."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what the readers of damaged files raise
_PIECE = 65_536  # bytes: of a broken stream, all pieces before the break are kept


def open_compressed(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, decompressed if its first bytes say that it is compressed (gzip, bzip2, xz)."""
    with path.open("rb") as file:
        magic = file.read(6)
    for start, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if magic.startswith(start):
            return opener(path, "rb")
    return path.open("rb")


def read_on(file: io.BufferedIOBase, size: int) -> tuple[bytes, Exception | None]:
    """As many bytes as there are up to a size, and what went wrong behind them."""
    if isinstance(file, io.BufferedReader):  # nothing to decompress
        try:
            return file.read(size), None
        except OSError as error:
            return b"", error
    pieces: list[bytes] = []
    while size > 0:
        try:
            piece = file.read1(min(size, _PIECE))
        except BROKEN as error:
            return b"".join(pieces), error
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces), None


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file, as many of them as can be read."""
    with open_compressed(path) as file:
        return read_on(file, size)[0]
