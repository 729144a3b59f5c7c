"""Frames to the files of others: extxyz, ASE databases, Parquet; each reads back as the very same frames.

The level of theory goes along with every frame (as JSON under ``level_of_theory``), and so do names and further columns. The
numbers of an extxyz file have as many digits as they need: ASE's own writer cuts them at eight decimals.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xclimb.data.convert import THEORY, to_ase
from xclimb.data.frames import Frames
from xclimb.data.parquet import to_parquet
from xclimb.data.store import open_store
from xclimb.errors import DataError
from xclimb.files import check_writable, replacing

_PIECE = 5000  # frames turned into text or atoms in one go
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.:/#-]*")  # text that needs no quotes


def export(
    frames: Frames | str | os.PathLike, path: str | os.PathLike, format: str | None = None, *, overwrite: bool = False
) -> Path:
    """Write frames to a file for other programs; ``xclimb.read`` gives the same frames back.

    Args:
        frames: what to write, or the folder of a store.
        path: the file; it appears whole or not at all.
        format: ``"extxyz"``, ``"db"`` (ASE, SQLite), ``"aselmdb"`` or ``"parquet"`` (Arrow lists, as Hugging Face ``datasets``
            opens them); by default what the suffix of the file says.
        overwrite: replace a file that is there.

    Raises:
        DataError: on an unknown format, a damaged store, no frames, or a further column that is not one number or text a frame.
        ConfigError: if the file exists and is not to be overwritten, or is no regular file.
    """
    path = Path(path)
    if format is None:
        format = {".xyz": "extxyz"}.get(path.suffix, path.suffix.removeprefix("."))
    if format not in _WRITERS:
        raise DataError(f"{path}: {format or 'a name without suffix'} is no format to export to: give {', '.join(_WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path, overwrite)
    frames = frames if isinstance(frames, Frames) else open_store(frames, verify=True)
    if not len(frames):
        raise DataError(f"there is nothing to export to {path}: the set has no frames")
    _check_extras(frames)
    with replacing(path) as beside:
        try:
            _WRITERS[format](frames, beside)
        finally:
            Path(f"{beside}-lock").unlink(missing_ok=True)  # LMDB's
    return path


def _check_extras(frames: Frames) -> None:
    for name, values in frames.extras.items():
        if values.ndim != 1 or values.dtype.kind not in "biufU":
            raise DataError(f"extra column {name!r} cannot be exported: it must be one number or text a frame")


def _pieces(frames: Frames) -> Iterator[Frames]:
    return (frames[start : start + _PIECE] for start in range(0, len(frames), _PIECE))


# -- extxyz -----------------------------------------------------------------------------------------------------------


def _write_extxyz(frames: Frames, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for piece in _pieces(frames):
            file.writelines(_extxyz(piece))


def _extxyz(frames: Frames) -> Iterator[str]:
    """The text of each frame."""
    from ase.data import chemical_symbols

    symbols = np.array(chemical_symbols)[frames.numbers].tolist()
    positions, forces, magmoms = frames.positions.tolist(), frames.forces.tolist(), frames.magmoms.tolist()
    bounds, theory = frames.offsets.tolist(), frames.theory.to_dict()
    for s in range(len(frames)):
        rows = slice(bounds[s], bounds[s + 1])
        columns = [[[symbol] for symbol in symbols[rows]], positions[rows]]
        properties = "species:S:1:pos:R:3"
        if np.isfinite(frames.forces[rows]).any():
            columns, properties = [*columns, forces[rows]], properties + ":forces:R:3"
        if np.isfinite(frames.magmoms[rows]).any():
            columns, properties = [*columns, [[m] for m in magmoms[rows]]], properties + ":magmoms:R:1"
        words: dict[str, Any] = {"frame_id": frames.frame_id[s].item(), "material_id": frames.material_id[s].item()}
        words |= {name: values[s].item() for name, values in frames.extras.items()}
        words |= {THEORY: theory} if theory else {}
        stress = frames.stress[s].T  # column by column, as ASE reads it
        labels = {"energy": repr(frames.energy[s].item())} if np.isfinite(frames.energy[s]) else {}
        labels |= {"stress": _many(stress)} if np.isfinite(stress).all() else {}
        pbc = " ".join("FT"[int(one)] for one in frames.pbc[s])
        head = [f'Lattice="{_inside(frames.cells[s])}"', f"Properties={properties}", f'pbc="{pbc}"']
        head += [f"{name}={value}" for name, value in (labels | {name: _word(value) for name, value in words.items()}).items()]
        lines = [" ".join(map(str, (x for part in atom for x in part))) for atom in zip(*columns, strict=True)]
        yield "\n".join([str(len(lines)), " ".join(head), *lines]) + "\n"


def _inside(matrix: np.ndarray) -> str:
    return " ".join(map(repr, matrix.reshape(-1).tolist()))


def _many(matrix: np.ndarray) -> str:
    return f'"{_inside(matrix)}"'


def _word(value: Any) -> str:
    """A value of the comment line; text that could be read as something else as JSON, the way ASE does."""
    if isinstance(value, bool):
        return "FT"[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in ("t", "f", "true", "false", "nan", "inf"):
        return value
    return '"_JSON ' + re.sub(r'(["\\])', r"\\\1", json.dumps(value)) + '"'


# -- ASE databases ----------------------------------------------------------------------------------------------------


def _write_db(kind: str) -> Callable[[Frames, Path], None]:
    def write(frames: Frames, path: Path) -> None:
        from ase.db import connect

        theory = frames.theory.to_dict()
        with connect(str(path), type=kind, append=False) as database:
            for piece in _pieces(frames):
                for atoms in to_ase(piece):
                    words = {name: value for name, value in atoms.info.items() if name != THEORY}
                    searched = {name: words[name] for name in ("functional", "material_id", "frame_id") if name in words}
                    searched = {name: value for name, value in searched.items() if not _like_a_number(value)}
                    database.write(atoms, key_value_pairs=searched, data={"xclimb": words | {THEORY: theory}})

    return write


def _like_a_number(text: str) -> bool:
    """Whether ASE refuses the text as a value."""
    try:
        float(text)
    except ValueError:
        return text in ("True", "False", "")
    return True


def _write_parquet(frames: Frames, path: Path) -> None:
    to_parquet(frames, path)


_WRITERS: dict[str, Callable[[Frames, Path], None]] = {
    "extxyz": _write_extxyz,
    "db": _write_db("db"),
    "aselmdb": _write_db("aselmdb"),
    "parquet": _write_parquet,
}
