"""xclimb: transfer universal interatomic potentials from one exchange-correlation functional to a better one.

Everything a script needs hangs here (``xclimb.read``, ``xclimb.load``, ``xclimb.transfer``, ...). Importing xclimb imports
nothing else: each name is fetched from its module on first use, so that ``import xclimb`` costs no torch.
"""

from typing import TYPE_CHECKING, Any

from xclimb.errors import XclimbError

if TYPE_CHECKING:
    from xclimb.calculators.ase import Calculator
    from xclimb.comparison.shift import ShiftReport, shift
    from xclimb.comparison.stability import StabilityReport, stability
    from xclimb.data.export import export
    from xclimb.data.frames import Frames
    from xclimb.data.samples import load_sample
    from xclimb.data.splits import split_frames
    from xclimb.data.store import open_store as open
    from xclimb.data.theory import LevelOfTheory
    from xclimb.evaluation.frame_errors import FrameErrors, frame_errors, save_errors
    from xclimb.evaluation.metrics import Metrics, evaluate
    from xclimb.ingest import read
    from xclimb.models.potential import Potential, Prediction
    from xclimb.models.zoo import load
    from xclimb.references import AtomRef, fit_references
    from xclimb.transfer.api import transfer
    from xclimb.transfer.fit import Run
    from xclimb.transfer.sources import SourceRanking, rank_sources

    __version__: str

__all__ = [
    "AtomRef",
    "Calculator",
    "FrameErrors",
    "Frames",
    "LevelOfTheory",
    "Metrics",
    "Potential",
    "Prediction",
    "Run",
    "ShiftReport",
    "SourceRanking",
    "StabilityReport",
    "XclimbError",
    "__version__",
    "evaluate",
    "export",
    "fit_references",
    "frame_errors",
    "load",
    "load_sample",
    "open",
    "rank_sources",
    "read",
    "save_errors",
    "shift",
    "split_frames",
    "stability",
    "transfer",
]

# public name -> (module, name there)
_HOMES: dict[str, tuple[str, str]] = {
    "AtomRef": ("xclimb.references", "AtomRef"),
    "Calculator": ("xclimb.calculators.ase", "Calculator"),
    "FrameErrors": ("xclimb.evaluation.frame_errors", "FrameErrors"),
    "Frames": ("xclimb.data.frames", "Frames"),
    "LevelOfTheory": ("xclimb.data.theory", "LevelOfTheory"),
    "Metrics": ("xclimb.evaluation.metrics", "Metrics"),
    "Potential": ("xclimb.models.potential", "Potential"),
    "Prediction": ("xclimb.models.potential", "Prediction"),
    "Run": ("xclimb.transfer.fit", "Run"),
    "ShiftReport": ("xclimb.comparison.shift", "ShiftReport"),
    "SourceRanking": ("xclimb.transfer.sources", "SourceRanking"),
    "StabilityReport": ("xclimb.comparison.stability", "StabilityReport"),
    "evaluate": ("xclimb.evaluation.metrics", "evaluate"),
    "export": ("xclimb.data.export", "export"),
    "fit_references": ("xclimb.references", "fit_references"),
    "frame_errors": ("xclimb.evaluation.frame_errors", "frame_errors"),
    "load": ("xclimb.models.zoo", "load"),
    "load_sample": ("xclimb.data.samples", "load_sample"),
    "open": ("xclimb.data.store", "open_store"),
    "rank_sources": ("xclimb.transfer.sources", "rank_sources"),
    "read": ("xclimb.ingest", "read"),
    "save_errors": ("xclimb.evaluation.frame_errors", "save_errors"),
    "shift": ("xclimb.comparison.shift", "shift"),
    "split_frames": ("xclimb.data.splits", "split_frames"),
    "stability": ("xclimb.comparison.stability", "stability"),
    "transfer": ("xclimb.transfer.api", "transfer"),
}


def __getattr__(name: str) -> Any:
    """The public name, imported on first use (PEP 562)."""
    from importlib import import_module

    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        value = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module 'xclimb' has no attribute {name!r}")
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xclimb")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
