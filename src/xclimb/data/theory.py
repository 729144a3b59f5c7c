""":class:`LevelOfTheory`: settings of the calculations behind a set of energies, and which of them may be mixed."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

from xclimb.errors import TheoryError

# spellings seen in files, INCARs and papers -> the one name used here
_FUNCTIONALS = {
    "pbe": "PBE", "gga": "PBE", "pe": "PBE", "gga-pbe": "PBE",
    "pbe+u": "PBE+U", "gga+u": "PBE+U", "pbe_u": "PBE+U",
    "gga/gga+u": "GGA/GGA+U", "gga_gga+u": "GGA/GGA+U", "pbe/pbe+u": "GGA/GGA+U",
    "r2scan": "r2SCAN", "r2-scan": "r2SCAN", "r²scan": "r2SCAN", "scan": "SCAN", "rscan": "rSCAN",
    "pbesol": "PBEsol", "lda": "LDA", "hse": "HSE06", "hse06": "HSE06", "pbe0": "PBE0", "rpa": "RPA",
}  # fmt: skip
# less usual ones, each with one spelling
_RARE = (
    "PW91", "AM05", "RPBE", "revPBE", "rVV10", "vdW-DF", "vdW-DF2", "rev-vdW-DF2", "vdW-DF-cx", "optPBE-vdW", "optB88-vdW",
    "optB86b-vdW", "BEEF-vdW", "mBEEF", "TPSS", "revTPSS", "M06-L", "MS0", "MS1", "MS2", "SCAN-L", "r2SCAN-L", "r4SCAN", "OFR2",
    "B97M-V", "HSE03", "HSEsol", "B3LYP", "r2SCAN0", "HF",
)  # fmt: skip
_SPELLINGS = {name.lower(): name for name in _RARE} | _FUNCTIONALS
OTHER = "other:"  # before a functional that is not in this list, and is meant
_ADDITION = re.compile(r"[-+](?:d[234]\b.*|u|rvv10|ts|mbd)$")  # a functional with a dispersion correction or +U


def functional_name(name: str) -> str:
    """The one spelling of a functional: ``"R2SCAN"`` -> ``"r2SCAN"``; an unknown name is kept, without ``"other:"``."""
    name = name.strip().removeprefix(OTHER)
    return _SPELLINGS.get(name.lower(), name)


def check_functional(name: str) -> None:
    """Refuse a functional that the user names and nobody knows: a slip in it would be the level of theory of everything.

    Raises:
        TheoryError: with the names that are near, or those that are known.
    """
    short = name.strip().lower()
    if short.startswith(OTHER) or not _SPELLINGS.keys().isdisjoint((short, _ADDITION.sub("", short))):
        return
    near = dict.fromkeys(_SPELLINGS[one] for one in get_close_matches(short, _SPELLINGS, n=3))
    hint = f"did you mean {' or '.join(near)}?" if near else f"usual ones are {', '.join(dict.fromkeys(_FUNCTIONALS.values()))}"
    raise TheoryError(f"no functional called {name!r} is known: {hint} (if it is meant: {OTHER}{name.strip()})")


def is_known_functional(name: str) -> bool:
    """Whether the name is one of the usual functionals, in any of its spellings."""
    return name.strip().lower() in _FUNCTIONALS


# rungs of Jacob's ladder
_RUNGS = {
    "LDA": 1, "PBE": 2, "PBE+U": 2, "GGA/GGA+U": 2, "PBEsol": 2, "SCAN": 3, "rSCAN": 3, "r2SCAN": 3, "HSE06": 4, "PBE0": 4,
    "RPA": 5,
}  # fmt: skip


def rung(functional: str | None) -> int:
    """Rung of a functional on Jacob's ladder, from 1 (LDA) to 5; 0 of unknown ones."""
    return _RUNGS.get(functional or "", 0)


# fields that may be unknown; of the others, nothing stated means none
MAY_BE_UNKNOWN = ("pseudopotentials", "potcar", "cutoff", "code", "energy_flavour")


@dataclass(frozen=True)
class LevelOfTheory:
    """Level of theory of the labels of a data set, or of the outputs of a potential.

    Args:
        functional: exchange-correlation functional, one of the usual names (``"PBE"``, ``"r2SCAN"``, ...); None if unknown.
        hubbard_u: element symbol -> U in eV; empty for none.
        dispersion: name of the dispersion correction (``"D3(BJ)"``); None for none.
        pseudopotentials: family of the pseudopotentials, if known.
        potcar: element symbol -> title of its pseudopotential, of the elements where it is known.
        cutoff: of the plane waves, eV, if known.
        code: program that computed the labels, if known.
        energy_flavour: which of a code's energies the labels are, if known (``"e_0"``: extrapolated to zero smearing;
            ``"free"``).
        corrections: empirical corrections contained in the energies (``"MP2020"``); None for none.
    """

    functional: str | None = None
    hubbard_u: dict[str, float] = field(default_factory=dict)
    dispersion: str | None = None
    pseudopotentials: str | None = None
    potcar: dict[str, str] = field(default_factory=dict)
    cutoff: float | None = None
    code: str | None = None
    energy_flavour: str | None = None
    corrections: str | None = None

    def __post_init__(self):
        if self.functional is not None:
            object.__setattr__(self, "functional", functional_name(self.functional))

    def __str__(self) -> str:
        parts = [self.functional or "unknown functional"]
        if self.hubbard_u:
            parts.append("U(" + ", ".join(f"{el} {u:g}" for el, u in sorted(self.hubbard_u.items())) + ")")
        parts += [part for part in (self.dispersion, self.corrections, self.code) if part]
        return " + ".join(parts[:1]) + "".join(f", {part}" for part in parts[1:])

    def differences(self, other: "LevelOfTheory") -> dict[str, tuple]:
        """Fields in which the two disagree; a field that one level does not state is no disagreement.

        The functional, +U values, dispersion and corrections always count: there, "none" is a statement. What is in
        :data:`MAY_BE_UNKNOWN` counts only where both sides state it, pseudopotentials element by element.
        """
        differing = {}
        for name in asdict(self):
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "potcar":
                both = [symbol for symbol in mine if theirs.get(symbol, mine[symbol]) != mine[symbol]]
                mine, theirs = ({symbol: side[symbol] for symbol in both} for side in (mine, theirs))
            unstated = name in MAY_BE_UNKNOWN and (mine is None or theirs is None)
            if mine != theirs and not unstated:
                differing[name] = (mine, theirs)
        return differing

    def require_same(self, other: "LevelOfTheory", what: str) -> None:
        """Refuse to mix two levels of theory.

        Args:
            other: the level to compare with.
            what: what is about to be mixed, for the message ("the frames to concatenate").

        Raises:
            TheoryError: naming every difference and how to say that the mix is meant.
        """
        differing = self.differences(other)
        if differing:
            detail = "; ".join(f"{name}: {_text(mine)} against {_text(theirs)}" for name, (mine, theirs) in differing.items())
            way = "give both the same one with frames.with_theory(...) or functional=..."
            if differing.keys() <= set(MAY_BE_UNKNOWN):
                way = f"ingest them with mix='{','.join(differing)}', or {way}"
            raise TheoryError(f"{what} are at different levels of theory ({detail}); if they belong together, {way}")

    def joined(self, other: "LevelOfTheory") -> "LevelOfTheory":
        """Join the fields that two compatible levels state."""
        known = {name: getattr(other, name) for name in MAY_BE_UNKNOWN if getattr(self, name) is None}
        return replace(self, **known | {"potcar": other.potcar | self.potcar})

    def without(self, names: Iterable[str]) -> "LevelOfTheory":
        """The same level that leaves some of :data:`MAY_BE_UNKNOWN` unstated.

        Raises:
            TheoryError: on any other field: there, unstated means none.
        """
        wrong = [name for name in names if name not in MAY_BE_UNKNOWN]
        if wrong:
            raise TheoryError(f"levels that differ in {wrong[0]!r} cannot be mixed: only {', '.join(MAY_BE_UNKNOWN)} can")
        blank: dict[str, Any] = {name: {} if name == "potcar" else None for name in names}
        return replace(self, **blank)

    def with_functional(self, functional: str) -> "LevelOfTheory":
        """The same level with another functional."""
        return replace(self, functional=functional)

    def to_dict(self) -> dict:
        """Dictionary for JSON; unset fields left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, {})}

    @classmethod
    def from_dict(cls, fields: dict) -> "LevelOfTheory":
        """The inverse of :meth:`to_dict`.

        Raises:
            TheoryError: on a field this version does not know, or a value of the wrong type.
        """
        if not isinstance(fields, dict):
            raise TheoryError(f"a level of theory is a dictionary of its fields, not {type(fields).__name__}")
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise TheoryError(
                f"unknown level-of-theory field(s) {sorted(unknown)}; known are {sorted(cls.__dataclass_fields__)}"
            )
        wrong = [name for name, value in fields.items() if not _fits(name, value)]
        if wrong:
            raise TheoryError(f"level-of-theory field {wrong[0]} cannot be {_text(fields[wrong[0]])[:60]}")
        return cls(**fields)


def _fits(name: str, value: Any) -> bool:
    """Whether the value of a field has its type."""
    if name in ("hubbard_u", "potcar"):
        kind = str if name == "potcar" else int | float
        return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in value.items())
    return value is None or isinstance(value, int | float if name == "cutoff" else str)


def _text(value) -> str:
    return (
        ", ".join(f"{name} {detail}" for name, detail in value.items())
        if value and isinstance(value, dict)
        else str(value or "none")
    )
