"""Schema of the files on disk, shared by what writes them and what reads them: so far ``shift.json``.

Unknown entries are allowed, as other versions may write more; entries that an older version did not write have defaults.
"""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model, model_validator

from xclimb.comparison.shift_report import ShiftReport
from xclimb.errors import DataError

LARGEST = 1e15  # no number of a file is larger, and counts stay exact as floats
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, strict=True)] | None
Coordinate = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST), strict=True)]
Text = Annotated[str, StringConstraints(strict=True)]
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]
BySymbol = dict[str, Number]


class Part(BaseModel):
    """Base of all parts of a file."""

    model_config = ConfigDict(extra="allow")


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


class _Shift(Part):
    """Base of the model of ``shift.json``."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that every table of elements has all of them."""
        for name in ("element_std", "element_intervals", "element_data"):
            absent = getattr(self, "elements").keys() - getattr(self, name).keys()  # noqa: B009
            if absent:
                raise ValueError(f"{name} lacks {min(absent)}")
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


def shift_schema() -> type[BaseModel]:
    """Model of ``shift.json``: the fields of a ShiftReport."""
    names = {"frame_id", "material_id", "formula"}
    columns: dict[str, Any] = {}
    for one in fields(ShiftReport):
        required = one.default is MISSING and one.default_factory is MISSING
        kind = _COLUMNS.get(one.type) or (list[Text] if one.name in names else list[Number])
        columns[one.name] = _NESTED.get(one.name, (kind, ... if required else one.default))
    return create_model("ShiftFile", __base__=_Shift, **columns)


def check(content: Any, schema: type[BaseModel], file: Path, writer: str) -> None:
    """Check the content of a file against its schema.

    Raises:
        DataError: naming the file and the first key that does not fit.
    """
    try:
        schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the content"
        raise DataError(f"{file} is not what {writer} writes ({key}: {first['msg'].lower()}): run it again") from None
