"""The paired data sets, read without xclimb's own readers."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.units import voigt_to_full

DFT_PAIRS = Path(str(files("xclimb.data.samples"))) / "dft_pairs.parquet"
TEACHER_PAIRS = Path(__file__).parents[2].parent / "shared" / "data" / "teacher_pairs" / "teacher_pairs_train.parquet"


def read_pairs(path: Path) -> tuple[Frames, Frames]:
    """PBE and r2SCAN frames of one table."""
    table = pq.read_table(path)
    n_atoms = table.column("natoms").to_numpy().astype(int)

    def flat(name):
        return table.column(name).combine_chunks().values.to_numpy(zero_copy_only=False).astype(float)

    shared = {
        "numbers": flat("numbers"),
        "positions": flat("positions").reshape(-1, 3),
        "cells": flat("cell").reshape(-1, 3, 3),
        "pbc": np.ones((len(n_atoms), 3), dtype=bool),
        "offsets": np.concatenate([[0], np.cumsum(n_atoms)]),
        "material_id": np.array(table.column("material_id").to_pylist(), dtype=str),
        "frame_id": np.array([str(name) for name in table.column("frame_id").to_pylist()]),
    }
    return tuple(
        Frames(
            **shared,
            energy=table.column(f"{side}_energy").to_numpy(),
            forces=flat(f"{side}_forces").reshape(-1, 3),
            stress=voigt_to_full(flat(f"{side}_stress").reshape(-1, 6)),
            **({"magmoms": flat(f"{side}_magmoms")} if f"{side}_magmoms" in table.column_names else {}),
            theory=LevelOfTheory(functional),
        )
        for side, functional in (("pbe", "PBE"), ("r2scan", "r2SCAN"))
    )
