"""The level of theory that a VASP output states."""

import bz2
import gzip
import io
import lzma
import re
from pathlib import Path

from xclimb.data.theory import LevelOfTheory

_GGA = {"PE": "PBE", "PS": "PBEsol", "RP": "RPBE", "91": "PW91"}
_METAGGA = {"R2SCAN": "r2SCAN", "RSCAN": "rSCAN", "SCAN": "SCAN"}
_DISPERSION = {1: "D2", 10: "D2", 11: "D3(0)", 12: "D3(BJ)", 13: "D4", 2: "TS", 20: "TS", 21: "TS-HI", 202: "MBD", 4: "dDsC"}
_HEAD = 4_000_000  # characters: everything before the first ionic step


def open_compressed(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, decompressed if its first bytes say that it is compressed (gzip, bzip2, xz)."""
    with path.open("rb") as file:
        magic = file.read(6)
    for start, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if magic.startswith(start):
            return opener(path, "rb")
    return path.open("rb")


def vasprun_theory(path: Path) -> LevelOfTheory:
    """Functional, +U, dispersion and pseudopotentials as the head of a ``vasprun.xml`` states them.

    Hybrids, van der Waals functionals and unusual tags leave the functional unknown: it is never guessed.
    """
    with open_compressed(path) as file:
        head = file.read(_HEAD).decode("utf-8", errors="replace").split("<calculation>")[0]
    potentials = re.findall(r"<c>\s*(PAW_\w+|PAW|US)\s+(\w+)[^<]*</c>", head)
    family = potentials[0][0] if potentials else None
    return LevelOfTheory(
        functional=_functional(head, family),
        hubbard_u=_hubbard(head),
        dispersion=_DISPERSION.get(_number(head, "IVDW", 0)),
        pseudopotentials=family,
        code="VASP",
        energy_flavour="e_0",
    )


def _tag(head: str, name: str) -> str | None:
    """Value of a tag; the INCAR stands first in the file, the full parameter list later."""
    found = re.search(rf'name="{name}">\s*([^<]*?)\s*<', head)
    return found.group(1) if found else None


def _true(head: str, name: str) -> bool:
    return (_tag(head, name) or "F").strip(".").upper().startswith("T")


def _number(head: str, name: str, default: int) -> int:
    try:
        return int(_tag(head, name) or default)
    except ValueError:
        return default


def _functional(head: str, family: str | None) -> str | None:
    if _true(head, "LHFCALC") or _true(head, "LUSE_VDW"):
        return None
    meta = (_tag(head, "METAGGA") or "--").upper()
    gga = (_tag(head, "GGA") or "--").upper()
    if meta not in ("--", "", "NONE"):
        return _METAGGA.get(meta)
    if gga in ("--", ""):  # VASP's rule: the functional of the pseudopotentials
        gga = {"PAW_PBE": "PE"}.get(family or "", "unknown")
    base = _GGA.get(gga)
    return "PBE+U" if base == "PBE" and _hubbard(head) else base


def _hubbard(head: str) -> dict[str, float]:
    """Element -> U in eV of elements with U > 0."""
    if not _true(head, "LDAU"):
        return {}
    values = re.search(r'<v name="LDAUU">([^<]*)</v>', head)
    species = re.search(r'<array name="atomtypes"[^>]*>(.*?)</array>', head, re.DOTALL)
    if not values or not species:
        return {}
    symbols = re.findall(r"<rc>\s*<c>[^<]*</c>\s*<c>\s*(\w+)\s*</c>", species.group(1))
    pairs = zip(symbols, map(float, values.group(1).split()), strict=False)
    return {symbol: u for symbol, u in pairs if u > 0}
