"""``predictions.json`` of a run, checked: labels and errors of a sample of its validation and test frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator

from xclimb.errors import DataError

Numbers = list[float | None]
STATES = ("before", "after")  # any step


class Labels(BaseModel):
    """Labels of a sample: energies of every frame (eV/atom), components of forces (eV/Å) and stress (GPa)."""

    energy_per_atom: Numbers
    forces: Numbers
    stress: Numbers

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Number of labels of each kind."""
        return len(self.energy_per_atom), len(self.forces), len(self.stress)


class Models(BaseModel):
    """Labels by the potential before any step and by the one that was kept."""

    before: Labels
    after: Labels


class FrameErrors(BaseModel):
    """Mean absolute errors of one quantity by frame (None without labels), and the components behind each."""

    before: Numbers
    after: Numbers
    count: list[int]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``before``, ``after`` and ``count``."""
        return np.array(self.before, dtype=float), np.array(self.after, dtype=float), np.array(self.count, dtype=float)


class ElementErrors(BaseModel):
    """Mean absolute errors of one element: energy (meV/atom), forces (meV/Å), magmom (µB)."""

    frames: float
    atoms: float
    energy: float | None
    forces: float | None
    magmom: float | None


class Worst(BaseModel):
    """A frame that is far off: its row in the sample, and its structure unless it is too large to be drawn."""

    row: int
    structure: dict[str, Any] | None


class Predicted(BaseModel):
    """One set of frames: what the run wrote of it (:mod:`xclimb.transfer.predictions`)."""

    n_frames: int
    frame_id: list[str]
    material_id: list[str]
    formula: list[str]
    n_atoms: list[int]
    reference_energy: Numbers
    reference: Labels
    models: Models
    errors: dict[str, FrameErrors]
    elements: dict[str, dict[str, ElementErrors]]
    worst: list[Worst]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        rows = len(self.frame_id)
        columns: list[Sequence[Any]] = [
            self.material_id,
            self.formula,
            self.n_atoms,
            self.reference_energy,
            self.reference.energy_per_atom,
        ]
        columns += [column for one in self.errors.values() for column in (one.before, one.after, one.count)]
        if any(len(column) != rows for column in columns):
            raise ValueError("columns of different lengths")
        if not self.reference.lengths == self.models.before.lengths == self.models.after.lengths:
            raise ValueError("predictions and labels of different lengths")
        if any(not 0 <= one.row < rows for one in self.worst):
            raise ValueError("a worst frame that is not there")
        if any(set(states) != set(STATES) for states in self.elements.values()):
            raise ValueError("errors of an element before or after alone")
        return self

    @property
    def materials(self) -> np.ndarray:
        """The material of each frame, 0 to M - 1."""
        return np.unique(np.array(self.material_id), return_inverse=True)[1]

    def labels(self, state: str) -> Labels:
        """Predicted labels, ``"before"`` or ``"after"``."""
        return self.models.before if state == "before" else self.models.after


_SETS = TypeAdapter(dict[str, Predicted])


def checked_predictions(content: dict, file: Path) -> dict[str, Predicted]:
    """The sets of a predictions.json by name.

    Raises:
        DataError: if it is not what a run writes.
    """
    try:
        return _SETS.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:4]))
        raise DataError(f"{file} is not what a run writes ({where}: {first['msg'].lower()}); remove it") from None
