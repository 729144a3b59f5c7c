"""Types of the values in files, and the one reader that checks a file against its model.

Unknown entries are allowed, as other versions may write more; entries that an older version did not write have defaults, and
those that it spelled differently are upgraded by the model itself.
"""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from xclimb.errors import CheckpointError, DataError

LARGEST = 1e15  # no number of a file is larger, and counts stay exact as floats
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST, strict=True)] | None
Measured = Annotated[float, Field(allow_inf_nan=False, strict=True)] | None  # of a diverged run it may be any number
Coordinate = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST), strict=True)]
Text = Annotated[str, StringConstraints(strict=True)]
Bounds = Annotated[list[Number], Field(min_length=2, max_length=2)]
BySymbol = dict[str, Number]
T = TypeVar("T", bound=BaseModel)


class Part(BaseModel):
    """Base of all parts of a file."""

    model_config = ConfigDict(extra="allow")


class Theory(Part):
    """Level of theory, as :meth:`xclimb.data.theory.LevelOfTheory.to_dict` writes it."""

    functional: Text | None = None
    code: Text | None = None

    def stated(self) -> dict[str, Any]:
        """Entries that say something."""
        return self.model_dump(exclude_none=True)


class DataRecord(Part):
    """Counts and checksum of a set of frames."""

    frames: Count
    atoms: Count
    materials: Count
    sha256: Text


def check(content: Any, schema: type[T], file: Path, writer: str) -> T:
    """Check the content of a file against its schema.

    Args:
        content: decoded JSON.
        schema: its model.
        file: for the message.
        writer: command that writes such a file, for the message.

    Raises:
        DataError: naming the file and the first key that does not fit.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the content"
        raise DataError(f"{file} is not what {writer} writes ({key}: {first['msg'].lower()}): run it again") from None


def decode(file: Path, writer: str) -> Any:
    """Decode a JSON file; errors as :func:`read_content`, but for the schema."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: {file.parent} is no complete run or study folder") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check its permissions") from None
    except (ValueError, RecursionError) as error:
        first_line = str(error).partition("\n")[0]
        raise DataError(f"{file} is not complete JSON ({first_line}): run {writer} again, or remove it") from None


def read_content(file: Path, schema: type[T], writer: str) -> T:
    """Read a JSON file as its model.

    Raises:
        CheckpointError: if there is no such file.
        DataError: if it is not complete JSON, or not of this schema.
    """
    return check(decode(file, writer), schema, file, writer)


def read_lines(file: Path, schema: type[T], writer: str) -> tuple[list[T], bool]:
    """Read the lines of a .jsonl as their model; whether a last line was left out that a killed process left half written.

    Raises:
        DataError: if it cannot be read, or a line before the last is not of this schema.
    """
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check its permissions") from None
    records: list[T] = []
    for n, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            if n == len(lines):
                return records, True
            raise DataError(f"{file}, line {n} is damaged: remove that line, or run {writer} again") from None
        records.append(check(content, schema, Path(f"{file}, line {n}"), writer))
    return records, False
