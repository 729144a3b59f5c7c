"""The Materials Project's 2020 corrections of GGA and GGA+U energies, by pymatgen, for frames."""

import warnings

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory

NAME = "MP2020"
_MIXED = "GGA/GGA+U"  # +U where the Materials Project uses it
_FAMILY = ("PBE", "PBE+U", _MIXED)


def inapplicable_reason(theory: LevelOfTheory) -> str | None:
    """Reason that MP2020 corrections have no meaning for energies at a level of theory; None if they have."""
    if theory.functional not in _FAMILY:
        named = theory.functional or "an unknown functional"
        return f"MP2020 corrections are made for GGA and GGA+U energies; the low side is {named}"
    if theory.corrections not in (None, NAME):
        return f"the low side contains other corrections ({theory.corrections}) than MP2020"
    if theory.functional == "PBE+U" and not theory.hubbard_u:
        return "the low side is PBE+U, but its U values are not known: state them in its level of theory"
    return None


def mp2020_corrections(frames: Frames) -> np.ndarray:
    """Correction of each frame, eV/atom ``[S]``; NaN where the scheme refuses it (a U value that is not the expected one).

    Anions are recognised by guessed oxidation states, peroxides by distances (Wang et al., Sci. Rep. 11, 15496, 2021).
    ``"GGA/GGA+U"`` stands for +U where the Materials Project uses it. Pseudopotentials are not checked.
    """
    from pymatgen.analysis.compatibility import CompatibilityError, MaterialsProject2020Compatibility
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    result = np.full(len(frames), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about each composition whose oxidation states cannot be guessed
        for s, structure in enumerate(frames.to_pymatgen()):
            hubbards = _hubbards(structure.composition, frames.theory, scheme.u_settings)
            parameters = {"run_type": "GGA+U" if hubbards else "GGA", "hubbards": hubbards, "software": "unknown"}
            entry = ComputedStructureEntry(structure, 0.0, parameters=parameters)
            try:
                result[s] = sum(one.value for one in scheme.get_adjustments(entry)) / len(structure)
            except CompatibilityError:
                continue
    return result


def _hubbards(composition, theory: LevelOfTheory, expected: dict) -> dict[str, float]:
    """U values of a compound, eV, by symbol; those of the Materials Project in its mixed set."""
    symbols = [element.symbol for element in composition.elements]
    used = theory.hubbard_u
    if theory.functional == _MIXED:
        used = expected.get(max(composition.elements, key=lambda element: element.X).symbol, {}) if len(symbols) > 1 else {}
    return {symbol: float(used[symbol]) for symbol in symbols if used.get(symbol)}
