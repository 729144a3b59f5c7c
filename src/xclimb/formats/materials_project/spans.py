"""Spans of the records of a JSON file in its stream of bytes, by counting braces, without parsing anything.

A record is the object that holds a ``"structure"`` (or is one): an entry of a list, of JSON lines, or of the nested object
that MPtrj is, ``{mp-id: {frame-id: record}}``; a task document is one as a whole. Its depth is the same all through a file, so
brackets outside strings say where each begins and ends. Text is scanned as arrays of bytes; memory holds one block, and the
record that it breaks off in.
"""

import io
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from xclimb.errors import DataError
from xclimb.formats.compressed import read_on

BLOCK = 4_000_000  # bytes read in one go
LONGEST = 256_000_000  # bytes: a record beyond that is a file with a brace missing
_QUOTE, _OPEN, _CLOSE, _BACKSLASH = b'"{}\\'
_RECORD_KEYS = (("entry", re.compile(rb'"structure"\s*:\s*\{')), ("structure", re.compile(rb'"lattice"\s*:\s*\{')))
_TASK_KEY = re.compile(rb'"(?:calcs_reversed|orig_inputs|input|output)"\s*:\s*[\[{]')
BLANK = b"\xef\xbb\xbf \t\r\n"
_KEYS = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*\{?')
_LAST_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:\s*\Z')
_STRING = rb'"(?:[^"\\]|\\.)*"'
_FIRST_KEY = re.compile(rb"\{\s*(" + _STRING + rb")\s*:")
_INNER_KEY = re.compile(rb'"structure"\s*:\s*\Z')
_BETWEEN = b" \t\r\n,{}[]"
_PIECE = 1_000_000  # bytes


@dataclass(frozen=True)
class Chunk:
    """Some records of a file, and their place.

    Args:
        text: the bytes from the end of the record before the first to the end of the last; keys stand between records.
            Empty where a worker reads them from the file itself.
        spans: where each record begins and ends in the text ``[n, 2]``.
        material: key of the object around the first record, if it was opened earlier.
        first: number of the first record in the file.
        begin: where the text begins in the (decompressed) file.
        kind: of the records, from :func:`record_depth`.
    """

    text: bytes
    spans: np.ndarray
    material: str | None
    first: int
    begin: int = 0
    kind: str = "entry"

    def filled(self, path: Path) -> "Chunk":
        """The chunk with its text, read from an uncompressed file if need be."""
        if self.text:
            return self
        with path.open("rb", buffering=0) as file:
            file.seek(self.begin)
            text = file.read(int(self.spans[-1, 1]))
        return replace(self, text=text)


def record_depth(head: bytes) -> tuple[int, str] | None:
    """Depth of records (braces open around their content), and their kind: ``"entry"``, ``"structure"`` (a bare one) or
    ``"task"`` (a task document of the Materials Project or emmet).

    Args:
        head: the first bytes of the file.

    Returns:
        None if no record begins there.
    """
    if head.lstrip(BLANK)[:1] not in (b"{", b"["):
        return None
    task = _task_depth(head)
    if task is not None:
        return task, "task"
    for kind, key in _RECORD_KEYS:
        if match := key.search(head):
            _, steps = _marks(head[: match.start()])
            return max(int(steps.sum()), 1), kind
    return None


def _task_depth(head: bytes) -> int | None:
    """Braces open inside a task document: one with calculations, or with an input or output that has the structure."""
    keys = [match.start() for match in _TASK_KEY.finditer(head)]
    structure = _RECORD_KEYS[0][1].search(head)
    if not keys or (structure is None and b'"calcs_reversed"' not in head):
        return None
    depth = min(_level(head, place) for place in (keys[0], head.rfind(b'"calcs_reversed"')) if place >= 0)
    inside = structure is None or _level(head, structure.start()) > depth
    return max(depth, 1) if inside or b'"calcs_reversed"' in head else None


def _level(head: bytes, place: int) -> int:
    """Braces open at a place."""
    return int(_marks(head[:place])[1].sum())


def iter_chunks(
    file: io.BufferedIOBase, depth: int, name: str, block: int = BLOCK, by_place: bool = False, recover: bool = True
) -> Iterator[Chunk]:
    """The records of an open file, about a block of bytes at a time.

    Where brackets do not match, records are recognised by how they begin, until they match again: the damaged one is a record
    that is no JSON, those around it are whole.

    Args:
        file: what is read.
        depth: from :func:`record_depth`.
        name: the file, for messages.
        block: bytes.
        by_place: leave the text out; it is for workers to read.
        recover: recognise records by how they begin where brackets do not match; not of task documents, which hold such again.

    Raises:
        DataError: if the file breaks off, or brackets do not match from some place on; all records before have been given
            by then.
    """
    text, level, material, first, begin, opening = b"", 0, None, 0, 0, b""
    pattern = None
    while True:
        more, broken = read_on(file, max(block, len(text)))  # a long record: twice as much each time
        text += more
        opening = opening or text.lstrip(BLANK)[:1]
        scan = find_records(text, depth, level)
        pattern = pattern or (beginning(text, scan.spans) if recover else None)
        if pattern is not None and (place := off_course(text, scan, depth, pattern, more == b"", 2 * block)) is not None:
            scan = recovered(text, scan, place, depth, pattern, more == b"")
        if len(scan.spans):
            end = int(scan.spans[-1, 1])
            yield Chunk(b"" if by_place else text[:end], scan.spans, material, first, begin)
            material = _key(text[: scan.outer]) if scan.outer is not None else material
            first, text, level, begin = first + len(scan.spans), text[end:], depth - 1, begin + end
        if broken is not None:
            raise DataError(f"{name} cannot be read after record {first} ({broken}): fetch or write it again")
        if not more:
            break
        if len(text) > LONGEST:
            raise DataError(f"{name} has no whole record in {len(text):,} bytes after record {first}: a brace is missing there")
    open_ended = (opening == b"[" or depth > 1) and text.strip(BLANK)[-1:] not in (b"]", b"}")
    if scan.level != 0 or open_ended:
        raise DataError(f"{name} breaks off after record {first}, {len(text):,} bytes are left over: fetch or write it again")


@dataclass(frozen=True)
class Scan:
    """Whole records in a text.

    Args:
        spans: begin and end of each ``[n, 2]``.
        outer: where the object around the last of them opens, if in this text.
        level: braces open at the end of the text.
        low: first place where fewer braces are open than around any record, before more text; None if there is none.
    """

    spans: np.ndarray
    outer: int | None
    level: int
    low: int | None


def find_records(text: bytes, depth: int, level: int) -> Scan:
    """Whole records in a text that begins outside of a string.

    Args:
        text: the bytes.
        depth: braces open inside a record.
        level: braces open where the text begins.
    """
    places, steps = _marks(text)
    levels = level + np.cumsum(steps, dtype=np.int32)
    begin = places[(levels == depth) & (steps > 0)]
    end = places[(levels == depth - 1) & (steps < 0)] + 1
    begin, end = begin[: len(end)], end[: len(begin)]
    outer = places[(levels == depth - 1) & (steps > 0)]
    outer = outer[outer < end[-1]] if len(end) else outer[:0]
    low = places[levels < min(depth - 1, 1)]
    under = int(low[0]) if len(low) and text[low[0] + 1 :].strip(BLANK + b"]") else None
    last = int(levels[-1]) if len(levels) else level
    return Scan(np.stack([begin, end], axis=1), int(outer[-1]) if len(outer) else None, last, under)


def _marks(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Braces outside strings: their places ``[n]``, and +1 or -1 for each."""
    array = np.frombuffer(text, dtype=np.uint8)
    escapes, inside = b"\\" in text, False
    braces = []
    for start in range(0, len(array), _PIECE):  # what fits a cache
        piece = array[start : start + _PIECE]
        marks = piece == _QUOTE
        for mark in (_OPEN, _CLOSE):
            marks |= piece == mark
        places = np.flatnonzero(marks)
        quotes = piece[places] == _QUOTE
        if escapes:
            _drop_escaped(text, array, places + start, quotes)
        within = np.logical_xor.accumulate(quotes) ^ inside
        inside = bool(within[-1]) if len(within) else inside
        braces.append(places[~within & (piece[places] != _QUOTE)] + start)
    places = np.concatenate(braces) if braces else np.zeros(0, dtype=np.int64)
    return places, np.where(array[places] == _OPEN, 1, -1)


def _drop_escaped(text: bytes, array: np.ndarray, places: np.ndarray, quotes: np.ndarray) -> None:
    """A quote behind an odd number of backslashes does not end a string."""
    for n in np.flatnonzero(quotes & (array[places - 1] == _BACKSLASH) & (places > 0)):
        before = text[max(0, places[n] - 1000) : places[n]]
        quotes[n] = (len(before) - len(before.rstrip(b"\\"))) % 2 == 0


# -- where brackets do not match ------------------------------------------------------------------------------------------


def beginning(text: bytes, spans: np.ndarray) -> re.Pattern[bytes] | None:
    """Compile a pattern of how records begin: the key above them, if any, and their first key; group 1 ends at the brace.

    Returns:
        None if there is no whole record, or the pattern fits inside it again.
    """
    if not len(spans):
        return None
    begin, end = spans[0].tolist()
    key = _FIRST_KEY.match(text, begin)
    if key is None or _INNER_KEY.search(text[max(0, begin - 30) : begin]):
        return None
    keyed = _LAST_KEY.search(text[max(0, begin - 1000) : begin]) is not None
    before = rb"((?:" + _STRING + rb"\s*:\s*\{\s*)?" + _STRING + rb"\s*:\s*)" if keyed else rb"(?:^|[\[,\n])(\s*)"
    pattern = re.compile(before + rb"\{\s*" + re.escape(key[1]) + rb"\s*:")
    return None if pattern.search(text, begin + 1, end) else pattern


def off_course(text: bytes, scan: Scan, depth: int, pattern: re.Pattern[bytes], ended: bool, long: int) -> int | None:
    """End of the last record before braces no longer delimit records, if there is such a place."""
    spans = scan.spans.tolist()
    good = next((n for n, (begin, _) in enumerate(spans) if _INNER_KEY.search(text[max(0, begin - 30) : begin])), len(spans))
    if text.count(b'"structure"', 0, spans[-1][1] if spans else 0) != len(spans):
        good = min(good, next((n for n, span in enumerate(spans) if pattern.search(text, span[0] + 1, span[1])), good))
    if scan.low is not None:
        good = min(good, sum(end <= scan.low for _, end in spans))
    end = spans[good - 1][1] if good else 0
    stuck = good == len(spans) == 0 and len(text) > long and len(pattern.findall(text)) > 1
    unclosed = ended and scan.level != 0 and pattern.search(text, end) is not None
    return end if good < len(spans) or scan.low is not None or stuck or unclosed else None


def recovered(text: bytes, scan: Scan, place: int, depth: int, pattern: re.Pattern[bytes], ended: bool) -> Scan:
    """Records from a place on by how they begin. Those that do not close where they should, and anything between records, are
    records too: such as cannot be read. The last is left for more text, or for the end of the file to complain of, unless
    it is whole.
    """
    spans = []
    for span in scan.spans.tolist():
        following = pattern.search(text, span[1])
        if span[1] > place or (following and _rest(text, span[1], following.start())):  # it closed too early
            break
        spans.append(span)
    place = spans[-1][1] if spans else 0
    starts = list(pattern.finditer(text, place))
    spans += _rest(text, place, starts[0].start() if starts else len(text) if ended else place)
    level, outer = depth - 1, scan.outer if scan.outer is not None and scan.outer < place else None
    for match, following in zip_longest(starts, starts[1:]):
        begin, stop = match.end(1), following.start() if following else len(text)
        if text.count(b"{", match.start(), begin):
            outer = text.index(b"{", match.start())
        inner = find_records(text[begin:stop], 1, 0).spans
        if following is None and not (ended and len(inner)):
            level = depth
            break
        end = begin + int(inner[0, 1]) if len(inner) else stop
        rest = _rest(text, end, stop)
        apart = not rest or b'"structure"' in text[end:stop]  # else it belongs to the record
        spans += [[begin, end], *rest] if apart else [[begin, stop]]
    else:
        level = 0 if ended else level
    return Scan(np.array(spans, dtype=np.int64).reshape(-1, 2), outer, level, None)


def _rest(text: bytes, begin: int, stop: int) -> list[list[int]]:
    """Span of the text between two records, if it is more than punctuation."""
    rest = text[begin:stop]
    left = len(rest) - len(rest.lstrip(_BETWEEN))
    return [[begin + left, stop]] if rest.strip(_BETWEEN) else []


def _key(before: bytes) -> str | None:
    """The key of an object, from the bytes before it."""
    match = _LAST_KEY.search(before[-1000:])
    return _key_text(match[1]) if match else None


def keys_of(chunk: Chunk) -> list[tuple[str | None, str | None]]:
    """(key of the object around it, own key) of each record of a chunk; None in a list."""
    keys, material, behind = [], chunk.material, 0
    for begin, end in chunk.spans.tolist():
        names = _KEYS.findall(chunk.text[behind:begin])
        if len(names) > 1:
            material = _key_text(names[-2])
        keys.append((material, _key_text(names[-1]) if names else None))
        behind = end
    return keys


def _key_text(key: bytes) -> str:
    """A key as text: what JSON escapes is what it stands for."""
    with suppress(ValueError):
        return str(json.loads(b'"' + key + b'"')) if b"\\" in key else key.decode("utf-8")
    return key.decode("utf-8", errors="replace")
