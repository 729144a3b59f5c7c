"""Detection of files with structures and of their formats: by content, else by the rules of formats for names."""

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from xclimb.data.store import is_store, verify_store
from xclimb.errors import DataError
from xclimb.formats import format_of, formats
from xclimb.formats.base import STORE, Source
from xclimb.formats.compressed import open_compressed, read_on, without_suffix

_HEAD = 4096
# suffixes that every kind of file has: in a folder, such a file counts only if its content tells the format
_AMBIGUOUS = (".md", ".out", ".log", ".txt", ".in", ".dat", ".data", ".xml", ".run", ".inp")


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
        return [Source(path, STORE, path.name)], []
    sources, passed = [], []
    for folder, names, files in os.walk(path):
        names[:] = sorted(name for name in names if not name.startswith("."))
        stores = [name for name in names if is_store(Path(folder, name))]
        names[:] = [name for name in names if name not in stores]
        here = [Source(Path(folder, name), STORE, _below(path, Path(folder, name))) for name in stores]
        for name in sorted(files):
            file = Path(folder, name)
            source = None if name.startswith(".") else _source(file, _below(path, file), _kind_in_folder)
            if source is None:
                passed.append(file)
            else:
                here.append(source)
        here.sort(key=lambda source: source.path.name)
        repeated = {kind for source in here if source.problem is None for kind in format_of(source.kind).repeats}
        passed += [source.path for source in here if source.kind in repeated]
        sources += [source for source in here if source.kind not in repeated]
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
    searched = [find_sources(path) for path in expanded(paths)]
    sources = [source for files, _ in searched for source in files]
    check_readable(sources)
    return sources, tuple(path for _, others in searched for path in others)


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
        if source.is_store:
            verify_store(source.path)


def _source(path: Path, stem: str, kind_of: Callable[[Path], str | None]) -> Source | None:
    try:
        kind = kind_of(path)
    except _UnreadableError as error:
        return Source(path, "unreadable", stem, problem=str(error))
    return None if kind is None else Source(path, kind, stem)


def detect(path: Path) -> str:
    """The kind of a file, see :attr:`xclimb.formats.base.Source.kind`.

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
    """Kind of a file or None; without ``by_name``, a suffix that many programs use does not count."""
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
    for one in formats():
        if (kind := one.sniff(head, path)) is not None:
            return kind
    if not by_name and Path(without_suffix(path.name)).suffix.lower() in _AMBIGUOUS:
        return None
    return next((kind for one in formats() if (kind := one.sniff_name(path)) is not None), None)


def _stem(name: str) -> str:
    """A file name without its suffix, and without that of a compression: ``vasprun.xml.gz`` -> ``vasprun``."""
    return Path(without_suffix(name)).stem


def _below(root: Path, path: Path) -> str:
    relative = path.relative_to(root)
    return (relative.parent / _stem(relative.name)).as_posix()
