"""Elements of a ``vasprun.xml`` as a stream, in bounded memory: large tables that no frame needs are left out unparsed."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from xclimb.errors import DataError

MAX_ELEMENTS = 2_000_000  # of one child of the root: more than a step of 100,000 atoms has
MAX_BYTES = 256_000_000  # of one child of the root
_BLOCK = 1_000_000  # bytes
_LARGE = (b"dos", b"eigenvalues", b"projected", b"kpoints")
_LONGEST_TAG = max(map(len, _LARGE)) + 3


def iter_xml(file: io.BufferedIOBase, path: Path) -> Iterator[tuple[str, ET.Element]]:
    """Events ``("start" | "end", element)``. A child of the root is emptied behind its end event.

    Args:
        file: the XML, decompressed.
        path: of the file, for messages.

    Raises:
        xml.etree.ElementTree.ParseError: where the file breaks off, or is no XML.
        DataError: if a child of the root is larger than any ionic step can be.
    """
    parser: Any = ET.XMLPullParser(("start", "end"))  # typeshed leaves its events open
    root: ET.Element | None = None
    depth = elements = size = 0
    for text in chain(_without_tables(file), (None,)):
        broken = _fed(parser, text)
        size += len(text or b"")
        for event, element in parser.read_events():
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            elements += event == "start"
            yield event, element
            if event == "end" and depth == 1:
                root.clear()
                elements = size = 0
        if broken is not None:
            raise broken
        if elements > MAX_ELEMENTS or size > MAX_BYTES:
            raise DataError(
                f"{path} has a part of more than {MAX_ELEMENTS:,} XML elements or {MAX_BYTES:,} bytes, "
                "which no ionic step has: it is no output of VASP, or damaged; write it again"
            )


def _fed(parser: ET.XMLPullParser, text: bytes | None) -> ET.ParseError | None:
    """Hand a block to the parser, None for the end of the file; the error then, behind the last events."""
    if text is not None:
        parser.feed(text)
        return None
    try:
        parser.close()
    except ET.ParseError as error:
        return error
    return None


def _without_tables(file: io.BufferedIOBase) -> Iterator[bytes]:
    """The text in blocks, without densities of states, eigenvalues, projections and k-points."""
    text, inside = b"", b""
    while more := file.read1(_BLOCK):
        text += more
        kept: list[bytes] = []
        while True:
            if inside:
                end = text.find(inside)
                if end < 0:
                    text = text[-len(inside) :]
                    break
                text, inside = text[end + len(inside) :], b""
            begin, name = _next_table(text)
            if name is None:
                break
            kept.append(text[:begin])
            text, inside = text[begin:], b"</" + name + b">"
        if not inside:  # a tag may be cut in two
            hold = text.rfind(b"<", max(0, len(text) - _LONGEST_TAG))
            hold = len(text) if hold < 0 else hold
            kept.append(text[:hold])
            text = text[hold:]
        yield b"".join(kept)
    yield b"" if inside else text


def _next_table(text: bytes) -> tuple[int, bytes | None]:
    """Place and name of the first large table that opens in a text."""
    places = [(place, name) for name in _LARGE for mark in (b">", b" ") if (place := text.find(b"<" + name + mark)) >= 0]
    return min(places) if places else (-1, None)
