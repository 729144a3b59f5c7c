"""The level of theory that VASP's tags mean: functional, +U, dispersion, cutoff."""

import re
from collections.abc import Mapping

from xclimb.data.theory import LevelOfTheory

_GGA = {
    "PE": "PBE", "PS": "PBEsol", "RP": "RPBE", "RE": "revPBE", "91": "PW91", "AM": "AM05", "CA": "LDA", "B5": "B5",
}  # fmt: skip
_METAGGA = {
    "R2SCAN": "r2SCAN", "R2SCA": "r2SCAN",  # the table of an OUTCAR has room for five letters
    "RSCAN": "rSCAN", "SCAN": "SCAN", "R2SCANL": "r2SCAN-L", "SCANL": "SCAN-L", "OFR2": "OFR2",
    "TPSS": "TPSS", "RTPSS": "revTPSS", "M06L": "M06-L", "MS0": "MS0", "MS1": "MS1", "MS2": "MS2", "MS": "MS",
}  # fmt: skip
# of the exchange-correlation table in the head of an OUTCAR
_LEXCH = {8: "PE", 14: "PS", 4: "RP", 3: "RE", 7: "91", 2: "CA"}
_DISPERSION = {
    1: "D2", 10: "D2", 11: "D3(0)", 12: "D3(BJ)", 13: "D4", 14: "libMBD", 15: "sDFT-D3", 2: "TS", 20: "TS", 21: "TS-HI",
    202: "MBD", 263: "MBD-FI", 3: "ULG", 4: "dDsC",
}  # fmt: skip
# GGA -> the non-local functional that its usual parameters make: ((PARAM1, Zab_vdW), name); None: any
_NONLOCAL: dict[str, list[tuple[tuple[float | None, float], str]]] = {
    "RE": [((None, -0.8491), "vdW-DF")],
    "OR": [((None, -0.8491), "optPBE-vdW")],
    "BO": [((0.1833, -0.8491), "optB88-vdW")],
    "MK": [((0.1234, -0.8491), "optB86b-vdW"), ((0.1234, -1.8867), "rev-vdW-DF2")],
    "ML": [((None, -1.8867), "vdW-DF2")],
    "CX": [((None, -0.8491), "vdW-DF-cx")],
    "BF": [((None, -1.8867), "BEEF-vdW")],
}
_RVV10 = {"SCAN": 15.7, "r2SCAN": 11.95, "rVV10": 6.3, "PBE": 10.0}  # BPARAM of the papers
_BPARAM = 6.3  # VASP's default

Tags = Mapping[str, str]  # by their names in capitals


def theory_of(
    tags: Tags, titles: dict[str, str] | None = None, hubbard: dict[str, float] | None = None, flavour: str | None = "e_0"
) -> LevelOfTheory:
    """The level of theory of a calculation. A functional whose tags are not known is unknown: it is never guessed.

    Args:
        tags: INCAR tags, or those of the parameter list.
        titles: element -> title of its POTCAR, ``"PAW_PBE Fe_pv 02Aug2007"``.
        hubbard: element -> U in eV, of elements with U > 0.
        flavour: which of VASP's energies the labels are.
    """
    titles = titles or {}
    family = next(iter(titles.values())).split()[0] if titles else None
    functional, dispersion = _functional(tags, family)
    if functional == "PBE" and hubbard:
        functional = "PBE+U"
    return LevelOfTheory(
        functional=functional,
        hubbard_u=hubbard or {},
        dispersion=dispersion or _dispersion(tags),
        pseudopotentials=family,
        potcar=titles,
        cutoff=_float(tags, "ENCUT") or _float(tags, "ENMAX"),
        code="VASP",
        energy_flavour=flavour,
    )


def hubbard_of(tags: Tags, symbols: list[str]) -> dict[str, float]:
    """Element -> U in eV of elements with U > 0; the order of the elements is that of the POTCAR."""
    if not _true(tags, "LDAU"):
        return {}
    try:
        values = [float(word) for word in re.split(r"[\s,\[\]]+", tags.get("LDAUU", "")) if word]
    except ValueError:
        return {}
    return {symbol: u for symbol, u in zip(symbols, values, strict=False) if u > 0}


def _functional(tags: Tags, family: str | None) -> tuple[str | None, str | None]:
    """Functional, and the dispersion that comes with it: that of rVV10 and of non-local functionals without a name."""
    gga = _semilocal(tags, family)
    meta = _word(tags, "METAGGA")
    meta = "" if meta in ("--", "NONE", "F", "FALSE") else meta
    base = _METAGGA.get(meta) if meta else _GGA.get(gga)
    if _true(tags, "LHFCALC"):
        return (None if meta else _hybrid(tags, gga)), None
    if not _true(tags, "LUSE_VDW"):
        return base, None
    if meta or _float(tags, "IVDW_NL") == 2 or (gga == "PE" and _float(tags, "BPARAM") == _RVV10["PBE"]):
        base = base if meta or gga != "ML" else "rVV10"
        strength = _float(tags, "BPARAM") or _BPARAM
        usual = base is not None and abs(strength - _RVV10.get(base, -1.0)) < 0.01
        return base, None if base == "rVV10" and usual else "rVV10" if usual else f"rVV10(b={strength:g})"
    return _nonlocal(tags, gga)


def _semilocal(tags: Tags, family: str | None) -> str:
    """The tag GGA, or what VASP takes where it is not set: the functional of the pseudopotentials."""
    gga = _word(tags, "GGA")
    if gga not in ("", "--"):
        return gga
    table = _float(tags, "LEXCH")
    if table is not None:
        return _LEXCH.get(int(table), "unknown")
    return {"PAW_PBE": "PE"}.get(family or "", "unknown")


def _nonlocal(tags: Tags, gga: str) -> tuple[str | None, str | None]:
    """Name of a van der Waals density functional; without a name, that there is one."""
    zab, first, second = _float(tags, "ZAB_VDW"), _float(tags, "PARAM1"), _float(tags, "PARAM2")
    zab = -0.8491 if zab is None else zab
    for (wanted, at), name in _NONLOCAL.get(gga, []):
        fits = wanted is None or first is None or abs(first - wanted) < 1e-3
        fits = fits and not (name == "rev-vdW-DF2" and (second is None or abs(second - 0.711357) > 1e-3))
        if fits and abs(zab - at) < 1e-3:
            return name, None
    return None, "vdW-DF"


def _hybrid(tags: Tags, gga: str) -> str | None:
    """Name of a hybrid by its exact exchange and screening; None where the values are not stated or not usual."""
    share, screening = _float(tags, "AEXX"), _float(tags, "HFSCREEN") or 0.0
    if share is None and "HFSCREEN" not in tags:
        return None
    share = 0.25 if share is None else share
    if gga == "B3":
        return "B3LYP" if abs(share - 0.2) < 1e-3 and not screening else None
    if gga != "PE":
        return None
    if abs(share - 1.0) < 1e-6 and _float(tags, "ALDAC") == 0.0 and _float(tags, "AGGAC") == 0.0:
        return "HF"
    if abs(share - 0.25) > 1e-6:
        return None
    if 0.19 < screening < 0.215:
        return "HSE06"
    return "HSE03" if abs(screening - 0.3) < 0.01 else None if screening else "PBE0"


def _dispersion(tags: Tags) -> str | None:
    number = int(_float(tags, "IVDW") or (1 if _true(tags, "LVDW") else 0))
    return _DISPERSION.get(number, f"IVDW={number}") if number else None


def _word(tags: Tags, name: str) -> str:
    """The first word of a value in capitals: behind it, an OUTCAR has an explanation."""
    words = tags.get(name, "").split()
    return words[0].strip(".").upper() if words else ""


def _true(tags: Tags, name: str) -> bool:
    return tags.get(name, "F").strip(". ").upper().startswith("T")


def _float(tags: Tags, name: str) -> float | None:
    try:
        return float(tags[name].split()[0])
    except (KeyError, ValueError, IndexError):
        return None
