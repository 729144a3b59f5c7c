"""The embedded data sets: real calculations, small enough to ship with the package, each with a card."""

import json
from functools import cache
from importlib.resources import files

from xclimb.data.frames import Frames
from xclimb.errors import DataError

_SAMPLES = ("dft_pairs",)


def sample_names() -> tuple[str, ...]:
    """Names of the embedded data sets."""
    return _SAMPLES


def load_sample(name: str = "dft_pairs", functional: str | None = "r2SCAN") -> Frames:
    """An embedded data set with the labels of one functional.

    Args:
        name: one of :func:`sample_names`.
        functional: ``"PBE"`` or ``"r2SCAN"``; the frames and their ids are the same for both.

    Raises:
        DataError: if there is no such sample.
        TheoryError: if the sample has no labels of this functional.
    """
    return _load(_known(name), functional)[:]  # a copy: what is kept for the next call must not change


@cache
def _load(name: str, functional: str | None) -> Frames:
    from pyarrow import BufferReader, parquet

    from xclimb.data.parquet import frames_from_table, label_columns

    table = parquet.read_table(BufferReader(_resource(f"{name}.parquet").read_bytes()))
    labels = label_columns(table.schema, functional, name=f"sample {name}")
    frames = frames_from_table(table, labels, name=f"sample {name}", stem=name)
    return frames.with_theory(_theory(name, labels.theory.functional))


def _theory(name: str, functional: str | None):
    from xclimb.data.theory import LevelOfTheory

    stated = json.loads(_resource(f"{name}_theory.json").read_text(encoding="utf-8"))
    return LevelOfTheory.from_dict(stated | {"functional": functional})


def sample_card(name: str = "dft_pairs") -> str:
    """The card of an embedded data set, in Markdown: how it was computed, units, licence, figures to expect."""
    return _resource(f"{_known(name)}.md").read_text(encoding="utf-8")


def load_sample_split(name: str = "dft_pairs") -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The stored split of an embedded data set: frame ids of train, validation and test, no material in two of them."""
    stored = json.loads(_resource(f"{_known(name)}_split.json").read_text(encoding="utf-8"))
    train, val, test = (tuple(stored[part]) for part in ("train", "val", "test"))
    return train, val, test


def _known(name: str) -> str:
    if name not in _SAMPLES:
        raise DataError(f"there is no sample {name!r}; the samples are {', '.join(_SAMPLES)}")
    return name


def _resource(name: str):
    return files(__package__) / name
