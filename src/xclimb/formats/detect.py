"""Which files hold structures, and in which format: found by content where that is cheap, else by ASE's rules for names."""

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from xclimb.data.store import is_store, verify_store
from xclimb.errors import DataError
from xclimb.formats.base import Source
from xclimb.formats.compressed import BROKEN, head_of, open_compressed, read_on
from xclimb.formats.materials_project.spans import record_depth

_HEAD = 4096
_RECORDS = 1_000_000  # bytes in which the first JSON record has to begin
_PEEK = 2000  # as much as ASE's patterns are made for
# of the files of one VASP calculation the first of these that is there is read; the others tell the same, or less
_VASP = ("vasp-xml", "vasp-out", "vasp-xdatcar", "vasp")
# suffixes that every kind of file has: in a folder, such a file counts only if its content tells the format
_AMBIGUOUS = (".md", ".out", ".log", ".txt", ".in", ".dat", ".data", ".xml", ".run", ".inp")
_LMDB = b"\xde\xc0\xef\xbe"  # the magic number of an LMDB file, behind its page header


class _UnreadableError(DataError):
    """A file that cannot be opened: of one among many it is a reject, by itself an error."""


def expanded(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> list[Path]:
    """Files and folders; a pattern becomes what fits it, in the order of names.

    Raises:
        DataError: if nothing fits a pattern.
    """
    many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    out = []
    for path in many:
        text = os.fspath(path)
        fitting = sorted(glob.glob(text, recursive=True)) if not Path(text).exists() and glob.has_magic(text) else [text]
        if not fitting:
            raise DataError(f"no file fits the pattern {text}: check the spelling")
        out += [Path(one) for one in fitting]
    return out


def find_sources(path: Path) -> tuple[list[Source], list[Path]]:
    """The readable files of a folder and of the folders below it (or the one file), and the files passed over.

    Passed over are hidden files, files of no format with structures, and files that repeat a VASP calculation: where there
    is a ``vasprun.xml``, its OUTCAR, XDATCAR, POSCAR and CONTCAR. A file that cannot be opened is a source with a ``problem``.

    Raises:
        DataError: if the path does not exist, the file is empty or of unknown format, or the folder has nothing to read.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: check the spelling")
    if path.is_file():
        source = _source(path, _stem(path.name), detect)
        return [source] if source is not None else [], []
    if is_store(path):
        return [Source(path, "store", path.name)], []
    sources, passed = [], []
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        stores = [name for name in names if is_store(Path(folder, name))]
        names[:] = [name for name in names if name not in stores]
        found = [Source(Path(folder, name), "store", _below(path, Path(folder, name))) for name in stores]
        for name in sorted(files):
            file = Path(folder, name)
            source = None if name.startswith(".") else _source(file, _below(path, file), _kind_in_folder)
            if source is None:
                passed.append(file)
            else:
                found.append(source)
        found.sort(key=lambda source: source.path.name)
        told = [kind for kind in _VASP if any(source.kind == kind for source in found)][1:]
        passed += [source.path for source in found if source.kind in told]
        sources += [source for source in found if source.kind not in told]
    if not sources:
        raise DataError(
            f"{path} has no file that can be read (looked at {len(passed)}): give Parquet, or a format that ASE reads"
        )
    return sources, passed


def files_of(paths: str | os.PathLike | Sequence[str | os.PathLike]) -> tuple[list[Source], tuple[Path, ...]]:
    """The files that paths and patterns name, and those of folders that are passed over.

    Raises:
        DataError: if there is nothing to read.
    """
    found = [find_sources(path) for path in expanded(paths)]
    sources = [source for files, _ in found for source in files]
    check_readable(sources)
    return sources, tuple(path for _, others in found for path in others)


def check_readable(sources: Sequence[Source]) -> None:
    """Refuse sources of which not one can be opened.

    Raises:
        DataError: naming the first, and why.
    """
    if sources and all(source.problem for source in sources):
        rest = f"; none of the {len(sources)} files can be" if len(sources) > 1 else ""
        raise DataError(f"{sources[0].problem}{rest}")


def check_stores(sources: Sequence[Source]) -> None:
    """Compare the checksums of all stores: what is copied out of one gets fresh checksums.

    Raises:
        DataError: naming the first file that is damaged.
    """
    for source in sources:
        if source.kind == "store":
            verify_store(source.path)


def _source(path: Path, stem: str, kind_of: Callable[[Path], str | None]) -> Source | None:
    try:
        kind = kind_of(path)
    except _UnreadableError as error:
        return Source(path, "unreadable", stem, problem=str(error))
    if kind != "records":
        return None if kind is None else Source(path, kind, stem)
    return Source(path, kind, stem, record_depth(head_of(path, _RECORDS)))


def detect(path: Path) -> str:
    """The format of a file: ``"parquet"`` or the name of one of ASE's formats.

    Raises:
        DataError: if it is empty or not known.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes): fetch or write it again")
    kind = _kind(path)
    if kind is None:
        raise DataError(f"{path} is in no format with structures that xclimb knows: give Parquet, or a format that ASE reads")
    return kind


def _kind_in_folder(path: Path) -> str | None:
    try:
        empty = path.stat().st_size == 0
    except OSError as error:  # a link to nowhere
        raise _unreadable(path, error) from None
    return None if empty else _kind(path, by_name=False)


def _kind(path: Path, by_name: bool = True) -> str | None:
    """Format of a file or None; without ``by_name``, a name that could be anything's does not count."""
    try:
        with open_compressed(path) as file:
            head, broken = read_on(file, _HEAD)
    except OSError as error:  # no permission
        raise _unreadable(path, error) from None
    kind = _kind_of(path, head, by_name) if head or broken is None else None
    if kind is None and broken is not None:
        raise _unreadable(path, broken)
    return kind


def _unreadable(path: Path, error: Exception) -> _UnreadableError:
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return _UnreadableError(f"{path} cannot be opened ({why}): fetch or write it again")


def _kind_of(path: Path, head: bytes, by_name: bool) -> str | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        if is_store(path.parent):
            raise DataError(f"{path} is a part of a store: give its folder, {path.parent}")
        return None
    if head.startswith(b"SQLite format 3"):
        return "db"
    if head[16:20] == _LMDB:
        return "aselmdb"
    if b"<modeling>" in head:
        return "vasp-xml"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") and _has_records(path, head):
        return "records"
    if _is_extxyz(head):
        return "extxyz"
    return _ase_format(path, head, by_name)


def _has_records(path: Path, head: bytes) -> bool:
    if record_depth(head) is None:
        head = head_of(path, _RECORDS)
    return record_depth(head) is not None


def _is_extxyz(head: bytes) -> bool:
    lines = head.split(b"\n", 2)
    return len(lines) > 1 and lines[0].strip().isdigit() and (b"Properties=" in lines[1] or b"Lattice=" in lines[1])


def _ase_format(path: Path, head: bytes, by_name: bool) -> str | None:
    from ase.io.formats import UnknownFileTypeError, ioformats, match_magic

    try:
        kind = match_magic(head[:_PEEK]).name
    except UnknownFileTypeError:
        plain = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz") else path
        if not by_name and plain.suffix.lower() in _AMBIGUOUS:
            return None
        kind = _by_name(path)
    if kind is None or not ioformats[kind].can_read:
        return None
    if kind == "json" and not _is_database(path, head):
        return None
    return kind


def _is_database(path: Path, head: bytes) -> bool:
    """Whether a JSON file is a database of ASE: its rows have these keys, maybe behind long constraints."""
    return any(key in head or key in head_of(path, _RECORDS) for key in (b'"numbers"', b'"ids"'))


def _by_name(path: Path) -> str | None:
    """ASE's format for a name, or for a suffix that is a format's name; last, by a look for plain xyz."""
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats

    for guess in (True, False):
        try:
            kind = filetype(str(path), read=True, guess=guess)
        except (UnknownFileTypeError, UnicodeDecodeError, *BROKEN):
            continue
        if kind in ioformats:
            return kind
    return None


def _stem(name: str) -> str:
    """A file name without its suffix, and without that of a compression: ``vasprun.xml.gz`` -> ``vasprun``."""
    plain = Path(name)
    return plain.with_suffix("").stem if plain.suffix in (".gz", ".bz2", ".xz") else plain.stem


def _below(root: Path, path: Path) -> str:
    relative = path.relative_to(root)
    return (relative.parent / _stem(relative.name)).as_posix()
