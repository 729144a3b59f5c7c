"""Models of predictions.json of a run: labels and errors of a sample of its validation and test frames."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pydantic import RootModel, model_validator

from xclimb.runs.schema.base import Count, Measured, Part, Text
from xclimb.runs.schema.shift import Crystal

Numbers = list[Measured]
STATES = ("before", "after")  # any step


class Labels(Part):
    """Labels of a sample: energies of every frame (eV/atom), components of forces (eV/Å) and stress (GPa)."""

    energy_per_atom: Numbers
    forces: Numbers
    stress: Numbers

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Number of labels of each kind."""
        return len(self.energy_per_atom), len(self.forces), len(self.stress)


class Models(Part):
    """Labels by the potential before any step and by the one that was kept."""

    before: Labels
    after: Labels


class FrameErrors(Part):
    """Mean absolute errors of one quantity by frame (None without labels), and the components behind each."""

    before: Numbers
    after: Numbers
    count: list[Count]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``before``, ``after`` and ``count``."""
        return np.array(self.before, dtype=float), np.array(self.after, dtype=float), np.array(self.count, dtype=float)


class ElementErrors(Part):
    """Mean absolute errors of one element: energy (meV/atom), forces (meV/Å), magmom (µB)."""

    frames: float
    atoms: float
    energy: Measured
    forces: Measured
    magmom: Measured


class Worst(Part):
    """A frame that is far off: its row in the sample, and its structure unless it is too large to be drawn."""

    row: Count
    structure: Crystal | None


class Predicted(Part):
    """One set of frames: what the run wrote of it (:mod:`xclimb.transfer.predictions`)."""

    n_frames: Count
    frame_id: list[Text]
    material_id: list[Text]
    formula: list[Text]
    n_atoms: list[Count]
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


class Predictions(RootModel[dict[str, Predicted]]):
    """Content of predictions.json of a run, by set."""
