"""Generated pairs of two functionals with planted element shifts, for timing :func:`xclimb.shift` at scale."""

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory

N_ELEMENTS = 89


def make_pairs(n_pairs: int, frames_each: int = 4, mean_atoms: int = 8, seed: int = 0) -> tuple[Frames, Frames]:
    """Two sets of the same random structures: energies of planted references, noise a material and a frame, forces, stress."""
    rng = np.random.default_rng(seed)
    n_materials = -(-n_pairs // frames_each)
    material = np.arange(n_pairs) // frames_each
    size = rng.integers(mean_atoms // 2, mean_atoms + mean_atoms // 2 + 1, n_materials)[material]
    offsets = np.concatenate([[0], np.cumsum(size)])
    palette = rng.integers(1, N_ELEMENTS + 1, (n_materials, 4)).astype(np.int32)
    palette[:N_ELEMENTS] = np.arange(1, N_ELEMENTS + 1)[: len(palette), None]  # pure elements: end points of formation energies
    system = np.repeat(np.arange(n_pairs), size)
    place = np.arange(offsets[-1]) - offsets[system]
    numbers = palette[material[system], (place + place // 4) % 4]
    atoms = len(numbers)
    cells = np.tile(np.eye(3), (n_pairs, 1, 1)) * np.cbrt(15.0 * size)[:, None, None]
    names = np.char.add("m-", material.astype(str))
    shared = {
        "numbers": numbers, "positions": rng.random((atoms, 3)) * cells[system, 0, 0][:, None], "cells": cells,
        "pbc": np.ones((n_pairs, 3), dtype=bool), "offsets": offsets, "material_id": names,
        "frame_id": np.char.add(names, np.char.add("-", (np.arange(n_pairs) % frames_each).astype(str))),
    }  # fmt: skip
    low_reference, step = rng.normal(-6.0, 2.0, 119), -0.0085 * np.arange(119.0) ** 2

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(system, values[numbers], n_pairs)

    bound = rng.normal(0.0, 0.4, n_materials)[material] + rng.normal(0.0, 0.05, n_pairs)
    noise = rng.normal(0.0, 0.06, n_materials)[material] + rng.normal(0.0, 0.01, n_pairs)
    low_energy = summed(low_reference) + size * bound
    forces, stress = rng.normal(0.0, 0.5, (atoms, 3)), rng.normal(0.0, 0.02, (n_pairs, 3, 3))
    low = Frames(**shared, energy=low_energy, forces=forces, stress=stress, theory=LevelOfTheory("PBE"))
    high = Frames(
        **shared,
        energy=low_energy + summed(step) + size * noise,
        forces=1.05 * forces + rng.normal(0.0, 0.05, (atoms, 3)),
        stress=stress + rng.normal(0.0, 0.004, (n_pairs, 3, 3)),
        theory=LevelOfTheory("r2SCAN"),
    )
    return low, high
