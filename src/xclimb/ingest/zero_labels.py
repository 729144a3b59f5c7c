"""Forces and stresses that are zero because nobody computed them: exact zeros against what a potential predicts.

Exact zeros are right where symmetry demands them, and there every potential predicts zero too. A predicted force on an atom of
a frame whose forces are all exactly zero therefore says that they are no labels (left out, zero for fixed atoms, a flag of the
program that was off). Zeros that symmetry demands teach a potential nothing, so all of a set are distrusted with the first.
"""

import warnings
from collections.abc import Callable

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import XclimbWarning
from xclimb.models.potential import Potential
from xclimb.units import ev_a3_to_gpa

PREDICTED = 16  # frames with zeros that are predicted, at most
ATOMS = 400  # of them together
DOUBTED = {"forces": 0.1, "stress": 0.005}  # eV/Å, eV/Å^3 (0.8 GPa): predicted where a label is zero
_SHOWN = {"forces": (1.0, "eV/Å"), "stress": (float(ev_a3_to_gpa(1.0)), "GPa")}


def doubt(label: str, rows: np.ndarray, take: Callable[[np.ndarray], Frames], potential: Potential, seed: int = 0) -> str:
    """Evidence that exact zeros are no labels, with its numbers; empty if there is none.

    Args:
        label: ``"forces"`` or ``"stress"``.
        rows: the frames whose label is exactly zero.
        take: gives frames by their rows, ascending.
        potential: predicts a few of them.
        seed: of the choice of these.
    """
    some = take(np.sort(np.random.default_rng([seed, len(rows)]).permutation(rows)[: 4 * PREDICTED]))
    some = some[np.flatnonzero(potential.knows(some))]
    small = np.argsort(some.n_atoms, kind="stable")[:PREDICTED]
    few = some[small[np.cumsum(some.n_atoms[small]) <= max(ATOMS, int(some.n_atoms.min(initial=0)))]]
    if not len(few):
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XclimbWarning)  # references without data play no part
        predicted = potential.label(few.with_theory(LevelOfTheory()))
    largest = float(np.nan_to_num(np.abs(getattr(predicted, label))).max(initial=0.0))
    if largest <= DOUBTED[label]:
        return ""
    size, unit = _SHOWN[label]
    frames = f"{len(rows)} frame{'' if len(rows) == 1 else 's'}"
    evidence = f"the {label} of {frames} {'are' if label == 'forces' else 'is'} exactly zero"
    return f"{evidence}, where {potential.name} predicts up to {largest * size:.2g} {unit}: not computed, or set to zero"
