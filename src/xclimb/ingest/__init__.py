"""From files in every common format to audited Frames: read, ingest; the checks are in :mod:`xclimb.ingest.audit`."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xclimb.data.parquet import to_parquet
    from xclimb.formats.base import Reject
    from xclimb.ingest.audit import Limits
    from xclimb.ingest.by_theory import ingest_by_theory
    from xclimb.ingest.pipeline import ingest, retry
    from xclimb.ingest.reading import read
    from xclimb.ingest.summary import IngestSummary

# name -> module, imported when first asked for
_WHERE = {
    "IngestSummary": "xclimb.ingest.summary",
    "Limits": "xclimb.ingest.audit",
    "Reject": "xclimb.formats.base",
    "ingest": "xclimb.ingest.pipeline",
    "ingest_by_theory": "xclimb.ingest.by_theory",
    "read": "xclimb.ingest.reading",
    "retry": "xclimb.ingest.pipeline",
    "to_parquet": "xclimb.data.parquet",
}

__all__ = ["IngestSummary", "Limits", "Reject", "ingest", "ingest_by_theory", "read", "retry", "to_parquet"]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
