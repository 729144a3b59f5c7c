"""Conversion of reports to built-in values for JSON, and back."""

import math
from typing import Any

import numpy as np

from xclimb.data.theory import LevelOfTheory


def to_builtin(value: Any) -> Any:
    """Convert a field of a report to built-in types for JSON; numbers that are not finite become None."""
    if isinstance(value, LevelOfTheory):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        return value.tolist() if finite else [to_builtin(one) for one in value.tolist()]
    if isinstance(value, dict):
        return {key: to_builtin(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtin(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """Replace None by NaN in nested values read from JSON."""
    if isinstance(value, dict):
        return {key: with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_nan(one) for one in value]
    return math.nan if value is None else value
