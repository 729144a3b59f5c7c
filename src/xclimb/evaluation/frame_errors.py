"""Errors of a potential frame by frame: the worst frames, by element, by group; :class:`FrameErrors` and its files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.evaluation.absolute_errors import absolute_errors, errors_by_element, errors_by_frame
from xclimb.evaluation.metrics import HasLabels, Metrics, compare_labels, predict_labels
from xclimb.units import MEV_PER_EV

WORST = 20  # frames in the table of the worst
TABLES = (".csv", ".parquet")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False, repr=False)
class FrameErrors:
    """Predicted labels beside the given ones, and the errors that follow.

    Args:
        name: the potential.
        predicted: the structures with predicted labels.
        labelled: the same with the labels to compare with.
        notes: what a reader of the errors should know, a sentence each.
    """

    name: str
    predicted: Frames
    labelled: Frames
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"FrameErrors({self.name}: {self.metrics})"

    @cached_property
    def metrics(self) -> Metrics:
        """Errors over all frames."""
        return compare_labels(self.predicted, self.labelled, self.notes)

    @cached_property
    def errors(self) -> dict[str, np.ndarray]:
        """Absolute errors by quantity; see :func:`xclimb.evaluation.absolute_errors.absolute_errors`."""
        return absolute_errors(self.predicted, self.labelled)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """One entry a frame ``[S]``, NaN without a label.

        ``energy_error_meV_per_atom`` (prediction minus label), ``forces_mae_meV_per_A``, ``forces_max_meV_per_A`` (largest
        component), ``stress_mae_GPa`` and ``magmom_mae_muB``, after ids, formula and size.
        """
        mine, given = self.predicted, self.labelled
        means = {name: values for name, (values, _) in errors_by_frame(self.errors, given).items()}
        largest = np.full(len(given), np.nan)
        np.fmax.at(largest, given.system, self.errors["forces"].max(axis=1, initial=0.0))
        columns = {"frame_id": given.frame_id, "material_id": given.material_id, "formula": given.formulas()}
        if "config_type" in given.extras:
            columns["config_type"] = given.extras["config_type"]
        return {name: np.asarray(values) for name, values in columns.items()} | {
            "n_atoms": given.n_atoms,
            "energy_error_meV_per_atom": MEV_PER_EV * (mine.energy - given.energy) / given.n_atoms,
            "forces_mae_meV_per_A": means["forces"],
            "forces_max_meV_per_A": largest,
            "stress_mae_GPa": means["stress"],
            "magmom_mae_muB": means["magmom"],
        }

    def rows(self, index: np.ndarray | None = None) -> Rows:
        """A dictionary a frame; those of ``index`` only, if it is given."""
        chosen = np.arange(len(self.labelled)) if index is None else index
        values = {name: column[chosen].tolist() for name, column in self.columns.items()}
        return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def worst(self, count: int = WORST) -> Rows:
        """The frames furthest from their labels, by energy or forces, each against its median over all frames."""
        sizes = [np.abs(self.columns[name]) for name in ("energy_error_meV_per_atom", "forces_mae_meV_per_A")]
        with np.errstate(all="ignore"):
            usual = [np.median(size[np.isfinite(size)]) if np.isfinite(size).any() else np.nan for size in sizes]
            times = np.fmax(*(np.nan_to_num(size / scale, nan=0.0) for size, scale in zip(sizes, usual, strict=True)))
        return self.rows(np.argsort(-times, kind="stable")[:count])

    def by_element(self) -> Rows:
        """A row an element: energies of the frames that contain it, forces and moments of its atoms."""
        return [
            {
                "element": symbol,
                "frames": int(row["frames"]),
                "atoms": int(row["atoms"]),
                "energy_mae_meV_per_atom": row["energy"],
                "forces_mae_meV_per_A": row["forces"],
                "magmom_mae_muB": row["magmom"],
            }
            for symbol, row in errors_by_element(self.errors, self.labelled).items()
        ]

    def by_group(self, column: str = "config_type") -> dict[str, Metrics]:
        """Errors of the frames of each value of a further column; empty without the column, without groups of no label."""
        if column not in self.labelled.extras:
            return {}
        values = np.asarray(self.labelled.extras[column]).astype(np.str_)
        groups = {name: np.flatnonzero(values == name) for name in np.unique(values).tolist()}
        return {
            name: compare_labels(self.predicted[rows], self.labelled[rows])
            for name, rows in groups.items()
            if any(self.labelled[rows].has(label) for label in ("energy", "forces", "stress", "magmoms"))
        }


def frame_errors(pot: HasLabels, frames: Frames, *, fit_references: bool = False) -> FrameErrors:
    """Errors of a potential on labelled frames, frame by frame; its ``metrics`` are those of :func:`evaluate`.

    Args:
        pot: the potential.
        frames: structures with labels; missing ones (NaN) are left out, label by label.
        fit_references: compare energies after residual references are fitted, as in :func:`evaluate`.

    Raises:
        DataError: if there are no frames, or none has a label.
    """
    predicted, notes = predict_labels(pot, frames, fit_references)
    return FrameErrors(str(getattr(pot, "name", "potential")), predicted, frames, notes)


def save_errors(many: list[FrameErrors], path: str | Path, overwrite: bool = False) -> list[Path]:
    """Write the errors of potentials on one set of frames.

    Args:
        many: one entry a potential.
        path: a file ``*.csv`` or ``*.parquet`` for the errors of each frame, or a folder for these (``frames.csv``), the worst
            frames, by element and by ``config_type``.
        overwrite: replace files that are there.

    Returns:
        The files.

    Raises:
        ConfigError: if a file exists, or the folder above does not.
    """
    path = Path(path)
    if path.suffix in TABLES:
        files = {path: _named(many, FrameErrors.rows)}
    else:
        if path.suffix or path.is_file():
            raise ConfigError(f"cannot write {path}: give a folder, or a name that ends in {' or '.join(TABLES)}")
        groups = _named(many, lambda one: [{"config_type": name, **m.to_dict()} for name, m in one.by_group().items()])
        tables = {"frames": _named(many, FrameErrors.rows), "worst": _named(many, FrameErrors.worst)}
        tables |= {"by_element": _named(many, FrameErrors.by_element), "by_config_type": groups}
        files = {path / f"{name}.csv": rows for name, rows in tables.items() if rows}
    for file in files:
        if file.exists() and not overwrite:
            raise ConfigError(f"{file} exists already: give another name, or overwrite=True (--overwrite) to replace it")
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} does not exist: make it first, or write {path.name} somewhere else")
    if path.suffix not in TABLES:
        path.mkdir(exist_ok=True)
    for file, rows in files.items():
        _write(rows, file)
    return list(files)


def _named(many: list[FrameErrors], rows_of: Callable[[FrameErrors], Rows]) -> Rows:
    """Rows of every potential, its name first."""
    return [{"potential": one.name, **row} for one in many for row in rows_of(one)]


def _write(rows: Rows, path: Path) -> None:
    """A table as CSV or Parquet, whole or not at all; empty cells for what is not finite."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    finite = [{k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()} for row in rows]
    table = pa.Table.from_pylist([{k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in finite])
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, str(beside))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
