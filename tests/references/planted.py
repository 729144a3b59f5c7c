"""Made-up compounds with known elemental references, and a made-up potential."""

from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_numbers

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.references import AtomRef

TRUTH = {"H": -1.1, "Li": -2.3, "O": -8.4, "Na": -1.7, "Al": -4.2, "Si": -6.3, "Cl": -3.1, "Fe": -9.6, "Zn": -2.9, "Bi": -5.5}


@dataclass
class FakePotential:
    """A potential whose network says whatever it is told per frame id."""

    interaction: dict[str, float]
    references: AtomRef
    theory: LevelOfTheory = field(default_factory=LevelOfTheory)

    def interaction_energy(self, frames: Frames) -> np.ndarray:
        return np.array([self.interaction[name] for name in frames.frame_id])


def frames_of(compositions, energies, materials=None, functional="r2SCAN") -> Frames:
    """Frames with the given ``{symbol: count}`` and total energies; positions play no part here."""
    numbers = [np.repeat([atomic_numbers[s] for s in c], list(c.values())) for c in compositions]
    sizes = [len(n) for n in numbers]
    size = len(compositions)
    return Frames(
        numbers=np.concatenate(numbers),
        positions=np.zeros((sum(sizes), 3)),
        cells=np.tile(5.0 * np.eye(3), (size, 1, 1)),
        pbc=np.ones((size, 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        energy=np.array(energies, dtype=float),
        frame_id=np.array([f"f{s}" for s in range(size)]),
        material_id=np.array(materials or [f"m{s}" for s in range(size)]),
        theory=LevelOfTheory(functional),
    )


def planted(rng, n_materials=40, frames_each=(4, 5), between=0.05, within=0.01, truth=TRUTH) -> Frames:
    """Random compounds at planted references plus an error a material and an error a frame (eV/atom)."""
    symbols = list(truth)
    compositions, energies, materials = [], [], []
    for m in range(n_materials):
        # every element is drawn at least twice
        chosen = {symbols[m % len(symbols)], *rng.choice(symbols, rng.integers(1, 3), replace=False).tolist()}
        composition = {s: int(rng.integers(1, 4)) for s in sorted(chosen)}
        size, off = sum(composition.values()), rng.normal(0, between)
        for _ in range(rng.integers(*frames_each)):
            compositions.append(composition)
            energies.append(sum(n * truth[s] for s, n in composition.items()) + size * (off + rng.normal(0, within)))
            materials.append(f"m{m}")
    return frames_of(compositions, energies, materials)
