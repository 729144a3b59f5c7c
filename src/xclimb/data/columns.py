"""Columns of :class:`xclimb.data.frames.Frames`: :data:`COLUMNS`, and those of them that are labels, :data:`LABELS`."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Column:
    """One column of :class:`Frames`: its scope, the shape of a row, its type, and whether it is a label."""

    scope: str  # "system" or "atom"
    shape: tuple[int, ...]
    dtype: type
    label: bool = False


COLUMNS: dict[str, Column] = {
    "numbers": Column("atom", (), np.int32),
    "positions": Column("atom", (3,), np.float64),
    "cells": Column("system", (3, 3), np.float64),
    "pbc": Column("system", (3,), np.bool_),
    "energy": Column("system", (), np.float64, label=True),
    "forces": Column("atom", (3,), np.float64, label=True),
    "stress": Column("system", (3, 3), np.float64, label=True),
    "magmoms": Column("atom", (), np.float64, label=True),
    "material_id": Column("system", (), np.str_),
    "frame_id": Column("system", (), np.str_),
}
LABELS = tuple(name for name, column in COLUMNS.items() if column.label)
