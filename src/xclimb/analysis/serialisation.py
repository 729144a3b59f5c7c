"""Reports as plain values for JSON, and back."""

import math
from typing import Any

import numpy as np

from xclimb.data.theory import LevelOfTheory


def plain(value: Any) -> Any:
    """JSON-safe form of a field of a report; numbers that are not finite become None."""
    if isinstance(value, LevelOfTheory):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        return value.tolist() if finite else [plain(one) for one in value.tolist()]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """Nested plain values with NaN where JSON has null."""
    if isinstance(value, dict):
        return {key: with_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_nan(one) for one in value]
    return math.nan if value is None else value
