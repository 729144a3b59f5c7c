"""Models of shift.json; the fields are those of a :class:`xclimb.comparison.shift_report.ShiftReport`."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, create_model, model_validator

from xclimb.comparison.shift_report import ShiftReport
from xclimb.runs.schema.base import Bounds, BySymbol, Coordinate, Count, Number, Part, Text, check, decode


class Outlier(Part):
    """A pair with a large residual."""

    frame_id: Text
    formula: Text
    left_over: Number


class Crystal(Part):
    """A structure that a page draws."""

    numbers: Annotated[list[Annotated[int, Field(ge=1, le=118, strict=True)]], Field(min_length=1)]
    positions: list[Coordinate]
    cell: Annotated[list[Coordinate], Field(min_length=9, max_length=9)]
    pbc: Annotated[list[bool], Field(min_length=3, max_length=3)]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.positions) != 3 * len(self.numbers):
            raise ValueError(f"{len(self.positions)} coordinates of {len(self.numbers)} atoms")
        return self


class CrystalPair(Part):
    """A structure on both levels; None for the one that is the same."""

    frame_id: Text = ""
    n_atoms: Count = 0
    low: Crystal | None
    high: Crystal | None


class ElementData(Part):
    """Materials behind the shift of an element."""

    materials: Count
    frames: Count
    effective_materials: Number
    largest_share: Number
    largest_material: Text


class Family(Part):
    """Row of the table of chemical families."""

    family: Text
    n_pairs: Count
    n_materials: Count
    mean: Number
    std: Number
    pearson_raw: Number = None
    pearson_referenced: Number = None
    left_over_mae: Number = None
    held_out_mae: Number = None
    scatter_mae: Number = None
    intervals: dict[str, Bounds] = {}


class Depth(Part):
    """Errors of kinds of references on held-out materials."""

    errors: BySymbol = {}
    n_materials: Count = 0
    n_skipped: Count = 0
    z_squared: Number = None


class ReferenceRow(Part):
    """Fitted reference of an element beside that of the source, eV."""

    fitted: Number
    std: Number
    source: Number
    difference: Number


class ReferenceRows(Part):
    """Rows of references, and what they were fitted to."""

    kind: Text = ""
    source: Text | None = None
    elements: dict[str, ReferenceRow] = {}


class Changed(Part):
    """A compound that is stable on one level only."""

    material_id: Text
    formula: Text
    low: Number
    high: Number
    stable_on: Text


class EndPoint(Part):
    """Energies of an element on both levels, eV/atom."""

    low: Number
    high: Number
    supplied: bool


class Stability(Part):
    """Formation and decomposition energies on both levels, or the reason that there are none."""

    absent: Text = ""
    material_id: list[Text] = []
    formula: list[Text] = []
    formation_low: list[Number] = []
    formation_high: list[Number] = []
    decomposition_low: list[Number] = []
    decomposition_high: list[Number] = []
    formation_mae: Number = None
    decomposition_mae: Number = None
    end_points: dict[str, EndPoint] = {}
    n_compounds: Count = 0
    n_systems: Count = 0
    n_hull: Count = 0
    n_stable_low: Count = 0
    n_stable_high: Count = 0
    changed: list[Changed] = []
    notes: list[Text] = []

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that a report that holds compounds is whole."""
        if "material_id" not in self.model_fields_set:
            return self
        missing = type(self).model_fields.keys() - self.model_fields_set - {"absent"}
        if missing:
            raise ValueError(f"{min(missing)} is missing")
        columns = (self.formula, self.formation_low, self.formation_high, self.decomposition_low, self.decomposition_high)
        if any(len(column) != len(self.material_id) for column in columns):
            raise ValueError("columns of different lengths")
        return self


class Explained(Part):
    """Importance of each element, or the reason that there is none."""

    absent: Text = ""
    importance: dict[str, Coordinate] = {}
    shapley: BySymbol = {}
    agreement: Number = None
    held_out_r2: Number = None
    n_compounds: Count = 0
    n_refused: Count = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that every element has both numbers."""
        if "absent" in self.model_fields_set:
            return self
        missing = type(self).model_fields.keys() - self.model_fields_set - {"absent"}
        if missing or self.importance.keys() != self.shapley.keys():
            raise ValueError(f"{min(missing) if missing else 'the Shapley value of an element'} is missing")
        return self


class Importance(Part):
    """Importance without and with corrections."""

    absent: Text = ""
    target: Text = ""
    plain: Explained | None = None
    corrected: Explained | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that what is explained has both results."""
        if "target" in self.model_fields_set and (self.plain is None or self.corrected is None):
            raise ValueError("the result without corrections, or the one with them, is missing")
        return self


class Advice(Part):
    """A sentence of advice."""

    topic: Text
    sentence: Text


def _upgraded(content: Any) -> Any:
    """Add what version 0.1 did not write of the elements: intervals and materials behind them, as unknown."""
    if not isinstance(content, dict) or not isinstance(content.get("elements"), dict):
        return content
    unknown = {"materials": 0, "frames": 0, "effective_materials": None, "largest_share": None, "largest_material": ""}
    missing = {
        "element_intervals": {symbol: [None, None] for symbol in content["elements"]},
        "element_data": dict.fromkeys(content["elements"], unknown),
    }
    return missing | content


class _Shift(Part):
    """Base of the model of ``shift.json``."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        return _upgraded(content)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that every table of elements has all of them, and every column all pairs."""
        content: Any = self
        for name in ("element_std", "element_intervals", "element_data"):
            absent = content.elements.keys() - getattr(content, name).keys()
            if absent:
                raise ValueError(f"{name} lacks {min(absent)}")
        for name in (one.name for one in fields(ShiftReport) if one.type is np.ndarray):
            if (count := len(getattr(content, name))) != content.n_pairs:
                raise ValueError(f"{name} has {count} entries for {content.n_pairs} pairs")
        return self


_NESTED: dict[str, Any] = {
    "outliers": (list[Outlier], []),
    "structures": (list[CrystalPair], []),
    "force_angles": (list[Count], []),
    "intervals": (dict[str, Bounds], {}),
    "element_intervals": (dict[str, Bounds | None], {}),
    "element_data": (dict[str, ElementData], {}),
    "families": (list[Family], []),
    "reference_depth": (Depth, {}),
    "reference_rows": (ReferenceRows, {}),
    "stability": (Stability, {}),
    "importance": (Importance, {}),
    "advice": (list[Advice], []),
    "theory_low": (dict[str, Any], ...),
    "theory_high": (dict[str, Any], ...),
    "elements": (BySymbol, ...),
    "element_std": (BySymbol, ...),
    "undetermined": (list[list[Text]], ...),
    "notes": (list[Text], ...),
}
_COLUMNS: dict[Any, Any] = {float: Number, int: Count, str: Text}


def _shift_schema() -> type[Part]:
    """Make the model of ``shift.json``: the fields of a ShiftReport."""
    names = {"frame_id", "material_id", "formula"}
    columns: dict[str, Any] = {}
    for one in fields(ShiftReport):
        required = one.default is MISSING and one.default_factory is MISSING
        kind = _COLUMNS.get(one.type) or (list[Text] if one.name in names else list[Number])
        columns[one.name] = _NESTED.get(one.name, (kind, ... if required else one.default))
    return create_model("ShiftRecord", __base__=_Shift, **columns)


ShiftRecord = _shift_schema()
_WRITER = "xclimb shift --out"


def read_shift(file: Path) -> ShiftReport:
    """Read a shift.json, entries in the order in which it has them.

    Raises:
        CheckpointError: if there is none.
        DataError: if it is damaged.
    """
    content = decode(file, _WRITER)
    check(content, ShiftRecord, file, _WRITER)
    known = {name: value for name, value in _upgraded(content).items() if name in ShiftRecord.model_fields}
    return ShiftReport.from_dict(known)
