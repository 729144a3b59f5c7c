"""Run, study and shift folders, read into dataclasses: the only input of the report.

A file that is missing leaves its field empty and its name in ``missing``; a file that is there but broken is an error.
"""

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from xclimb.comparison.shift_report import ShiftReport
from xclimb.errors import DataError
from xclimb.report.run_predictions import Predicted, checked_predictions
from xclimb.runs.schema import check, shift_schema

SHIFT_ARRAYS = ("low_energy_per_atom", "high_energy_per_atom", "low_referenced", "high_referenced")


@dataclass(frozen=True)
class Row:
    """One line of results: the errors of one model (and seed) on one split.

    Args:
        model: method or baseline name.
        seed: None for baselines.
        kind: ``"method"`` or ``"baseline"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        metrics: name -> number (meV/atom, meV/Å, GPa, µB, counts); NaN where there were no labels.
        notes: sentences that belong to the numbers.
    """

    model: str
    seed: int | None
    kind: str
    split: str
    metrics: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class References:
    """Elemental references as shown in the report.

    Args:
        kind: ``"source"``, ``"raw"``, ``"residual"``, ``"robust"``, ...
        values: symbol -> eV per atom of the element.
        std: symbol -> eV, standard deviation of the value.
        materials: symbol -> number of materials behind the value.
        covered: symbols that occur in the data of the fit.
        uncovered: symbols that do not; their value, if any, was kept from elsewhere.
        undetermined: groups of symbols of which only combinations are determined, ``"K–Cl"``.
        fit_mae: residual of the fit, meV/atom.
        held_out_mae: the same for materials left out of the fit, meV/atom.
        notes: sentences of the fit.
    """

    kind: str
    values: dict[str, float]
    std: dict[str, float]
    materials: dict[str, float]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    undetermined: tuple[str, ...]
    fit_mae: float
    held_out_mae: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RunFolder:
    """A run folder: one transfer.

    Args:
        path: the folder.
        info: run.json.
        config: config.yaml, resolved settings; empty if missing.
        epochs: metrics.jsonl, one dictionary an epoch, epoch 0 before any step; empty if missing.
        references: references.json; None if missing.
        evaluation: rows of evaluation.json, of the potential that was kept; empty if missing.
        before: the same of the potential at step 0, where evaluation.json holds both.
        predictions: split -> what predictions.json holds; empty if missing.
        missing: names of the files that are not there.
        notes: the run's own notes, and problems on reading (a last line cut off).
    """

    path: Path
    info: dict
    config: dict
    epochs: tuple[dict, ...]
    references: References | None
    evaluation: tuple[Row, ...]
    before: tuple[Row, ...]
    predictions: dict[str, Predicted]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def method(self) -> str:
        """Name of the transfer method."""
        return str(self.info.get("method", self.path.name))

    @property
    def best_epoch(self) -> int | None:
        """The epoch that was kept; 0 is the state before any step; None if unknown."""
        best = self.info.get("best_epoch")
        return int(best) if isinstance(best, int | float) else None


@dataclass(frozen=True)
class StudyFolder:
    """A study folder: several methods and seeds on the same data.

    Args:
        path: the folder.
        study: study.json.
        shift: shift.json (a dictionary of a ShiftReport); None if missing.
        runs: the run folders under ``runs/``, sorted by name.
        results: rows of results.json.
        retention: rows of retention.json (errors on the source functional's labels).
        predictions: predictions.json; None if missing.
        references: kind -> references, from ``references/``.
        missing: names of the files that are not there.
    """

    path: Path
    study: dict
    shift: dict | None
    runs: tuple[RunFolder, ...]
    results: tuple[Row, ...]
    retention: tuple[Row, ...]
    predictions: dict | None
    references: dict[str, References]
    missing: tuple[str, ...]

    @property
    def source(self) -> str:
        """Name of the untouched source potential."""
        return str(self.study.get("source", "source"))


@dataclass(frozen=True)
class ShiftFolder:
    """A shift folder: how two functionals differ.

    Args:
        path: the folder.
        report: shift.json.
    """

    path: Path
    report: ShiftReport


_WANTED = "give the folder that xclimb transfer, xclimb study or xclimb shift --out wrote"


def read_folder(path: str | Path) -> RunFolder | StudyFolder | ShiftFolder:
    """Read a run folder (run.json), a study folder (study.json) or a shift folder (shift.json alone).

    Raises:
        DataError: if the folder is none of them, or if one of its files is broken.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}: {_WANTED}")
    if (folder / "study.json").is_file():
        return _read_study(folder)
    if (folder / "run.json").is_file():
        return _read_run(folder)
    if (folder / "shift.json").is_file():
        return _read_shift(folder)
    raise DataError(f"{folder} holds neither run.json nor study.json nor shift.json; {_WANTED}")


def number(value) -> float:
    """A finite number, or NaN for anything else (None, text, infinity)."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else math.nan


# -- reading of single files -------------------------------------------------------------------------


def _read_json(file: Path, kind: type = dict):
    """A JSON file of the kind expected; None if there is no such file."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not complete JSON ({_first_line(error)}); write it again or remove it") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its permissions") from None
    if not isinstance(content, kind):
        expected = "list" if kind is list else "object"
        raise DataError(f"{file} should hold a JSON {expected} and holds another thing; write it again or remove it")
    return content


def _require(fields: dict, file: Path, objects: tuple[str, ...], lists: tuple[str, ...] = ()) -> None:
    """Refuse a dictionary whose named entries are there but of another kind; an entry of null counts as missing."""
    for kind, names in ((dict, objects), (list, lists)):
        for name in names:
            if fields.get(name) is not None and not isinstance(fields[name], kind):
                expected = "list" if kind is list else "object"
                raise DataError(f"{file}: {name!r} should be a JSON {expected}; write the file again or remove it")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _read_yaml(file: Path) -> dict | None:
    if not file.is_file():
        return None
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not valid YAML ({_first_line(error)}); write it again or remove it") from None
    if content is not None and not isinstance(content, dict):
        raise DataError(f"{file} should hold settings by name and holds another thing; write it again or remove it")
    return content or {}


def _read_epochs(file: Path) -> tuple[tuple[dict, ...] | None, tuple[str, ...]]:
    """The epochs of a run, in order; a last line cut off in the middle (a killed run) is left out with a note."""
    if not file.is_file():
        return None, ()
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    epochs, notes = {}, []
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            epochs[int(record["epoch"])] = record
            _require(record, file, ("train", "val"))
        except (RecursionError, KeyError, TypeError, ValueError):
            if n == len(lines):
                notes.append(f"The last line of {file.name} is cut off, as a killed run leaves it; that epoch is not shown.")
                continue
            raise DataError(f"{file}, line {n}, is not a record of an epoch; remove that line") from None
    return tuple(epochs[epoch] for epoch in sorted(epochs)), tuple(notes)


def _read_run(folder: Path) -> RunFolder:
    info = _read_json(folder / "run.json") or {}
    _require(info, folder / "run.json", ("theory", "data", "settings", "versions"), ("notes",))
    _require(info.get("theory") or {}, folder / "run.json", ("source", "target"))
    config = _read_yaml(folder / "config.yaml")
    epochs, notes = _read_epochs(folder / "metrics.jsonl")
    references = _read_json(folder / "references.json")
    evaluation = _read_json(folder / "evaluation.json")
    predictions = _read_json(folder / "predictions.json")
    contents = {
        "config.yaml": config, "metrics.jsonl": epochs, "references.json": references, "evaluation.json": evaluation,
        "predictions.json": predictions,
    }  # fmt: skip
    before, after = _evaluated(evaluation or {}, info, folder)
    return RunFolder(
        path=folder,
        info=info,
        config=config or {},
        epochs=epochs or (),
        references=None if references is None else _references(references, None, folder / "references.json"),
        evaluation=after,
        before=before,
        predictions=checked_predictions(predictions or {}, folder / "predictions.json"),
        missing=tuple(name for name, content in contents.items() if content is None),
        notes=(*(str(note) for note in info.get("notes") or ()), *notes),
    )


def _evaluated(evaluation: dict, info: dict, folder: Path) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows of evaluation.json at step 0 and of what was kept: a split holds its errors, or ``before`` and ``after``."""
    rows: dict[str, list[Row]] = {"before": [], "after": []}
    fields = {"model": str(info.get("method", folder.name)), "seed": info.get("seed")}
    for split, metrics in evaluation.items():
        both = metrics if isinstance(metrics, dict) and "after" in metrics else {"after": metrics}
        for state in rows.keys() & both.keys():
            named = fields | ({} if state == "after" else {"model": "before training", "kind": "baseline"})
            rows[state].append(_row({**named, "split": split, "metrics": both[state]}, folder / "evaluation.json"))
    return tuple(rows["before"]), tuple(rows["after"])


def _read_study(folder: Path) -> StudyFolder:
    study = _read_json(folder / "study.json") or {}
    _require(study, folder / "study.json", ("theory", "data", "settings", "versions"), ("methods", "seeds"))
    _require(study.get("theory") or {}, folder / "study.json", ("low", "high"))
    shift = _read_json(folder / "shift.json")
    results = _read_json(folder / "results.json", list)
    retention = _read_json(folder / "retention.json", list)
    predictions = _read_json(folder / "predictions.json")
    runs = tuple(_read_run(run.parent) for run in sorted(folder.glob("runs/*/run.json")))
    references = {
        file.stem: _references(_read_json(file) or {}, file.stem, file) for file in sorted(folder.glob("references/*.json"))
    }
    contents = {
        "shift.json": shift, "results.json": results, "retention.json": retention, "predictions.json": predictions,
        "runs/": runs or None, "references/": references or None,
    }  # fmt: skip
    return StudyFolder(
        path=folder,
        study=study,
        shift=None if shift is None else _checked_shift(shift, folder / "shift.json"),
        runs=runs,
        results=_rows(results, folder / "results.json"),
        retention=_rows(retention, folder / "retention.json"),
        predictions=None if predictions is None else _checked_predictions(predictions, folder / "predictions.json"),
        references=references,
        missing=tuple(name for name, content in contents.items() if content is None),
    )


def _read_shift(folder: Path) -> ShiftFolder:
    file = folder / "shift.json"
    content = _read_json(file)
    check(content, shift_schema(), file, "xclimb shift --out")
    report = ShiftReport.from_dict(content)
    for column in (one.name for one in fields(report) if one.type is np.ndarray):
        if (count := len(getattr(report, column))) != report.n_pairs:
            raise DataError(f"{file}: {column} has {count} entries for {report.n_pairs} pairs; run xclimb shift --out again")
    return ShiftFolder(folder, report)


# -- from JSON to dataclasses ------------------------------------------------------------------------


def _rows(content: list | None, file: Path) -> tuple[Row, ...]:
    return tuple(_row(row if isinstance(row, dict) else {}, file) for row in content or ())


def _row(fields: dict, file: Path) -> Row:
    metrics = fields.get("metrics")
    if not isinstance(metrics, dict) or ("model" not in fields and "method" not in fields):
        raise DataError(f"{file} has a row without model or metrics; write it again or remove it")
    _require(metrics, file, (), ("notes",))
    seed = fields.get("seed")
    return Row(
        model=str(fields.get("model", fields.get("method"))),
        seed=int(seed) if isinstance(seed, int | float) else None,
        kind=str(fields.get("kind") or ("baseline" if seed is None else "method")),
        split=str(fields.get("split", "test")),
        metrics={str(name): number(value) for name, value in metrics.items() if name != "notes"},
        notes=tuple(str(note) for note in metrics.get("notes") or ()),
    )


def _by_symbol(values) -> dict[str, float]:
    """Symbol -> number; whatever is not a finite number is left out."""
    numbers = {str(symbol): number(value) for symbol, value in values.items()} if isinstance(values, dict) else {}
    return {symbol: value for symbol, value in numbers.items() if math.isfinite(value)}


def _references(fields: dict, kind: str | None, file: Path) -> References:
    if not isinstance(fields.get("energies"), dict):
        raise DataError(f"{file} has no table of elemental energies; write it again with references.save(...) or remove it")
    _require(fields, file, ("std", "materials"), ("uncovered", "undetermined", "notes"))
    return References(
        kind=kind or str(fields.get("kind", "references")),
        values=_by_symbol(fields["energies"]),
        std=_by_symbol(fields.get("std")),
        materials=_by_symbol(fields.get("materials")),
        covered=tuple(str(symbol) for symbol in fields.get("std") or ()),
        uncovered=tuple(str(symbol) for symbol in fields.get("uncovered") or ()),
        undetermined=tuple("–".join(map(str, group)) for group in fields.get("undetermined") or ()),
        fit_mae=number(fields.get("fit_mae")),
        held_out_mae=number(fields.get("held_out_mae")),
        notes=tuple(str(note) for note in fields.get("notes") or ()),
    )


def _checked_shift(shift: dict, file: Path) -> dict:
    if "mean" not in shift or not isinstance(shift.get("elements", {}), dict):
        raise DataError(f"{file} is not a shift report (no mean, or no elements by symbol); write it again or remove it")
    _require(shift, file, ("element_std",), ("outliers", "notes", "frame_id", "formula", *SHIFT_ARRAYS))
    return {**shift, "elements": _by_symbol(shift.get("elements")), "element_std": _by_symbol(shift.get("element_std"))}


def _checked_predictions(predictions: dict, file: Path) -> dict:
    reference, models = predictions.get("reference"), predictions.get("models")
    if not isinstance(reference, dict) or not isinstance(models, dict):
        raise DataError(f"{file} has no reference labels or no models; write it again or remove it")
    _require(models, file, tuple(models))
    for name, columns in models.items():
        for quantity, values in (columns or {}).items():
            if _length(values) != _length(reference.get(quantity)):
                raise DataError(
                    f"{file}: {quantity} of model {name!r} has {_length(values)} numbers, the reference has "
                    f"{_length(reference.get(quantity))}; write it again or remove it"
                )
    return predictions


def _length(values) -> int:
    return len(values) if isinstance(values, list) else 0
