"""A store for each level of theory of a set of files."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xclimb.data.store import is_store
from xclimb.data.theory import functional_name
from xclimb.errors import DataError, TheoryError, XclimbError, XclimbWarning
from xclimb.formats.detect import files_of
from xclimb.ingest.levels import folder_name
from xclimb.ingest.pipeline import ingest
from xclimb.ingest.reading import levels_there
from xclimb.ingest.summary import IngestSummary
from xclimb.ingest.tasks import Reading


def ingest_by_theory(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    functional: str | None = None,
    **settings: Any,
) -> dict[str, IngestSummary]:
    """Stream files into stores, one for each level of theory that they state: ``OUT/PBEsol``, ``OUT/r2SCAN``.

    Two of them are the low and the high data of :func:`xclimb.shift`.

    Args:
        paths: as for :func:`xclimb.ingest.ingest`.
        out: the folder of the stores.
        functional: of files that state none; ``"GGA/GGA+U"`` for PBE and PBE+U in one store.
        settings: the other arguments of :func:`xclimb.ingest.ingest`, for all stores.

    Returns:
        level of theory -> summary of its store, the most files first.

    Raises:
        DataError: if there is nothing to read, ``out`` is a store, or no level has a frame that can be used. A level of which
            no store can be made is a warning where others can.
        TheoryError: if files of each level differ in something else.
    """
    out = Path(out)
    if is_store(out):
        raise DataError(f"{out} is a store itself: give another folder for a store of each level of theory")
    sources, _ = files_of(paths)
    reading = Reading(functional, energy=settings.get("energy"), steps=settings.get("steps", "all"))
    levels = levels_there(sources, reading, whole=True).most_common()
    if not levels:
        raise DataError(f"{sources[0].path} and the other files state no level of theory: nothing in them can be read")
    done: dict[str, IngestSummary] = {}
    failed: dict[str, XclimbError] = {}
    for level, _ in levels:
        try:
            done[level] = ingest(paths, out / folder_name(level), _meant(functional, level), only=level, **settings)
        except (DataError, TheoryError) as error:
            failed[level] = error
    if not done:
        raise next(iter(failed.values()))
    for level, problem in failed.items():
        warnings.warn(f"no store of {level}: {problem}", XclimbWarning, stacklevel=2)
    return done


def _meant(functional: str | None, level: str) -> str | None:
    """Give the functional that the user names, where it is the one of a level."""
    name = functional_name(functional) if functional else ""
    return functional if level == name or level.startswith(f"{name}-") else None
