"""Units, signs and tensor orders: the only file of the package with a conversion in it.

Inside xclimb: energies in eV, lengths in Å, forces in eV/Å, stress in eV/Å^3 with ASE's sign (tension positive,
sigma = (1/V) dE/d strain), magnetic moments in µB. Stress is shown to people in GPa.
"""

import numpy as np

GPA_PER_EV_A3 = 160.21766208  # CODATA 2014, as in ASE and chgnet
MEV_PER_EV = 1000.0
_KBAR_PER_GPA = 10.0
# Voigt order of ASE: xx yy zz yz xz xy
_VOIGT_ROWS = np.array([0, 1, 2, 1, 0, 0])
_VOIGT_COLUMNS = np.array([0, 1, 2, 2, 2, 1])
_FULL_FROM_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


def ev_a3_to_gpa(stress):
    """Stress from eV/Å^3 to GPa, any shape, array or tensor."""
    return stress * GPA_PER_EV_A3


def gpa_to_ev_a3(stress):
    """Stress from GPa to eV/Å^3, any shape, array or tensor."""
    return stress / GPA_PER_EV_A3


def vasp_kbar_to_ev_a3(stress):
    """Stress as VASP prints it (kbar, compression positive) to eV/Å^3 in ASE's sign."""
    return -gpa_to_ev_a3(np.asarray(stress, dtype=float) / _KBAR_PER_GPA)


def voigt_to_full(stress) -> np.ndarray:
    """Voigt stress ``[..., 6]`` (xx yy zz yz xz xy) to the symmetric tensor ``[..., 3, 3]``."""
    return np.asarray(stress, dtype=float)[..., _FULL_FROM_VOIGT]


def full_to_voigt(stress) -> np.ndarray:
    """Stress tensor ``[..., 3, 3]`` to Voigt ``[..., 6]``, off-diagonal pairs averaged."""
    full = np.asarray(stress, dtype=float)
    symmetric = 0.5 * (full + np.swapaxes(full, -1, -2))
    return symmetric[..., _VOIGT_ROWS, _VOIGT_COLUMNS]
