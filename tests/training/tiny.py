"""What the tests of training train: rattled rock salt with labels of no special meaning, and a third of a network."""

from functools import cache

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.models.chgnet import CHGNet, CHGNetConfig
from xclimb.models.potential import Potential
from xclimb.models.zoo import fresh
from xclimb.references import AtomRef


@cache
def toy() -> Potential:
    """Random weights in two blocks of the four, as wide as those of the real network: it takes the same paths."""
    theory = LevelOfTheory("PBE")
    references = AtomRef.from_table(np.full(94, -10.0), theory=theory)
    made = fresh(Potential(CHGNet(CHGNetConfig(n_blocks=2)), references, theory), seed=0)
    made.name = "toy"
    return made


def rock_salts(count: int = 6, seed: int = 0, functional: str | None = "r2SCAN") -> Frames:
    """Primitive cells of NaCl, MgO, LiF, ..., two atoms each, with random labels; energies are near -10 eV/atom."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(11, 17), (12, 8), (3, 9)])
    lattice = np.array([5.64, 4.21, 4.03])
    kind = np.arange(count) % len(pairs)
    cells = 0.5 * lattice[kind, None, None] * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    positions = np.stack([np.zeros((count, 3)), cells.sum(axis=1) / 2], axis=1) + rng.normal(0, 0.05, (count, 2, 3))
    stress = rng.normal(0, 0.01, (count, 3, 3))
    return Frames(
        numbers=pairs[kind].reshape(-1),
        positions=positions.reshape(-1, 3),
        cells=cells,
        pbc=np.ones((count, 3), dtype=bool),
        offsets=2 * np.arange(count + 1),
        energy=-20 + rng.normal(0, 0.2, count) + kind,
        forces=rng.normal(0, 0.3, (2 * count, 3)),
        stress=(stress + stress.transpose(0, 2, 1)) / 2,
        magmoms=rng.normal(0, 0.1, 2 * count),
        material_id=np.array([f"m{k}" for k in kind]),
        frame_id=np.array([f"f{seed}-{s}" for s in range(count)]),
        theory=LevelOfTheory(functional),
    )
