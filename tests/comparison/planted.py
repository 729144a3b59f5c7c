"""Pairs of two functionals with everything planted: element shifts, noise, families, labels. All arrays, no loops."""

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory

ELEMENTS = np.array([1, 3, 8, 17, 26, 30])
STEPS = np.array([-0.1, -0.2, -0.9, -2.1, -6.0, -7.0])  # eV


def plant(rng, n_materials=60, frames_each=3, between=0.05, within=0.01, elements=ELEMENTS, steps=STEPS):
    """Low and high frames: every material has two or three elements; the shift is planted per element plus noise (eV/atom)."""
    size = 6
    count = len(elements)
    first = np.arange(n_materials) % count
    others = (first[:, None] + rng.integers(1, count, (n_materials, 2))) % count
    palette = np.column_stack([first, others])[:, [0, 0, 1, 1, 2, 2]]
    palette[np.arange(n_materials), rng.integers(0, size, n_materials)] = first
    material = np.repeat(np.arange(n_materials), frames_each)
    place = palette[material]  # [P, size]
    pairs = len(material)
    cells = np.tile(5.0 * np.eye(3), (pairs, 1, 1))
    shared = {
        "numbers": elements[place].ravel(), "positions": rng.random((pairs * size, 3)) * 5.0, "cells": cells,
        "pbc": np.ones((pairs, 3), dtype=bool), "offsets": size * np.arange(pairs + 1),
        "material_id": np.char.add("m", material.astype(str)),
    }  # fmt: skip
    noise = rng.normal(0, between, n_materials)[material] + rng.normal(0, within, pairs)
    energy = size * rng.normal(-5.0, 1.0, n_materials)[material]
    forces = rng.normal(0, 0.5, (pairs * size, 3))
    low = Frames(**shared, energy=energy, forces=forces, stress=np.zeros((pairs, 3, 3)), theory=LevelOfTheory("PBE"))
    high = low.replace(
        energy=energy + steps[place].sum(1) + size * noise,
        forces=1.1 * forces + rng.normal(0, 0.05, forces.shape),
        theory=LevelOfTheory("r2SCAN"),
    )
    return low, high
