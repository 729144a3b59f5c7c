"""Every format that ASE reads, its own databases and trajectories among them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.convert import from_ase
from xclimb.data.frames import Frames
from xclimb.data.label_keys import LabelKeys
from xclimb.data.label_schema import LabelSchema, missing_key, parse_key
from xclimb.errors import DataError
from xclimb.formats.base import EV_UNITS, Format, Part, ReadOptions, Reject, Source, first_line, register
from xclimb.formats.compressed import BROKEN, check_unpacked, head_of

if TYPE_CHECKING:
    from ase import Atoms

FRAMES_AT_ONCE, ATOMS_AT_ONCE = 1000, 1_000_000  # in one go
_PEEK = 2000  # bytes that ASE's patterns of content are made for
_FIRST_ROW = 1_000_000  # bytes in which the first row of a JSON database has its atoms, maybe behind long constraints
_LMDB = b"\xde\xc0\xef\xbe"  # the magic number of an LMDB file, behind its page header


def read_ase(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Frames of a file that ASE reads; see :func:`read_images`."""
    yield from read_images(_images(source), source, options)


def read_images(images: "Iterator[Atoms]", source: Source, options: ReadOptions) -> Iterator[Part]:
    """Atoms of a file as frames, in parts.

    Frames without a ``frame_id`` are called ``"<stem>#<n>"``. A frame whose labels do not fit it is a reject; frames before
    the place where a file breaks off are given first.

    Args:
        images: the atoms, in the order of the file.
        source: the file.
        options: keys of labels, and the functional that chooses among labels of several.

    Raises:
        DataError: if the file cannot be read (on from some frame, which is named), or no frame has a key that was given.
    """
    if options.labels == "ignored":
        for many, first in _pieces(source, images):
            yield _part([_bare(atoms) for atoms in many], source, first, LabelSchema())
        return
    names, known = set[str](), set[str]()
    for many, first in _pieces(source, images):
        schema = LabelSchema(options.keys, options.functional)
        part = _part(many, source, first, schema)
        names, known = names | _keys(many[0]), known | schema.use.known
        yield part
    for quantity, key in options.keys.given.items():
        if key not in known:
            raise missing_key(str(source.path), quantity, key, sorted(names))


def part_of_atoms(many: "list[Atoms]", source: Source, keys: LabelKeys, functional: str | None) -> Part:
    """Atoms that no file holds, as frames; those whose labels do not fit are rejects."""
    return _part(many, source, 0, LabelSchema(keys, functional))


def _pieces(source: Source, images: "Iterator[Atoms]") -> "Iterator[tuple[list[Atoms], int]]":
    """Some atoms at a time, and the number of the first; an error of the reader comes after what stands before it."""
    first = 0
    while True:
        many, error = _take(images)
        if many:
            yield many, first
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


def _bare(atoms: "Atoms") -> "Atoms":
    """A structure and what its ``info`` says of it, labels left out."""
    from ase import Atoms

    info = {key: value for key, value in atoms.info.items() if parse_key(key) is None}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)


def _images(source: Source) -> "Iterator[Atoms]":
    from ase.io import iread

    check_unpacked(source.path)
    yield from iread(str(source.path), ":", format=source.kind, do_not_split_by_at_sign=True)


def _read_database(source: Source, options: ReadOptions) -> Iterator[Part]:
    yield from read_images(_images(source) if source.kind == "traj" else _rows(source), source, options)


def _rows(source: Source) -> "Iterator[Atoms]":
    from ase.db import connect

    with connect(str(source.path), type=source.kind, serial=True) as database:
        for row in database.select():
            yield row.toatoms(add_additional_information=True)


def _take(images: "Iterator[Atoms]") -> "tuple[list[Atoms], Exception | None]":
    """The next atoms, and what went wrong while reading them. ASE's readers raise whatever they stumble over."""
    many: list[Atoms] = []
    try:
        size = 0
        for atoms in islice(images, FRAMES_AT_ONCE):
            many.append(atoms)
            size += len(atoms)
            if size > ATOMS_AT_ONCE:
                break
    except Exception as error:  # every kind of exception is a file that cannot be read
        return many, error
    return many, None


def _part(many: "list[Atoms]", source: Source, first: int, schema: LabelSchema) -> Part:
    """Atoms -> Frames; only if some do not fit, one by one to find which."""
    names = [f"{source.stem}#{first + n}" for n in range(len(many))]
    partial = [_is_partial(atoms) for atoms in many]
    if not any(partial):
        try:
            return Part(from_ase(many, schema=schema, default_ids=names), first, use=schema.use)
        except DataError:
            pass
    good, places, rejects = [], [], []
    for n, atoms in enumerate(many):
        name = str(atoms.info.get("frame_id", names[n]))
        if partial[n]:
            rejects.append(Reject(name, first + n, "partial occupancies", "order the structure first", str(source.path)))
            continue
        try:
            good.append(from_ase(atoms, schema=schema, default_ids=[name]))
            places.append(first + n)
        except DataError as error:
            reason = str(error).split("): ", 1)[-1]
            rejects.append(Reject(name, first + n, "unusable label", reason, str(source.path)))
    frames = Frames.concatenate(good) if good else Frames.empty()
    return Part(frames, first, rejects, np.array(places, dtype=int), schema.use)


def _is_partial(atoms: "Atoms") -> bool:
    occupancy = atoms.info.get("occupancy")
    if not isinstance(occupancy, dict):
        return False
    return any(share < 0.999 for site in occupancy.values() for share in dict(site).values())


def _keys(atoms: "Atoms") -> set[str]:
    own = {"numbers", "positions", "initial_magmoms", "initial_charges", "tags", "momenta", "masses"}
    return {str(key) for key in (*atoms.info, *atoms.arrays, *getattr(atoms.calc, "results", {}))} - own


# -- detection ------------------------------------------------------------------------------------------------------------


def _database_kind(head: bytes, path: Path) -> str | None:
    if head.startswith(b"SQLite format 3"):
        return "db"
    return "aselmdb" if head[16:20] == _LMDB else None


def _kind(head: bytes, path: Path) -> str | None:
    """ASE's format for the content of a file."""
    from ase.io.formats import UnknownFileTypeError, match_magic

    try:
        return _readable(match_magic(head[:_PEEK]).name, path)
    except UnknownFileTypeError:
        return None


def _kind_by_name(path: Path) -> str | None:
    """ASE's format for a name, or for a suffix that is the name of a format; else simple xyz by its first lines."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    for guess in (True, False):
        try:
            kind = filetype(str(path), read=True, guess=guess)
        except (UnknownFileTypeError, UnicodeDecodeError, *BROKEN):
            continue
        if kind in ioformats:
            return _readable(kind, path)
    return None


def _readable(kind: str, path: Path) -> str | None:
    from ase.io.formats import ioformats

    if not ioformats[kind].can_read:
        return None
    if kind == "json" and not any(key in head_of(path, _FIRST_ROW) for key in (b'"numbers"', b'"ids"')):
        return None  # JSON, but no database
    return kind


register(
    Format(
        "ase_db",
        reads={
            "ASE databases (SQLite, JSON) and trajectories": "calculator results, or labels under their names",
            "ASE-LMDB (`aselmdb`)": "as ASE databases; needs `pip install 'xclimb[lmdb]'`",
        },
        kinds=("db", "json", "aselmdb", "traj"),
        iter=_read_database,
        sniff=_database_kind,
        units=EV_UNITS,
    )
)
register(
    Format(
        "ase",
        reads={"all else that ASE reads": "calculator results, or labels under their names"},
        iter=read_ase,
        sniff=_kind,
        sniff_name=_kind_by_name,
        priority=100,
    )
)
