"""Two tables of elemental references side by side."""

import math
from dataclasses import dataclass

import numpy as np

from xclimb.errors import ReferencesError
from xclimb.references.table import AtomRef, element_symbols


@dataclass(frozen=True, eq=False)
class ReferenceComparison:
    """Two tables over all elements that either knows; statistics over the elements that both have from data.

    Args:
        symbols: element symbols ``[K]``.
        numbers: atomic numbers ``[K]``.
        first: energies of the first table, eV/atom ``[K]``; NaN where unknown.
        second: energies of the second table, eV/atom ``[K]``.
        difference: second minus first, eV/atom ``[K]``.
        both_covered: elements that data determined in both ``[K]``.
        mean: mean difference over ``both_covered``, eV/atom; NaN without such elements, as all that follow.
        std: standard deviation of the difference (population), eV/atom.
        correlation_z2: Pearson correlation of the difference with Z^2 (core electrons dominate the shift of two functionals).
        uncovered: elements up to Pu that no data determined, of the first table and of the second.
    """

    symbols: tuple[str, ...]
    numbers: np.ndarray
    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    both_covered: np.ndarray
    mean: float
    std: float
    correlation_z2: float
    uncovered: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __repr__(self) -> str:
        return f"ReferenceComparison({self.n_both} elements in both: {self.mean:+.3f} ± {self.std:.3f} eV/atom)"

    @property
    def n_both(self) -> int:
        """Number of elements that data determined in both tables."""
        return int(self.both_covered.sum())

    @property
    def largest(self) -> dict[str, float]:
        """The covered elements by size of their difference, largest first, eV/atom."""
        order = np.argsort(-np.abs(np.where(self.both_covered, self.difference, 0.0)), kind="stable")[: self.n_both]
        return {self.symbols[k]: float(self.difference[k]) for k in order}

    def rows(self) -> list[dict]:
        """One dictionary an element, for tables and JSON; unknown values are None."""
        columns = {"first": self.first, "second": self.second, "difference": self.difference}
        return [
            {"element": symbol, "z": int(self.numbers[k])}
            | {name: float(column[k]) if math.isfinite(column[k]) else None for name, column in columns.items()}
            | {"both_covered": bool(self.both_covered[k])}
            for k, symbol in enumerate(self.symbols)
        ]

    def to_dict(self) -> dict:
        """Dictionary for JSON."""
        numbers = {name: getattr(self, name) for name in ("mean", "std", "correlation_z2")}
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        gaps = {"uncovered": [list(symbols) for symbols in self.uncovered]}
        return {"n_both": self.n_both, **finite, **gaps, "elements": self.rows()}


def compare(first: AtomRef, second: AtomRef) -> ReferenceComparison:
    """Set two tables side by side: ``second - first`` for each element.

    Raises:
        ReferencesError: if neither table knows any element.
    """
    numbers = np.flatnonzero(first.known | second.known)
    if not len(numbers):
        raise ReferencesError("neither table has a reference energy to compare: give references that were fitted or read")
    difference = (second.values - first.values)[numbers]
    # an undetermined element has data, but its own value is a convention of the solver
    both = (first.determined & second.determined)[numbers]
    shown = difference[both]
    varied = len(shown) > 2 and float(shown.std()) > 0.0
    symbols = element_symbols()
    return ReferenceComparison(
        symbols=tuple(symbols[z] for z in numbers),
        numbers=numbers,
        first=first.values[numbers],
        second=second.values[numbers],
        difference=difference,
        both_covered=both,
        mean=float(shown.mean()) if len(shown) else math.nan,
        std=float(shown.std()) if len(shown) else math.nan,
        correlation_z2=float(np.corrcoef(shown, numbers[both].astype(float) ** 2)[0, 1]) if varied else math.nan,
        uncovered=(first.uncovered, second.uncovered),
    )
