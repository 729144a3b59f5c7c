"""Generated JSON files of the real schemas (MP-r2SCAN, MPtrj, MatPES), with the size distribution of the Materials Project.

Usage: python benchmarks/_calculations.py {r2scan,mptrj,matpes} FRAMES FILE    (a name that ends in .gz is compressed)
"""

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
from ase.data import chemical_symbols

SCHEMAS = ("r2scan", "mptrj", "matpes")
SPACING = 2.6  # Å between neighbours


def sizes(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Atoms a frame: log-normal, mean 30, from 1 to 300, as in MP-r2SCAN and MPtrj."""
    return np.clip(rng.lognormal(3.08, 0.8, frames), 1, 300).astype(int)


def _structure(n: int, rng: np.random.Generator) -> dict:
    side = int(np.ceil(n ** (1 / 3)))
    layers = -(-n // side**2)
    grid = np.stack(np.unravel_index(np.arange(n), (layers, side, side)), axis=1) / (layers, side, side)
    matrix = np.diag([layers, side, side]) * SPACING + rng.normal(0, 0.1, (3, 3))
    abc = grid + rng.uniform(-0.12, 0.12, (n, 3)) / (layers, side, side)
    symbols = rng.choice(np.array(chemical_symbols[1:90]), 3)[np.arange(n) % 3].tolist()
    lengths = np.linalg.norm(matrix, axis=1)
    cosines = [matrix[i] @ matrix[j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = dict(zip(("alpha", "beta", "gamma"), np.degrees(np.arccos(cosines)).tolist(), strict=True))
    lattice = {"matrix": matrix.tolist(), "pbc": [True] * 3} | dict(zip("abc", lengths.tolist(), strict=True)) | angles
    sites = [
        {"species": [{"element": symbol, "occu": 1}], "abc": a, "xyz": x, "label": symbol, "properties": {}}
        for symbol, a, x in zip(symbols, abc.tolist(), (abc @ matrix).tolist(), strict=True)
    ]
    return {
        "@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0,
        "lattice": lattice | {"volume": float(abs(np.linalg.det(matrix)))}, "sites": sites,
    }  # fmt: skip


def _labels(schema: str, n: int, material: str, frame: str, rng: np.random.Generator) -> dict:
    energy, forces = float(-7.3 * n + rng.normal()), np.round(rng.normal(0, 0.4, (n, 3)), 8).tolist()
    stress = rng.normal(0, 20, (3, 3))
    stress = np.round(stress + stress.T, 8)
    magmom = np.round(rng.normal(0, 0.5, n), 3).tolist() if rng.random() < 0.4 else None
    if schema == "matpes":
        voigt = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].tolist()
        return {
            "matpes_id": frame, "energy": energy, "forces": forces, "stress": voigt, "functional": "r2SCAN",
            "bader_magmoms": magmom, "cohesive_energy_per_atom": energy / n + 3.0, "bandgap": 0.0, "nsites": n,
        }  # fmt: skip
    corrected = {"corrected_total_energy": energy - 0.1 * n} if schema == "mptrj" else {}
    return {
        "uncorrected_total_energy": energy, **corrected, "energy_per_atom": energy / n, "ef_per_atom": float(rng.normal()),
        "e_per_atom_relaxed": energy / n - 0.01, "ef_per_atom_relaxed": float(rng.normal()), "force": forces,
        "stress": stress.tolist(), "magmom": magmom, "bandgap": float(abs(rng.normal())), "mp_id": material,
    }  # fmt: skip


def pieces(schema: str, frames: int, seed: int = 0) -> Iterator[bytes]:
    """The file, piece by piece; about four frames a material."""
    rng = np.random.default_rng(seed)
    yield b"[" if schema == "matpes" else b"{"
    each = 1 if schema == "matpes" else 4
    counts = np.repeat(sizes(-(-frames // each), rng), each)[:frames]
    for s, n in enumerate(counts.tolist()):
        material, frame = f"mp-{s // each}", f"mp-{s // each}-0-{s % each}"
        record = {"structure": _structure(n, rng), **_labels(schema, n, material, frame, rng)}
        if schema == "matpes":
            yield (b", " if s else b"") + orjson.dumps(record)
            continue
        opening = (b"}, " if s else b"") + f'"{material}": {{'.encode() if s % each == 0 else b", "
        yield opening + f'"{frame}": '.encode() + orjson.dumps(record)
    yield b"]" if schema == "matpes" else (b"}}" if frames else b"}")


def write(schema: str, frames: int, path: Path, seed: int = 0) -> None:
    """Write a file of the schema."""
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb", buffering=2**20) as file:
        for piece in pieces(schema, frames, seed):
            file.write(piece)


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
