"""Labelled structures: the columnar container, its level of theory, the store on disk, splits, embedded samples."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xclimb.data.columns import COLUMNS, LABELS, Column
    from xclimb.data.export import export
    from xclimb.data.frames import Frames
    from xclimb.data.parquet import to_parquet
    from xclimb.data.samples import load_sample, load_sample_split, sample_card, sample_names
    from xclimb.data.splits import Split, nested_subsets, split_frames
    from xclimb.data.store import iter_store, open_store
    from xclimb.data.store_writer import StoreWriter, write_store
    from xclimb.data.stored_split import StoredSplit, split_store
    from xclimb.data.theory import LevelOfTheory, functional_name

# name -> module; imported when first asked for, so that `import xclimb.data` costs nothing
_WHERE = {
    "COLUMNS": "columns", "LABELS": "columns", "Column": "columns", "Frames": "frames",
    "export": "export", "to_parquet": "parquet",
    "load_sample": "samples", "load_sample_split": "samples", "sample_card": "samples", "sample_names": "samples",
    "Split": "splits", "nested_subsets": "splits", "split_frames": "splits",
    "StoredSplit": "stored_split", "split_store": "stored_split",
    "iter_store": "store", "open_store": "store", "StoreWriter": "store_writer", "write_store": "store_writer",
    "LevelOfTheory": "theory", "functional_name": "theory",
}  # fmt: skip

__all__ = [
    "COLUMNS",
    "LABELS",
    "Column",
    "Frames",
    "LevelOfTheory",
    "Split",
    "StoreWriter",
    "StoredSplit",
    "export",
    "functional_name",
    "iter_store",
    "load_sample",
    "load_sample_split",
    "nested_subsets",
    "open_store",
    "sample_card",
    "sample_names",
    "split_frames",
    "split_store",
    "to_parquet",
    "write_store",
]


def __getattr__(name: str):
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
