"""Run, study and shift folders, read as the models of their files: the only input of the report.

A file that is missing leaves its field empty and its name in ``missing``; a file that is there but damaged is an error.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from xclimb.comparison.shift_report import ShiftReport
from xclimb.errors import DataError
from xclimb.references import AtomRef
from xclimb.runs.schema import (
    Epoch,
    Evaluation,
    Predicted,
    Predictions,
    ResultsTable,
    RunRecord,
    StudyPredictions,
    StudyRecord,
    read_content,
    read_lines,
    read_results,
    read_shift,
)
from xclimb.runs.schema.run import WRITER, BeforeAndAfter, read_record
from xclimb.study import StudyContent

T = TypeVar("T", bound=BaseModel)
_WANTED = "give the folder that xclimb transfer, xclimb study or xclimb shift --out wrote"
_STUDY = "xclimb study"


@dataclass(frozen=True)
class RunFolder:
    """A run folder: one transfer.

    Args:
        path: the folder.
        record: run.json.
        config: config.yaml, resolved settings; empty if missing.
        epochs: metrics.jsonl, epoch 0 before any step; empty if missing.
        references: references.json; None if missing.
        evaluation: evaluation.json, by set; empty if missing.
        predictions: predictions.json, by set; empty if missing.
        missing: names of the files that are not there.
        notes: the run's own notes, and problems on reading (a last line cut off).
    """

    path: Path
    record: RunRecord
    config: dict[str, Any]
    epochs: tuple[Epoch, ...]
    references: AtomRef | None
    evaluation: dict[str, BeforeAndAfter]
    predictions: dict[str, Predicted]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def method(self) -> str:
        """Name of the transfer method."""
        return self.record.method

    @property
    def best_epoch(self) -> int | None:
        """The epoch that was kept; 0 is the state before any step; None if unknown."""
        return self.record.best_epoch


@dataclass(frozen=True)
class StudyFolder(StudyContent):
    """A study folder: several transfers, compared.

    Args:
        shift: shift.json, the dictionary of a ShiftReport; None if missing.
        runs: the run folders under ``runs/``, sorted by name.
        references: kind -> references, from ``references/``.
        missing: names of the files that are not there.
    """

    shift: dict[str, Any] | None = None
    runs: tuple[RunFolder, ...] = ()
    references: dict[str, AtomRef] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Name of the untouched source potential."""
        return self.record.source


@dataclass(frozen=True)
class ShiftFolder:
    """A shift folder: how two functionals differ.

    Args:
        path: the folder.
        report: shift.json.
    """

    path: Path
    report: ShiftReport


def read_folder(path: str | Path) -> RunFolder | StudyFolder | ShiftFolder:
    """Read a run folder (run.json), a study folder (study.json) or a shift folder (shift.json alone).

    Raises:
        DataError: if the folder is none of them, or if one of its files is damaged.
        ReferencesError: if that file holds references.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}: {_WANTED}")
    if (folder / "study.json").is_file():
        return _read_study(folder)
    if (folder / "run.json").is_file():
        return _read_run(folder)
    if (folder / "shift.json").is_file():
        return ShiftFolder(folder, read_shift(folder / "shift.json"))
    raise DataError(f"{folder} holds neither run.json nor study.json nor shift.json; {_WANTED}")


def number(value: float | int | None) -> float:
    """A finite number; NaN for None and infinity."""
    return float(value) if value is not None and math.isfinite(value) else math.nan


def _read_run(folder: Path) -> RunFolder:
    record = read_record(folder)
    config = _read_yaml(folder / "config.yaml")
    epochs, cut = None, False
    if (folder / "metrics.jsonl").is_file():
        epochs, cut = read_lines(folder / "metrics.jsonl", Epoch, WRITER)
    references = _read_references(folder / "references.json")
    evaluation = _if_there(folder / "evaluation.json", Evaluation, WRITER)
    predictions = _if_there(folder / "predictions.json", Predictions, WRITER)
    contents = {
        "config.yaml": config, "metrics.jsonl": epochs, "references.json": references, "evaluation.json": evaluation,
        "predictions.json": predictions,
    }  # fmt: skip
    cut_off = "The last line of metrics.jsonl is cut off, as a killed run leaves it; that epoch is not shown."
    return RunFolder(
        path=folder,
        record=record,
        config=config or {},
        epochs=tuple({epoch.epoch: epoch for epoch in epochs or ()}.values()),
        references=references,
        evaluation=evaluation.root if evaluation else {},
        predictions=predictions.root if predictions else {},
        missing=tuple(name for name, content in contents.items() if content is None),
        notes=(*record.notes, *([cut_off] if cut else [])),
    )


def _read_study(folder: Path) -> StudyFolder:
    shift = read_shift(folder / "shift.json").to_dict() if (folder / "shift.json").is_file() else None
    results = read_results(folder) if (folder / "results.json").is_file() else None
    predictions = _if_there(folder / "predictions.json", StudyPredictions, _STUDY)
    runs = tuple(_read_run(run.parent) for run in sorted(folder.glob("runs/*/run.json")))
    references = {file.stem: AtomRef.load(file) for file in sorted(folder.glob("references/*.json"))}
    contents = {
        "shift.json": shift, "results.json": results, "predictions.json": predictions, "runs/": runs or None,
        "references/": references or None,
    }  # fmt: skip
    return StudyFolder(
        path=folder,
        record=read_content(folder / "study.json", StudyRecord, _STUDY),
        shift=shift,
        runs=runs,
        results=results or ResultsTable(),
        predictions=predictions,
        references=references,
        missing=tuple(name for name, content in contents.items() if content is None),
    )


def _if_there(file: Path, schema: type[T], writer: str) -> T | None:
    """Content of a file; None if there is no such file."""
    return read_content(file, schema, writer) if file.is_file() else None


def _read_references(file: Path) -> AtomRef | None:
    return AtomRef.load(file) if file.is_file() else None


def _read_yaml(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first_line = str(error).partition("\n")[0]
        raise DataError(f"{file} is not valid YAML ({first_line}); write it again or remove it") from None
    if content is not None and not isinstance(content, dict):
        raise DataError(f"{file} should hold settings by name and holds another thing; write it again or remove it")
    return content or {}
