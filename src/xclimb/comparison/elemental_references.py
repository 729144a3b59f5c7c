"""Elemental references of formation energies: :class:`ElementalReferences`, the energy of each pure element."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xclimb.comparison.labelled_pair import LabellingPotential
from xclimb.data.frames import MAX_Z, Frames
from xclimb.errors import ConfigError
from xclimb.references.table import element_symbols

ElementalEnergies = Frames | Mapping | None


@dataclass(frozen=True, eq=False)
class ElementalReferences:
    """Energies of the elements at the low and the high level.

    Args:
        low: eV/atom by atomic number ``[119]``; NaN where not known.
        high: the same of the high level.
        supplied: whether the element's energies were supplied and not taken from the data ``[119]``.
    """

    low: np.ndarray
    high: np.ndarray
    supplied: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Whether both levels have the element ``[119]``."""
        return np.isfinite(self.low) & np.isfinite(self.high)


def resolve_elemental_references(
    low: Frames,
    high: Frames,
    ends_low: ElementalEnergies = None,
    ends_high: ElementalEnergies = None,
    potential: LabellingPotential | None = None,
) -> ElementalReferences:
    """Elemental references of both levels: supplied ones, else the most stable frame of the pure element among the data.

    Args:
        low: frames of the low level.
        high: frames of the high level.
        ends_low: frames of pure elements at the level of the low level, or ``{symbol: eV/atom}``.
        ends_high: the same for the high level.
        potential: whose predictions the low level are; it labels the frames of ``ends_high`` if ``ends_low`` is not given.

    Raises:
        ConfigError: on supplied frames that hold no pure element with an energy, or a symbol or energy that is none.
    """
    if ends_low is None and potential is not None and isinstance(ends_high, Frames):
        ends_low = potential.label(ends_high)
    given = [_supplied(energies, side) for energies, side in ((ends_low, "first"), (ends_high, "second"))]
    elemental = [elemental_energies(frames) for frames in (low, high)]
    first, second = (np.where(np.isfinite(mine), mine, theirs) for mine, theirs in zip(given, elemental, strict=True))
    return ElementalReferences(first, second, np.isfinite(given[0]) | np.isfinite(given[1]))


def elemental_energies(frames: Frames) -> np.ndarray:
    """Lowest energy per atom of each element among the frames of that element alone, eV/atom ``[119]``; NaN without one."""
    lowest = np.full(MAX_Z + 1, np.inf)
    filled = np.flatnonzero(frames.n_atoms > 0)
    if len(filled):
        starts = frames.offsets[filled]  # empty frames have no atoms, so these are the bounds of the others
        least, most = (extreme.reduceat(frames.numbers, starts) for extreme in (np.minimum, np.maximum))
        pure = (least == most) & np.isfinite(frames.energy[filled])
        np.minimum.at(lowest, least[pure], frames.energy_per_atom[filled[pure]])
    return np.where(np.isfinite(lowest), lowest, np.nan)


def _supplied(energies: ElementalEnergies, side: str) -> np.ndarray:
    if isinstance(energies, Frames):
        elemental = elemental_energies(energies)
        if not np.isfinite(elemental).any():
            raise ConfigError(
                f"the end points of the {side} side ({len(energies)} frames) hold no pure element with an energy: "
                "give frames of the elements, or energies per atom by symbol"
            )
        return elemental
    values, symbols = np.full(MAX_Z + 1, np.nan), element_symbols()
    for symbol, energy in (energies or {}).items():
        if symbol not in symbols[1:]:
            raise ConfigError(f"{symbol!r} among the end points of the {side} side is no element: write {{'Li': -1.9, ...}}")
        if not isinstance(energy, numbers.Real) or not math.isfinite(energy):
            raise ConfigError(f"the end point of {symbol} on the {side} side is {energy!r}: give its energy in eV/atom")
        values[symbols.index(symbol)] = energy
    return values
