"""Files that may be compressed, whatever they are called."""

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what the readers of damaged files raise
MAX_RATIO, MAX_UNPACKED = 200, 256_000_000  # beyond both, what a file unpacks to is not believed; bytes
_PIECE = 65_536  # bytes: of a broken stream, all pieces before the break are kept


def without_suffix(name: str) -> str:
    """A file name without the suffix of a compression: ``vasprun.xml.gz`` -> ``vasprun.xml``."""
    return name.rsplit(".", 1)[0] if name.endswith((".gz", ".bz2", ".xz")) else name


def open_compressed(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, decompressed if its first bytes say that it is compressed (gzip, bzip2, xz)."""
    with path.open("rb") as file:
        magic = file.read(6)
    for start, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if magic.startswith(start):
            return Unpacked(_Bounded(opener(path, "rb"), max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size)))
    return path.open("rb")


class Unpacked(io.BufferedReader):
    """A compressed file, opened for reading what it unpacks to."""


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where more comes out than is believed."""

    def __init__(self, file: io.BufferedIOBase, most: int):
        self._file, self._most, self._size = file, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._file.read1(len(buffer))
        self._size += len(piece)
        if self._size > self._most:
            raise OSError(
                f"unpacks to more than {self._most:,} bytes, {MAX_RATIO} times its size: unpack it first if that is meant"
            )
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def read_on(file: io.BufferedIOBase, size: int) -> tuple[bytes, Exception | None]:
    """As many bytes as there are up to a size, and what went wrong behind them."""
    if not isinstance(file, Unpacked):  # nothing to decompress
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


def check_unpacked(path: Path) -> None:
    """Read a compressed file once, for readers that open it themselves and take all of it into memory.

    Raises:
        OSError: if it unpacks to more than is believed, or is damaged.
    """
    with open_compressed(path) as file:
        if isinstance(file, Unpacked):
            while file.read1(_PIECE):
                pass


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file, as many of them as can be read."""
    with open_compressed(path) as file:
        return read_on(file, size)[0]
