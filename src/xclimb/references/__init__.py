"""Elemental reference energies (AtomRef): a linear model of composition, its fits, uncertainties and coverage.

The total energy of a potential is its network's interaction energy plus one reference energy an atom. Two functionals differ
mostly in these references, which is why they are refitted before a potential is transferred (Huang et al., arXiv 2504.05565).
``table`` holds the energies, ``fitting`` fits them to frames, ``linear`` is the numerics of least squares, ``prior`` and
``regression`` those of ``informed`` references, ``comparison`` sets two tables side by side.
"""

from xclimb.references.comparison import ReferenceComparison, compare
from xclimb.references.fitting import KINDS, HasInteraction, fit_references, prior_references
from xclimb.references.table import AtomRef

__all__ = ["KINDS", "AtomRef", "HasInteraction", "ReferenceComparison", "compare", "fit_references", "prior_references"]
