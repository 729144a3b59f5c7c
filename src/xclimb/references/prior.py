"""Prior of the element shifts between two functionals: tables as its mean, around it a Gaussian process.

shift(Z) = table(Z) + smooth(Z) + block(Z) + deviation(Z)                                                    (docs/method.md)

``smooth`` and ``block`` are Matérn-3/2 processes in Z; ``block`` is independent between the s, p, d and f blocks of each
period, where the number of core electrons of a pseudopotential jumps; ``deviation`` is independent between elements. Without a
table the mean is a quadratic in Z with a broad prior.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product

import numpy as np

from xclimb.data.theory import LevelOfTheory
from xclimb.references.table import TABLE_MAX_Z, AtomRef, element_symbols

N_ELEMENTS = TABLE_MAX_Z  # H to Pu; arrays of this module begin with hydrogen
NO_TABLE = "no table"
LENGTH = 10.0  # of the Matérn processes, in Z
_TREND = 30.0  # eV, of each coefficient of the quadratic in Z / 50
_OFFSET = 0.3  # eV, common to all elements, around a table
_GAP = 1.0  # eV, deviation of an element that a table lacks and its neighbours in Z stand for
# standard deviations, eV: of the smooth part, of the blocks, of the independent part; with a table and without
_WIDTHS = {
    True: tuple(product((0.05, 0.3, 1.5), (0.05, 0.3, 1.5), (0.03, 0.1, 0.3, 1.0))),
    False: tuple(product((0.5, 1.5, 5.0), (0.3, 1.0, 3.0), (0.03, 0.1, 0.3, 1.0))),
}
# prior probability of these, for smooth part, blocks and deviations around a table: shifts of one code are near it
_SIZES = ((0.6, 0.37, 0.03), (0.6, 0.37, 0.03), (0.3, 0.4, 0.25, 0.05))
# prior probability of each table, before the data decide; corrected: with the corrections of the source's anions
_CREDENCE = {"given": 0.5, "elemental crystals": 0.3, "isolated atoms": 0.15, "CHGNet AtomRef": 0.15, NO_TABLE: 0.05}
_SAME_FAMILY = ("PBE", "PBE+U", "GGA/GGA+U")


@dataclass(frozen=True, eq=False)
class PriorMean:
    """Expected shift of each element.

    Args:
        name: of the table, :data:`NO_TABLE` for none.
        values: eV ``[94]``, gaps filled from neighbours in Z.
        gaps: elements that the table lacks ``[94]``.
        probability: before any data.
        origin: where the table comes from: publication, package, licence.
        code: program that computed it, if known.
    """

    name: str
    values: np.ndarray
    gaps: np.ndarray
    probability: float
    origin: str = ""
    code: str | None = None

    @property
    def is_table(self) -> bool:
        """Whether there is a table, not only the smoothness over the periodic table."""
        return self.name != NO_TABLE


def prior_means(low: LevelOfTheory, high: LevelOfTheory, given: AtomRef | None = None) -> list[PriorMean]:
    """Every candidate for the mean of ``high - low``; probabilities sum to 1.

    Args:
        low: level of theory of the references that are shifted.
        high: level of theory of the data.
        given: shifts of the user's own, from elemental calculations or isolated atoms at both levels.
    """
    candidates = [_from_column("given", given.energies, _CREDENCE["given"], given.theory.code)] if given is not None else []
    shipped = _shipped()
    anions = shipped["corrections"]["anions"] if low.corrections == shipped["corrections"]["name"] else None
    for table in shipped["tables"]:
        shift = _difference(table["energies"], low.functional, high.functional)
        if shift is None:
            continue
        name, origin, code, credence = table["name"], table["origin"], table["code"], _CREDENCE[table["name"]]
        if anions and name != "CHGNet AtomRef":  # whose PBE column contains them already
            corrected = {symbol: value - anions.get(symbol, 0.0) for symbol, value in shift.items()}
            candidates.append(_from_column(f"{name}, anions corrected", corrected, credence / 2, code, origin))
            credence /= 2
        candidates.append(_from_column(name, shift, credence, code, origin))
    nothing = np.zeros(N_ELEMENTS)
    other_code = high.code is not None and low.code is not None and high.code != low.code
    doubt = 1.0 if other_code else _CREDENCE[NO_TABLE]  # tables of one code say little about the zero of another
    candidates.append(PriorMean(NO_TABLE, nothing, nothing.astype(bool), doubt))
    total = sum(one.probability for one in candidates)
    return [PriorMean(c.name, c.values, c.gaps, c.probability / total, c.origin, c.code) for c in candidates]


@cache
def _shipped() -> dict:
    return json.loads((files(__package__) / "tables" / "elements.json").read_text(encoding="utf-8"))


def same_family(one: str | None, other: str | None) -> bool:
    """Whether two functionals are one for the tables, in which +U plays no part."""
    return _family(one) == _family(other)


def _family(functional: str | None) -> str | None:
    return "PBE" if functional in _SAME_FAMILY else functional


def _difference(energies: dict[str, dict[str, float]], low: str | None, high: str | None) -> dict[str, float] | None:
    """``high - low`` by symbol; zero for one functional; None if the table lacks one of the two."""
    low, high = _family(low), _family(high)
    if low not in energies or high not in energies:
        return None
    return {symbol: value - energies[low][symbol] for symbol, value in energies[high].items() if symbol in energies[low]}


def _from_column(
    name: str, shift: dict[str, float], probability: float, code: str | None = None, origin: str = ""
) -> PriorMean:
    symbols = element_symbols()[1 : N_ELEMENTS + 1]
    values = np.array([shift.get(symbol, np.nan) for symbol in symbols])
    gaps, z = np.isnan(values), np.arange(N_ELEMENTS)
    return PriorMean(name, np.interp(z, z[~gaps], values[~gaps]), gaps, probability, origin, code)


# -- covariance over the periodic table -------------------------------------------------------------------------------------


def widths(table: bool) -> np.ndarray:
    """Standard deviations of smooth part, blocks and deviations, eV ``[W, 3]``."""
    return np.array(_WIDTHS[table])


def width_probability(table: bool) -> np.ndarray:
    """Probability of each row of :func:`widths` before the data ``[W]``."""
    if not table:
        return np.full(len(_WIDTHS[table]), 1.0 / len(_WIDTHS[table]))
    return np.array([np.prod(shares) for shares in product(*_SIZES)])


def covariances(table: bool, gaps: np.ndarray) -> np.ndarray:
    """Prior covariance for each row of :func:`widths`, eV^2 ``[W, 94, 94]``.

    Args:
        table: whether there is a table that the shifts deviate from.
        gaps: elements that it lacks ``[94]``.
    """
    z = np.arange(1, N_ELEMENTS + 1, dtype=np.float64)
    same_block = np.equal.outer(_blocks(), _blocks())
    if table:
        common = np.full((N_ELEMENTS, N_ELEMENTS), _OFFSET**2) + np.diag(_GAP**2 * gaps)
    else:
        powers = (z[:, None] / 50.0) ** np.arange(3)
        common = _TREND**2 * powers @ powers.T
    smooth, block, deviation = (widths(table) ** 2).T[:, :, None, None]  # [W, 1, 1] each
    return common + (smooth + block * same_block) * _matern(z) + deviation * np.eye(N_ELEMENTS)


def _matern(z: np.ndarray) -> np.ndarray:
    """Matérn-3/2 correlation ``[94, 94]``."""
    distance = np.sqrt(3.0) * np.abs(z[:, None] - z) / LENGTH
    return (1.0 + distance) * np.exp(-distance)


def _blocks() -> np.ndarray:
    """Number of the block, s, p, d or f of its period, of each element ``[94]``."""
    from pymatgen.core import Element

    elements = [Element.from_Z(z) for z in range(1, N_ELEMENTS + 1)]
    return np.array([10 * element.row + "spdf".index(element.block) for element in elements])
