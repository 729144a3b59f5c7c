"""Units, signs and tensor orders: the only file of the package with a conversion in it.

Inside xclimb: energies in eV, lengths in Å, forces in eV/Å, stress in eV/Å^3 with ASE's sign (tension positive,
sigma = (1/V) dE/d strain), magnetic moments in µB. Stress is shown to people in GPa.
"""

import math

import numpy as np

from xclimb.errors import ConfigError

GPA_PER_EV_A3 = 160.21766208  # CODATA 2014, as in ASE and chgnet
MEV_PER_EV = 1000.0
_KBAR_PER_GPA = 10.0
# Voigt order of ASE: xx yy zz yz xz xy
_VOIGT_ROWS = np.array([0, 1, 2, 1, 0, 0])
_VOIGT_COLUMNS = np.array([0, 1, 2, 2, 2, 1])
_FULL_FROM_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_HARTREE, _BOHR, _KJ_MOL = 27.211386245988, 0.529177210903, 0.01036426966  # eV, Å, eV; CODATA 2018
_ENERGY = {"eV": 1.0, "meV": 1e-3, "Ha": _HARTREE, "Ry": _HARTREE / 2, "kJ/mol": _KJ_MOL, "kcal/mol": 4.184 * _KJ_MOL}
# label -> unit -> its size in the unit of xclimb
LABEL_UNITS: dict[str, dict[str, float]] = {
    "energy": _ENERGY,
    "forces": {f"{name}/A": size for name, size in _ENERGY.items() if name not in ("Ha", "Ry")}
    | {"Ha/Bohr": _HARTREE / _BOHR, "Ry/Bohr": _HARTREE / 2 / _BOHR, "kJ/mol/nm": _KJ_MOL / 10},
    "stress": {
        "eV/A^3": 1.0,
        "GPa": 1.0 / GPA_PER_EV_A3,
        "kbar": 1.0 / (GPA_PER_EV_A3 * _KBAR_PER_GPA),
        "Ha/Bohr^3": _HARTREE / _BOHR**3,
    },
}


def ev_a3_to_gpa(stress):
    """Stress from eV/Å^3 to GPa, any shape, array or tensor."""
    return stress * GPA_PER_EV_A3


def gpa_to_ev_a3(stress):
    """Stress from GPa to eV/Å^3, any shape, array or tensor."""
    return stress / GPA_PER_EV_A3


def vasp_kbar_to_ev_a3(stress):
    """Stress as VASP prints it (kbar, compression positive) to eV/Å^3 in ASE's sign."""
    return -gpa_to_ev_a3(np.asarray(stress, dtype=float) / _KBAR_PER_GPA)


def virial_to_stress(virial, volume) -> np.ndarray:
    """Virials, eV ``[..., 3, 3]``, and cell volumes, Å^3 ``[...]``, to stress, eV/Å^3 ``[..., 3, 3]``.

    The stress is minus virial over volume (as in QUIP and GPUMD); NaN where there is no volume.
    """
    size = np.asarray(volume, dtype=float)[..., None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, -np.asarray(virial, dtype=float) / size, np.nan)


def voigt_to_full(stress) -> np.ndarray:
    """Voigt stress ``[..., 6]`` (xx yy zz yz xz xy) to the symmetric tensor ``[..., 3, 3]``."""
    return np.asarray(stress, dtype=float)[..., _FULL_FROM_VOIGT]


def full_to_voigt(stress) -> np.ndarray:
    """Stress tensor ``[..., 3, 3]`` to Voigt ``[..., 6]``, off-diagonal pairs averaged."""
    full = np.asarray(stress, dtype=float)
    symmetric = 0.5 * (full + np.swapaxes(full, -1, -2))
    return symmetric[..., _VOIGT_ROWS, _VOIGT_COLUMNS]


def label_unit(label: str, unit: str) -> tuple[float, bool]:
    """The size of a unit, and whether energies in it are per atom.

    Args:
        label: ``"energy"``, ``"forces"`` or ``"stress"``.
        unit: a name (``"Ha"``, ``"kbar"``), with ``-`` before it where the sign is the other one (VASP's stress: ``"-kbar"``;
            gradients in place of forces) and ``/atom`` behind it for energies per atom; or a number of eV, eV/Å, eV/Å^3.

    Raises:
        ConfigError: on an unknown unit.
    """
    plain = unit.strip().removesuffix("/atom") if label == "energy" else unit.strip()
    sign, name = (-1.0, plain[1:]) if plain.startswith("-") else (1.0, plain)
    size = LABEL_UNITS[label].get(name.replace("Å", "A"))
    if size is None:
        try:
            size = float(name)
        except ValueError:
            size = math.nan
    if not math.isfinite(size) or size == 0.0:
        raise ConfigError(f"{unit!r} is no unit of {label}: give {', '.join(LABEL_UNITS[label])}, or its size as a number")
    return sign * size, plain != unit.strip()
