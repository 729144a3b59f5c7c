"""Options of the commands that split data or put a part of it aside, and data of several names as one set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xclimb.cli.options import DataOptions, read_data
from xclimb.errors import DataError

if TYPE_CHECKING:
    from xclimb.data.frames import Frames
    from xclimb.data.splits import Split

_PANEL = "Split (frames of one material stay in one part)"

By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="WHAT",
        help="material, or frame: blocks in the order of the data, with gaps; by default frame where materials are too few.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="What is one material: structure (ids of the same crystal joined), ids, composition or chemical-system.",
        rich_help_panel=_PANEL,
        show_default="structure",
    ),
]
ValFraction = Annotated[
    float | None,
    typer.Option(metavar="F", help="Share of the frames to validate on.", rich_help_panel=_PANEL, show_default=False),
]
NoCover = Annotated[
    bool,
    typer.Option(
        "--no-cover",
        help="Let elements be in validation or test alone; otherwise their materials go to train.",
        rich_help_panel=_PANEL,
    ),
]
Gap = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Frames left out between two blocks, with --by frame; by default as many as are correlated.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def split_settings(by: str | None, group: str | None, no_cover: bool, gap: int | None) -> dict[str, Any]:
    """The options that were given, as arguments of :func:`xclimb.data.splits.propose_split`."""
    given: dict[str, Any] = {"by": by, "group": group, "cover": False if no_cover else None, "gap": gap}
    return {name: value for name, value in given.items() if value is not None}


def read_joined(names: Sequence[str], functional: str | None, reading: DataOptions) -> "Frames":
    """The frames of everything that was named, in this order, with frame ids that are unique.

    Raises:
        DataError, TheoryError: from reading, or where the levels of theory differ.
    """
    from xclimb.data.frames import Frames
    from xclimb.ingest.names import Names

    sets = [read_data(name, functional, reading) for name in names]
    if len(sets) == 1:
        return sets[0]
    unique, renamed = Names(), []
    for name, frames in zip(names, sets, strict=True):
        unique.next_file()
        renamed.append(unique.unique(frames, Path(name).stem))
    unique.warn()
    return Frames.concatenate(renamed)


def apply_split(file: Path, frames: "Frames", **options: Any) -> "tuple[Frames, Frames, Frames | None]":
    """Training, validation and test frames by a file of ``xclimb split``.

    Raises:
        DataError: if the split is one of other frames, has no validation frames, or options name such frames too.
    """
    from xclimb.data.splits import Split

    both = [f"--{name}" for name, value in options.items() if value]
    if both:
        raise DataError(f"--split {file} and {both[0]} both say which frames are held out: leave one of them out")
    train, val, test = Split.load(file).apply(frames)
    if not len(val):
        raise DataError(f"{file} has no validation frames: split again with three shares, such as --ratios 8:1:1")
    return train, val, test if len(test) else None


def study_split(file: Path | None, frames: "Frames", val_fraction: float | None, how: dict[str, Any]) -> "Split":
    """The split of a study: of a file, or 70/10/20 % with what was asked for.

    Raises:
        DataError: if a file is given and how to split as well, or the frames cannot be split.
    """
    from xclimb.data.splits import Split, split_frames
    from xclimb.data.stored_split import shares_of

    if file is None:
        return split_frames(frames, shares_of((7, 1, 2), val_fraction), **how)
    if how or val_fraction is not None:
        raise DataError(f"{file} is a split already: leave --split out, or what says how to split")
    return Split.load(file)
