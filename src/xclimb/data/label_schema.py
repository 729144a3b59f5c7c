"""Recognition of labels by the names of their keys: :class:`LabelSchema`, and :class:`LabelUse`, its record."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xclimb.data.columns import LABELS
from xclimb.data.label_keys import LabelKeys
from xclimb.data.theory import functional_name, is_known_functional
from xclimb.errors import DataError
from xclimb.units import virial_to_stress, voigt_to_full

# word of a key -> the quantity it names
_WORDS = {
    "energy": "energy", "total_energy": "energy", "free_energy": "energy", "potential_energy": "energy", "etot": "energy",
    "toten": "energy", "forces": "forces", "force": "forces", "stress": "stress", "virial": "virial", "virials": "virial",
    "magmoms": "magmoms", "magmom": "magmoms", "magnetic_moments": "magmoms",
}  # fmt: skip
# what may stand before or behind the word in the name of a reference calculation, besides a functional; of all others
# (MACE_energy, formation_energy) nobody knows what they are
_ORIGINS = (
    "ref", "reference", "dft", "qm", "gt", "true", "target", "label", "ab_initio", "abinitio",
    "vasp", "qe", "cp2k", "castep", "aims", "gpaw", "orca", "siesta", "abinit",
)  # fmt: skip
_ALIKE = {"rtol": 1e-6, "atol": 1e-5}  # two keys with the same values


class ParsedKey(NamedTuple):
    """A key taken apart: the quantity, what stands around its word in lower case, and whether that is known."""

    quantity: str
    affix: str
    known: bool


@lru_cache(maxsize=4096)
def parse_key(key: str) -> ParsedKey | None:
    """Take a key such as ``"REF_energy"``, ``"energy_dft"`` or ``"Force"`` apart; None if it names no label."""
    low = key.lower()
    for word in sorted(_WORDS, key=len, reverse=True):
        if word not in low:
            continue
        before, _, after = low.partition(word)
        if before and after:
            continue
        affix = (before or after).strip("_-. ")
        separated = not affix or before.endswith(("_", "-", ".", " ")) or after.startswith(("_", "-", ".", " "))
        known = not affix or affix in _ORIGINS or is_known_functional(affix)
        if separated or known:
            return ParsedKey(_WORDS[word], affix, known)
    return None


@dataclass
class LabelUse:
    """Record of the keys of a file that were read as labels, where they are not the usual, and of those that were not read.

    Args:
        taken: key -> label.
        left: key that names a label -> why it was not read.
        known: keys read as labels, the usual ones included.
    """

    taken: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def add(self, other: "LabelUse") -> None:
        """Join the record of further frames."""
        self.taken |= other.taken
        self.left |= other.left
        self.known |= other.known

    def describe_used(self) -> str:
        """Labels and their keys, in words: ``"energy from REF_energy"``."""
        return ", ".join(f"{label} from {key}" for key, label in self.taken.items())

    def describe_unused(self) -> str:
        """Keys that were not read, why, and the argument that takes the first of them; empty if there are none."""
        if not self.left:
            return ""
        order = list(dict.fromkeys(_WORDS.values()))
        quantity = {key: parsed.quantity if (parsed := parse_key(key)) else order[0] for key in self.left}
        left = sorted(self.left.items(), key=lambda item: order.index(quantity[item[0]]))
        reasons = dict.fromkeys(why for _, why in left)
        reasons_text = "; ".join(f"{', '.join(key for key, why in left if why == reason)} {reason}" for reason in reasons)
        first = left[0][0]
        name = quantity[first].removesuffix("s") if quantity[first] == "magmoms" else quantity[first]
        return f"not read as labels: {reasons_text}; to take one, give {name}_key={first!r}"


def missing_key(name: str, quantity: str, key: str, names: Iterable[str]) -> DataError:
    """An error about a key that the user gives and a file does not have.

    Args:
        name: the file.
        quantity: what is looked for, as in :class:`LabelKeys`.
        key: the key.
        names: the keys of the file.
    """
    labels = [one for one in names if parse_key(one) is not None]
    others = [one for one in names if one not in labels]
    article = {"energy": "an energy", "stress": "a stress", "virial": "a virial"}.get(quantity, quantity)
    there = f"its labels are {', '.join(labels) or 'none'}" + (f", its other keys {', '.join(others)}" if others else "")
    way = f"where files name their labels differently, make a store of this one first, with its own {quantity}_key=..."
    return DataError(f"{name}: no frame has {article} under {key!r}; {there}; {way}")


class _Candidate(NamedTuple):
    key: str
    affix: str
    value: np.ndarray


class LabelSchema:
    """Labels of frames out of whatever keys they have: those that the user gives, the usual ones, and unambiguous others.

    A label is recognised under its own name and synonyms (``force``, ``total_energy``, ``virials``; stress is minus virial over
    volume), also with the name of a reference calculation before or behind it (``REF_``, ``dft_``, ``_pbe``, ...). If two keys
    hold different values, or belong to two functionals, neither is read, nor what else stands under their prefixes.

    Args:
        keys: names that the user gives. With that of the energy, other labels must stand under the same prefix.
        functional: the functional that the user names: where keys name several, which to read.
    """

    def __init__(self, keys: LabelKeys | None = None, functional: str | None = None):
        self.keys, self.use = keys or LabelKeys(), LabelUse()
        self.given = self.keys.columns()
        self.wanted = functional_name(functional) if functional else None
        self.functionals: dict[str, None] = {}
        self.vectors: set[str] = set()  # keys of moments that are vectors

    def labels(self, values: Mapping[str, Any], per_atom: Mapping[str, Any], n_atoms: int, volume: float) -> dict[str, Any]:
        """The labels of one frame, NaN where missing.

        Args:
            values: everything by key that the frame states.
            per_atom: the part of it with one row an atom.
            n_atoms: number of atoms.
            volume: of the cell, Å^3; 0 where there is none.

        Raises:
            DataError: on a label under its usual or a given name that does not fit the frame.
        """
        shapes: dict[str, tuple[int, ...]] = {"energy": (), "forces": (n_atoms, 3), "stress": (3, 3), "magmoms": (n_atoms,)}
        candidates: dict[str, list[_Candidate]] = {label: [] for label in LABELS}
        for key, parsed in self._readable(tuple(values)):
            label = "stress" if parsed.quantity == "virial" else parsed.quantity
            sure = key in LABELS or key in self.given.values()
            if not sure and _is_of_frame(label, key, values, per_atom):
                continue
            value = _decoded(values[key], shapes[label], key, sure)
            if value is None:
                self.use.left[key] = "(does not fit the frame)"
            elif not np.isnan(value).all():
                virial = parsed.quantity == "virial"
                vectors = label == "magmoms" and np.ndim(values[key]) == 2 and np.shape(values[key])[1] == 3
                self.vectors |= {key} if vectors else set()
                candidates[label].append(_Candidate(key, parsed.affix, virial_to_stress(value, volume) if virial else value))
        chosen = self._chosen(candidates)
        for key in values:
            named = parse_key(key)
            if named is None:
                continue
            label = "stress" if named.quantity == "virial" else named.quantity
            if label not in chosen and not _is_of_frame(label, key, values, per_atom):
                self.use.left.setdefault(key, "(not under the key given)" if named.known else "(unknown name)")
        return {label: chosen[label].value if label in chosen else np.full(shapes[label], np.nan) for label in LABELS}

    def _readable(self, names: tuple[str, ...]) -> Iterator[tuple[str, ParsedKey]]:
        """Keys that may hold a label, those given and the usual ones first."""
        parsed = {key: one for key in names if (one := parse_key(key)) is not None}
        for quantity, key in self.given.items():
            if key in names:
                yield key, ParsedKey(quantity, self._affix(key), True)
        taken = {"stress", "virial"} if {"stress", "virial"} & self.given.keys() else set()
        taken |= self.given.keys()
        allowed = self._allowed(parsed)
        for key in sorted(parsed, key=lambda key: (key not in LABELS, parsed[key].affix != "")):
            one = parsed[key]
            if key in self.given.values() or one.quantity in taken:
                continue
            if one.known if allowed is None else one.affix in allowed:
                yield key, one

    def _affix(self, key: str) -> str:
        parsed = parse_key(key)
        return parsed.affix if parsed else ""

    def _allowed(self, parsed: dict[str, ParsedKey]) -> set[str] | None:
        """Affixes allowed around the words of keys; None: all known ones."""
        if self.keys.energy is not None:
            return {self._affix(self.keys.energy)}
        affixes = {one.affix for one in parsed.values() if one.affix}
        if self.wanted is not None and (mine := {affix for affix in affixes if functional_name(affix) == self.wanted}):
            return mine
        return None

    def _chosen(self, candidates: dict[str, list[_Candidate]]) -> dict[str, _Candidate]:
        """One candidate a label; none where they disagree."""
        affixes = {one.affix for many in candidates.values() for one in many}
        levels = {affix for affix in affixes if is_known_functional(affix)}
        bad = levels if len({functional_name(level) for level in levels}) > 1 else set()
        unsure: set[str] = set()
        for label, many in candidates.items():
            rivals = _rivals(many)
            if rivals:
                apart = {one.affix for one in rivals}
                bad, unsure = (bad | apart, unsure) if len(apart) > 1 else (bad, unsure | {label})
        chosen = {}
        for label, many in candidates.items():
            good = [one for one in many if one.affix not in bad and label not in unsure]
            for one in many:
                if one not in good:
                    self.use.left[one.key] = "(they disagree)"
            if good:
                chosen[label] = good[0]
                self._record(label, good[0])
        return chosen

    def _record(self, label: str, one: _Candidate) -> None:
        self.use.known.add(one.key)
        if one.key != label or one.key in self.vectors:
            self.use.taken[one.key] = f"{label} (sizes of vectors)" if one.key in self.vectors else label
        if is_known_functional(one.affix):
            self.functionals[functional_name(one.affix)] = None


def _is_of_frame(label: str, key: str, values: Mapping[str, Any], per_atom: Mapping[str, Any]) -> bool:
    """Whether a key that names a label of atoms is one number of the whole frame: a largest force, a total moment."""
    return label in ("forces", "magmoms") and key not in per_atom and np.ndim(values[key]) == 0


def _rivals(many: list[_Candidate]) -> list[_Candidate]:
    """Candidates of one label, if they disagree; a free energy does not compete with an energy beside it."""
    affixes = {one.affix for one in many if "free_energy" not in one.key.lower()}
    rest = [one for one in many if "free_energy" not in one.key.lower() or one.affix not in affixes]
    same = all(np.allclose(one.value, rest[0].value, equal_nan=True, **_ALIKE) for one in rest[1:])
    return [] if same else rest


def _decoded(value: Any, shape: tuple[int, ...], key: str, sure: bool) -> np.ndarray | None:
    """A label as an array of its shape (vectors of moments as their sizes); None if it does not fit.

    Raises:
        DataError: if it does not fit, and is sure to be the label.
    """
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        if sure:
            raise DataError(f"{key} is no number(s): {str(value)[:40]!r}") from None
        return None
    if shape == (3, 3) and array.size in (6, 9):
        return voigt_to_full(array.reshape(6)) if array.size == 6 else array.reshape(3, 3)
    if len(shape) == 1 and array.shape == (*shape, 3):
        return np.linalg.norm(array, axis=1)
    if array.shape == shape or (array.size == int(np.prod(shape)) and array.ndim <= 2):
        return array.reshape(shape)
    if sure:
        raise DataError(f"{key} has shape {array.shape}, expected {shape}")
    return None
