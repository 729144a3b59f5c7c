"""Tags, POTCAR titles and +U values that stand in the head of a ``vasprun.xml`` or an OUTCAR."""

import re
from contextlib import suppress
from pathlib import Path

from xclimb.data.theory import LevelOfTheory
from xclimb.formats.compressed import BROKEN, open_compressed
from xclimb.formats.vasp.oszicar import beside
from xclimb.formats.vasp.theory import hubbard_of, theory_of

_HEAD = 4_000_000  # characters: everything before the first ionic step
_TAG = r"^[ \t]*([A-Z][A-Z0-9_]*)[ \t]*=[ \t]*([^;#!\n]*?)[ \t]*(?:[;#!\n]|$)"
_XML_TAG = re.compile(r'<[iv] [^>]*?name="(\w+)"[^>]*>\s*([^<]*?)\s*<')
_ATOM_TYPE = re.compile(r"<c>\s*(\w+)\s*</c>\s*<c>[^<]*</c>\s*<c>[^<]*</c>\s*<c>\s*((?:PAW|US)[^<]*?)\s*</c>")
# tags of the INCAR that VASP before 6 leaves out of the XML
_LEFT_OUT = ("IVDW", "LVDW", "LUSE_VDW", "IVDW_NL", "BPARAM")


def vasprun_theory(path: Path, flavour: str = "e_0") -> LevelOfTheory:
    """Level of theory of a ``vasprun.xml``; tags that an old VASP leaves out of it come from the INCAR beside the file.

    The cutoff is ENCUT, or what VASP took where the INCAR has none.
    """
    head = _head(path, b"<calculation>")
    tags: dict[str, str] = {}
    for name, value in _XML_TAG.findall(head):  # the INCAR stands first, the full list of parameters later
        tags.setdefault(name.upper(), value)
    tags |= {name: value for name, value in _incar(path).items() if name in _LEFT_OUT}
    titles = {symbol: " ".join(title.split()) for symbol, title in _ATOM_TYPE.findall(head)}
    return theory_of(tags, titles, hubbard_of(tags, list(titles)), flavour)


def outcar_theory(path: Path, flavour: str = "e_0") -> LevelOfTheory:
    """Level of theory of an OUTCAR: its INCAR, where VASP repeats it, and its list of parameters."""
    head = _head(path, b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM")
    tags: dict[str, str] = {}
    for name, value in re.findall(_TAG, head, re.MULTILINE):
        if name != "GGA" or "." not in value:  # old POTCARs have energies under that name
            tags.setdefault(name, value)
    for name in ("LDAUU", "LDAUL"):
        if match := re.search(rf"for each species {name} =([^\n]*)", head):
            tags[name] = match[1]
    if re.search(r"LDA\+U is selected", head):
        tags["LDAU"] = "T"
    tags |= {name: value for name, value in _incar(path, "OUTCAR").items() if name in _LEFT_OUT}
    if match := re.search(r"exchange correlation table for\s+LEXCH\s*=\s*(\d+)", head):
        tags["LEXCH"] = match[1]
    titles: dict[str, str] = {}
    for title in re.findall(r"TITEL\s*=\s*([^\n]*)", head):
        words = title.split()
        if len(words) > 1:
            titles.setdefault(words[1].split("_")[0], " ".join(words))
    return theory_of(tags, titles, hubbard_of(tags, list(titles)), flavour)


def _head(path: Path, end: bytes) -> str:
    """The text before the first ionic step, as much of it as can be read."""
    head = b""
    with suppress(*BROKEN), open_compressed(path) as file:
        while len(head) < _HEAD and end not in head and (more := file.read(65_536)):
            head += more
    return head.decode("utf-8", errors="replace").split(end.decode())[0]


def _incar(path: Path, name: str = "vasprun") -> dict[str, str]:
    """Tags of the INCAR beside an output file."""
    incar = beside(path, "INCAR", name)
    text = ""
    if incar is not None:
        with suppress(*BROKEN), open_compressed(incar) as file:
            text = file.read(_HEAD).decode("utf-8", errors="replace")
    return {tag.upper(): value for tag, value in re.findall(_TAG, text, re.MULTILINE | re.IGNORECASE)}
