"""The level of theory that a VASP output states."""

import re
from contextlib import suppress
from pathlib import Path

from xclimb.data.theory import LevelOfTheory
from xclimb.ingest.compressed import BROKEN, open_compressed
from xclimb.ingest.vasp_oszicar import beside

_GGA = {"PE": "PBE", "PS": "PBEsol", "RP": "RPBE", "91": "PW91"}
_METAGGA = {"R2SCAN": "r2SCAN", "RSCAN": "rSCAN", "SCAN": "SCAN"}
_DISPERSION = {1: "D2", 10: "D2", 11: "D3(0)", 12: "D3(BJ)", 13: "D4", 2: "TS", 20: "TS", 21: "TS-HI", 202: "MBD", 4: "dDsC"}
_HEAD = 4_000_000  # characters: everything before the first ionic step


def vasprun_theory(path: Path, flavour: str = "e_0") -> LevelOfTheory:
    """Functional, +U, dispersion, titles of the POTCAR and cutoff, as the head of a ``vasprun.xml`` states them.

    The cutoff is ENCUT, or what VASP took where the INCAR has none.
    Hybrids, van der Waals functionals and unusual tags leave the functional unknown: it is never guessed.
    """
    head = b""
    with suppress(*BROKEN), open_compressed(path) as file:
        while len(head) < _HEAD and b"<calculation>" not in head and (more := file.read(65_536)):
            head += more
    text = head.decode("utf-8", errors="replace").split("<calculation>")[0]
    return _stated(_incar(path) + text, flavour)


def _incar(path: Path) -> str:
    """Tags of the INCAR beside the file that VASP before 6 leaves out of the XML, in the manner of the XML."""
    incar = beside(path, "INCAR")
    text = ""
    if incar is not None:
        with suppress(*BROKEN), open_compressed(incar) as file:
            text = file.read(_HEAD).decode("utf-8", errors="replace")
    tags = re.findall(r"^\s*(IVDW|LUSE_VDW)\s*=\s*([\w.]+)", text, re.MULTILINE | re.IGNORECASE)
    return "".join(f'<i name="{name.upper()}">{value}</i>' for name, value in tags)


def _stated(head: str, flavour: str) -> LevelOfTheory:
    titles = _titles(head)
    family = next(iter(titles.values())).split()[0] if titles else None
    return LevelOfTheory(
        functional=_functional(head, family),
        hubbard_u=_hubbard(head),
        dispersion=_dispersion(head),
        pseudopotentials=family,
        potcar=titles,
        cutoff=_cutoff(head),
        code="VASP",
        energy_flavour=flavour,
    )


def _tag(head: str, name: str) -> str | None:
    """Value of a tag; the INCAR stands first in the file, the full parameter list later."""
    found = re.search(rf'name="{name}">\s*([^<]*?)\s*<', head)
    return found.group(1) if found else None


def _titles(head: str) -> dict[str, str]:
    """Element -> title of its POTCAR, ``"PAW_PBE Fe_pv 02Aug2007"``."""
    rows = re.findall(r"<c>\s*(\w+)\s*</c>\s*<c>[^<]*</c>\s*<c>[^<]*</c>\s*<c>\s*((?:PAW|US)[^<]*?)\s*</c>", head)
    return {symbol: " ".join(title.split()) for symbol, title in rows}


def _cutoff(head: str) -> float | None:
    """Of the plane waves, eV: ENCUT, else ENMAX of the parameter list, which is what VASP took."""
    try:
        return float(_tag(head, "ENCUT") or _tag(head, "ENMAX") or "")
    except ValueError:
        return None


def _true(head: str, name: str) -> bool:
    return (_tag(head, name) or "F").strip(".").upper().startswith("T")


def _number(head: str, name: str, default: int) -> int:
    try:
        return int(_tag(head, name) or default)
    except ValueError:
        return default


def _dispersion(head: str) -> str | None:
    if _true(head, "LUSE_VDW"):
        return "vdW-DF"
    number = _number(head, "IVDW", 0)
    return _DISPERSION.get(number, f"IVDW={number}") if number else None


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
