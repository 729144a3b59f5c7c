"""Bulk modulus out of strained frames."""

import math

import numpy as np
import pytest

from xclimb.comparison.bulk import bulk_modulus
from xclimb.data.frames import Frames
from xclimb.units import GPA_PER_EV_A3


def strained(moduli, strains=(-0.03, 0.0, 0.03)) -> Frames:
    """One atom a frame; the pressure of each material is -B ln(V / V0) and a constant of its own."""
    count = len(moduli) * len(strains)
    volumes = np.tile(20.0 * np.exp(strains), len(moduli))
    pressure = -np.repeat(moduli, len(strains)) * np.tile(strains, len(moduli)) + np.repeat(
        np.arange(len(moduli)), len(strains)
    )
    return Frames(
        numbers=np.full(count, 13),
        positions=np.zeros((count, 3)),
        cells=np.cbrt(volumes)[:, None, None] * np.eye(3),
        pbc=np.ones((count, 3), dtype=bool),
        offsets=np.arange(count + 1),
        energy=np.zeros(count),
        stress=-(pressure / GPA_PER_EV_A3)[:, None, None] * np.eye(3),
        material_id=np.repeat([f"m{k}" for k in range(len(moduli))], len(strains)),
    )


def test_median_over_materials():
    found, materials = bulk_modulus(strained([50.0, 120.0, 400.0]))
    assert found == pytest.approx(120.0)
    assert materials == 3


def test_nothing_without_strain_or_stress():
    assert math.isnan(bulk_modulus(strained([50.0, 120.0, 400.0], (0.0, 0.001)))[0])
    assert math.isnan(bulk_modulus(strained([50.0, 120.0]))[0])
    frames = strained([50.0, 120.0, 400.0])
    assert bulk_modulus(frames.replace(stress=None)) == pytest.approx((math.nan, 0), nan_ok=True)
