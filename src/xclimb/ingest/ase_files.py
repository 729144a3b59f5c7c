"""Frames out of every format that ASE reads, some at a time."""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.convert import from_ase, label_columns
from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.errors import DataError, XclimbWarning
from xclimb.ingest.audit import Reject
from xclimb.ingest.parquet import first_line
from xclimb.ingest.parts import Part
from xclimb.ingest.sources import Source

if TYPE_CHECKING:
    from ase import Atoms

ATOMS_AT_ONCE = 1000  # frames in one go
_WORDS = ("energy", "force", "stress", "virial", "magmom")


def iter_ase(source: Source, keys: LabelKeys | None = None) -> Iterator[Part]:
    """Frames of a file that ASE reads, in parts.

    Frames without a ``frame_id`` are called ``"<stem>#<n>"``. A frame whose labels do not fit it is a reject; where the file
    breaks off, what stands before is given first.

    Args:
        source: the file.
        keys: names of the labels, where the user gives them; see :func:`xclimb.data.convert.from_ase`.

    Raises:
        DataError: if the file cannot be read (on from some frame, which is named), or no frame has the energy named.
    """
    images = _images(source)
    first, found, keys = 0, False, keys or LabelKeys()
    names: set[str] = set()
    while True:
        many, error = _take(images)
        if many:
            frames, rejects = _frames(many, source, first, keys)
            if first == 0:
                _warn_of_unused(many, frames, source, keys)
            found, names = found or frames.has("energy"), names | _keys(many[0])
            bad = {reject.index for reject in rejects}
            yield Part(
                frames, first, rejects, np.array([n for n in range(first, first + len(many)) if n not in bad], dtype=int)
            )
            first += len(many)
        if error is not None:
            where = f"after frame {first}" if first else "from its start"
            raise DataError(
                f"{source.path} cannot be read as {source.kind} {where} ({first_line(error)}): repair it or cut it there"
            )
        if not many:
            break
    if first == 0:
        raise DataError(f"{source.path} has no frames: there is nothing to read")
    if keys.energy is not None and not found:
        raise DataError(f"{source.path}: no frame has an energy under {keys.energy!r}; its keys are {', '.join(sorted(names))}")


def _images(source: Source) -> "Iterator[Atoms]":
    if source.database:
        from ase.db import connect

        with connect(str(source.path), type=source.kind, serial=True) as database:
            for row in database.select():
                yield row.toatoms(add_additional_information=True)
    else:
        from ase.io import iread

        yield from iread(str(source.path), ":", format=source.kind, do_not_split_by_at_sign=True)


def _take(images: "Iterator[Atoms]") -> "tuple[list[Atoms], Exception | None]":
    """The next atoms, and what went wrong while reading them. ASE's readers raise whatever they stumble over."""
    many: list[Atoms] = []
    try:
        many.extend(islice(images, ATOMS_AT_ONCE))  # keeps what came before an error
    except Exception as error:  # every kind of exception is a file that cannot be read
        return many, error
    return many, None


def _frames(many: "list[Atoms]", source: Source, first: int, keys: LabelKeys) -> tuple[Frames, list[Reject]]:
    """Atoms -> Frames; only if some do not fit, one by one to find which."""
    names = [f"{source.stem}#{first + n}" for n in range(len(many))]
    partial = [_is_partial(atoms) for atoms in many]
    if not any(partial):
        try:
            return from_ase(many, keys=keys, default_ids=names), []
        except DataError:
            pass
    good, rejects = [], []
    for n, atoms in enumerate(many):
        name = str(atoms.info.get("frame_id", names[n]))
        if partial[n]:
            rejects.append(Reject(name, first + n, "partial occupancies", "order the structure first", str(source.path)))
            continue
        try:
            good.append(from_ase(atoms, keys=keys, default_ids=[name]))
        except DataError as error:
            reason = str(error).split("): ", 1)[-1]
            rejects.append(Reject(name, first + n, "unusable label", reason, str(source.path)))
    return (Frames.concatenate(good) if good else Frames.empty()), rejects


def _is_partial(atoms: "Atoms") -> bool:
    occupancy = atoms.info.get("occupancy")
    if not isinstance(occupancy, dict):
        return False
    return any(share < 0.999 for site in occupancy.values() for share in dict(site).values())


def _keys(atoms: "Atoms") -> set[str]:
    own = {"numbers", "positions", "initial_magmoms", "initial_charges", "tags", "momenta", "masses"}
    return {str(key) for key in (*atoms.info, *atoms.arrays, *getattr(atoms.calc, "results", {}))} - own


def _warn_of_unused(many: "list[Atoms]", frames: Frames, source: Source, keys: LabelKeys) -> None:
    """Labels under names of their own are not passed over in silence: say which, and how to mean them."""
    lacking = [
        word
        for word, label in zip(_WORDS, ("energy", "forces", "stress", "stress", "magmoms"), strict=True)
        if not frames.has(label)
    ]
    taken = set(label_columns(keys).values())
    unused = [key for key in sorted(_keys(many[0]) - taken) if any(word in key.lower() for word in lacking)]
    if unused:
        told = ", ".join(unused)
        way = "" if keys.energy else "; energy_key=... says which key holds the energy"
        text = f"{source.path}: {told}: labels by name, but not read{way}"
        warnings.warn(text, XclimbWarning, stacklevel=2)
