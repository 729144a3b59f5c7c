"""Files and folders that appear whole or not at all, their JSON and CSV.

A file is written beside its place, down to the disk, then renamed: a reader sees the old one or the new one, and a process
that is killed leaves at most a hidden ``.<name>.<random>.new``, which :func:`remove_leftovers` takes away.
"""

import csv
import ctypes
import io
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from xclimb.errors import ConfigError

_HERE, _SWAP = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a named pipe",
          stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a symbolic link"}  # fmt: skip
_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # what a spreadsheet would compute, escaped already or not


# -- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden place beside a file to write to; it takes the file's name when the block ends without an error."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8."""
    with replacing(path) as beside:
        beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def check_writable(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file without being asked to, and whatever is not a regular file in any case.

    Raises:
        ConfigError: naming what is there; or that the folder above it does not exist.
    """
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError(
                f"the folder {path.parent} does not exist: make it first, or write {path.name} somewhere else"
            ) from None
        return
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}): give another name") from None
    if kind != stat.S_IFREG:
        raise ConfigError(f"{path} is {_KINDS.get(kind, 'no file')} and is never replaced: give the name of a file")
    if not overwrite:
        raise ConfigError(f"{path} exists already: give another name, or overwrite=True to replace it")


# -- folders ----------------------------------------------------------------------------------------------------------


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder beside its place, then exchange it for the one that is there.

    Raises:
        OSError: if there is no room or no right to write; the former folder is untouched, nothing new is left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".new", dir=folder.parent))
    try:
        for name, content in files.items():
            with (beside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)
        exchange(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def exchange(new: Path, place: Path) -> None:
    """Rename a folder to ``place``; a former folder there gets the name ``new``, in one step where the system can.

    Where it cannot, a process killed between two renames leaves the former folder under a name from which
    :func:`restore` brings it back.
    """
    if not place.exists():
        os.rename(new, place)
        return
    sys.audit("os.rename", str(new), str(place), -1, -1)  # as the functions of os do
    if _swapped(new, place):
        return
    former = _former(place)
    os.rename(place, former)
    try:
        os.rename(new, place)
    except OSError:
        os.rename(former, place)
        raise
    os.rename(former, new)


def _swapped(new: Path, place: Path) -> bool:
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(_HERE, os.fsencode(new), _HERE, os.fsencode(place), _SWAP) == 0


def _former(place: Path) -> Path:
    return place.with_name(f".{place.name}.former")


def restore(place: Path) -> None:
    """Bring back a folder that an :func:`exchange` was replacing when its process was killed."""
    former = _former(place)
    if former.is_dir() and not place.exists():
        os.rename(former, place)
    elif former.is_dir():
        shutil.rmtree(former, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder."""
    for left in folder.glob(".*.new"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


# -- JSON -------------------------------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """Indented JSON of nested values, NumPy arrays and scalars among them; numbers that are not finite become null."""
    how = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, default=_values, option=how)


def _values(array: Any) -> Any:
    """NumPy values that orjson does not take as they are: text, views with gaps."""
    if hasattr(array, "tolist"):
        return array.tolist()
    raise TypeError(f"{type(array).__name__} is no JSON")


def write_json(path: Path, value: Any) -> None:
    """Write :func:`to_json` of a value, whole or not at all."""
    write_file(path, to_json(value))


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no JSON, or nested beyond all sense.
    """
    return orjson.loads(path.read_bytes())


# -- CSV --------------------------------------------------------------------------------------------------------------


def to_csv(rows: Iterable[Sequence[Any]], lineterminator: str = "\n") -> str:
    """Rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=lineterminator).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return "'" + value


def from_cell(text: str) -> str:
    """The text that :func:`to_csv` wrote as this cell."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
