"""Bulk modulus out of frames of one material at several volumes: it turns a difference of pressure into one of volume."""

import math

import numpy as np

from xclimb.data.frames import Frames
from xclimb.units import ev_a3_to_gpa

TYPICAL = 100.0  # GPa, where the data do not say: between salts (20) and hard oxides or carbides (over 200)
FEWEST = 3  # materials
_STRAINED = 0.01  # standard deviation of ln V over the frames of a material


def bulk_modulus(frames: Frames) -> tuple[float, int]:
    """Median over materials of B = -dP / d ln V, by least squares over the frames of each, GPa; and the number of materials.

    Only materials whose frames differ in volume count (standard deviation of ln V over 1 %). NaN below three of them.

    Args:
        frames: labelled structures; those without stress or volume are left out.
    """
    stress = ev_a3_to_gpa(frames.stress)
    volume = frames.volumes / frames.n_atoms
    rows = np.flatnonzero(np.isfinite(stress).all(axis=(1, 2)) & (volume > 0.0))
    if not len(rows):
        return math.nan, 0
    _, group = np.unique(frames.material_id[rows], return_inverse=True)
    count = np.bincount(group)
    pressure, strain = -np.trace(stress[rows], axis1=1, axis2=2) / 3.0, np.log(volume[rows])
    strain = strain - (np.bincount(group, strain) / count)[group]
    spread, slope = np.bincount(group, strain**2), np.bincount(group, strain * pressure)
    strained = spread > count * _STRAINED**2
    if strained.sum() < FEWEST:
        return math.nan, int(strained.sum())
    return float(np.median(-slope[strained] / spread[strained])), int(strained.sum())
