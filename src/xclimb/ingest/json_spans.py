"""Where the records of a JSON file lie: found in a stream of bytes by counting braces, without parsing anything.

A record is the object that holds a ``"structure"`` (or is one): an entry of a list, or of the nested object that MPtrj is,
``{mp-id: {frame-id: record}}``. Its depth is the same all through a file, so brackets outside strings say where each begins
and ends. Text is looked at as arrays of bytes; memory holds one block, and the record that it ends in.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from xclimb.errors import DataError
from xclimb.ingest.compressed import read_on

BLOCK = 4_000_000  # bytes read in one go
LONGEST = 256_000_000  # bytes: a record beyond that is a file with a brace missing
_QUOTE, _OPEN, _CLOSE, _BACKSLASH = b'"{}\\'
_RECORD_KEY = re.compile(rb'"(structure|lattice)"\s*:\s*\{')
_BLANK = b"\xef\xbb\xbf \t\r\n"
_KEYS = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*\{?')
_LAST_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*\Z')


@dataclass(frozen=True)
class Chunk:
    """Some records of a file, and their place.

    Args:
        text: the bytes from the end of the record before the first to the end of the last; keys stand between records.
        spans: where each record begins and ends in the text ``[n, 2]``.
        material: key of the object around the first record, if it was opened earlier.
        first: number of the first record in the file.
    """

    text: bytes
    spans: np.ndarray
    material: str | None
    first: int


def record_depth(head: bytes) -> tuple[int, str] | None:
    """How many braces are open around the content of a record, and its kind: ``"entry"`` or ``"structure"`` (a bare one).

    Args:
        head: the first bytes of the file.

    Returns:
        None if no record begins there.
    """
    found = _RECORD_KEY.search(head)
    if not found or head.lstrip(_BLANK)[:1] not in (b"{", b"["):
        return None
    _, steps = _marks(head[: found.start()])
    return max(int(steps.sum()), 1), "entry" if found[1] == b"structure" else "structure"


def iter_chunks(file: io.BufferedIOBase, depth: int, name: str, block: int = BLOCK) -> Iterator[Chunk]:
    """The records of an open file, about a block of bytes at a time.

    Raises:
        DataError: if the file breaks off, or a brace is missing; all records before have been given by then.
    """
    text, level, material, first, opening = b"", 0, None, 0, b""
    while True:
        more, broken = read_on(file, max(block, len(text)))  # a long record: twice as much each time
        text += more
        opening = opening or text.lstrip(_BLANK)[:1]
        spans, outer, last = find_records(text, depth, level)
        if len(spans):
            end = int(spans[-1, 1])
            chunk = Chunk(text[:end], spans, material, first)
            before = outer[outer < end]
            material = _key(text[: before[-1]]) if len(before) else material
            first, text, level = first + len(spans), text[end:], depth - 1
            yield chunk
        if broken is not None:
            raise DataError(f"{name} cannot be read after record {first} ({broken}): fetch or write it again")
        if not more:
            break
        if len(text) > LONGEST:
            raise DataError(f"{name} has no whole record in {len(text):,} bytes after record {first}: a brace is missing there")
    open_ended = (opening == b"[" or depth > 1) and text.strip(_BLANK)[-1:] not in (b"]", b"}")
    if last != 0 or open_ended:
        raise DataError(f"{name} breaks off after record {first}, {len(text):,} bytes are left over: fetch or write it again")


def find_records(text: bytes, depth: int, level: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Whole records in a text.

    Args:
        text: bytes that begin outside of a string.
        depth: braces open inside a record.
        level: braces open where the text begins.

    Returns:
        begin and end of each record ``[n, 2]``; where objects that hold records open ``[m]``; braces open at the end.
    """
    places, steps = _marks(text)
    levels = level + np.cumsum(steps)
    begin = places[(levels == depth) & (steps > 0)]
    end = places[(levels == depth - 1) & (steps < 0)] + 1
    outer = places[(levels == depth - 1) & (steps > 0)]
    return np.stack([begin[: len(end)], end], axis=1), outer, int(levels[-1]) if len(levels) else level


def _marks(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Braces outside strings: their places ``[n]``, and +1 or -1 for each."""
    array = np.frombuffer(text, dtype=np.uint8)
    places = np.flatnonzero((array == _QUOTE) | (array == _OPEN) | (array == _CLOSE))
    kinds = array[places]
    quotes = kinds == _QUOTE
    if b"\\" in text:  # a quote behind an odd number of backslashes does not end a string
        for n in np.flatnonzero(quotes & (array[places - 1] == _BACKSLASH) & (places > 0)):
            before = text[max(0, places[n] - 1000) : places[n]]
            quotes[n] = (len(before) - len(before.rstrip(b"\\"))) % 2 == 0
    outside = (np.cumsum(quotes, dtype=np.int32) & 1 == 0) & (kinds != _QUOTE)
    places = places[outside]
    return places, np.where(kinds[outside] == _OPEN, 1, -1)


def _key(before: bytes) -> str | None:
    """The key of an object, from the bytes before it."""
    found = _LAST_KEY.search(before[-1000:])
    return _told(found[1]) if found else None


def keys_of(chunk: Chunk) -> list[tuple[str | None, str | None]]:
    """(key of the object around it, own key) of each record of a chunk; None in a list."""
    keys, material, behind = [], chunk.material, 0
    for begin, end in chunk.spans.tolist():
        found = _KEYS.findall(chunk.text[behind:begin])
        if len(found) > 1:
            material = _told(found[-2])
        keys.append((material, _told(found[-1]) if found else None))
        behind = end
    return keys


def _told(key: bytes) -> str:
    """A key as text: what JSON escapes is what it stands for."""
    with suppress(ValueError):
        return str(json.loads(b'"' + key + b'"')) if b"\\" in key else key.decode("utf-8")
    return key.decode("utf-8", errors="replace")
