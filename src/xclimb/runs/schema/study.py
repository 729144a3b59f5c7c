"""Models of the files of a study folder: study.json, results.json (one long table) and predictions.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from xclimb.runs.schema.base import Count, DataRecord, Measured, Part, Text, Theory, read_content
from xclimb.runs.schema.predictions import Labels
from xclimb.runs.schema.run import Errors

# programs, in lower case, that compute labels from first principles, and potentials that imitate them
_DFT_CODES = {"vasp", "gpaw", "quantum", "qe", "cp2k", "abinit", "castep", "fhi-aims", "siesta", "wien2k", "elk", "exciting",
              "dftk"}  # fmt: skip
_POTENTIALS = {"chgnet", "m3gnet", "tensornet", "mace", "matgl"}
Origin = Literal["DFT", "potential"]
WRITER = "xclimb study"


class StudyTheory(Part):
    """Levels of theory of the two sets of labels."""

    low: Theory
    high: Theory


class StudyRecord(Part):
    """Content of study.json.

    Args:
        kind: of the study, a name of its registry.
        title: for the report.
        source: name of the potential that transfers start from.
        methods: their names.
        seeds: of the transfers.
        settings: common to all transfers.
        options: settings of the study itself.
        versions: of the packages.
        theory: of the labels.
        data: counts of each set.
        sample: name of the embedded sample, if the data are one.
        labels: origin of the labels; None if it is not known.
    """

    kind: Text = "methods"
    title: Text
    source: Text
    methods: list[Text]
    seeds: list[Count]
    settings: dict[str, Any]
    options: dict[str, Any] = {}
    versions: dict[str, Text]
    theory: StudyTheory
    data: dict[str, DataRecord]
    sample: Text | None = None
    labels: Origin | None = None

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        """Add the origin of the labels, which version 0.1 did not write."""
        if not isinstance(content, dict) or "labels" in content or not isinstance(content.get("theory"), dict):
            return content
        codes = [level.get("code") for level in content["theory"].values() if isinstance(level, dict)]
        return content | {"labels": origin_of_labels([code for code in codes if isinstance(code, str)], content.get("sample"))}


def origin_of_labels(codes: Iterable[str], sample: Any = None) -> Origin | None:
    """Origin of labels by the programs that computed them, or the sample that they are; None if it is not known."""
    names = {code.split()[0].lower() for code in codes if code.strip()}
    if names & _POTENTIALS or sample == "teacher_pairs":
        return "potential"
    return "DFT" if names & _DFT_CODES or sample == "dft_pairs" else None


class Measurement(Part):
    """Row of the table of a study: one number of one trial.

    Args:
        model: method, or name of a model that was not trained.
        kind: ``"method"`` or ``"baseline"``.
        seed: of the transfer; None for baselines.
        fold: index of the split of the data.
        n_train: training frames; None for baselines of version 0.1.
        labels: functional that is compared with, that of the source or of the target.
        split: set of frames.
        metric: name of the error.
        value: in the unit of the metric; None without labels.
    """

    model: Text
    kind: Literal["method", "baseline"]
    seed: Count | None
    fold: Count = 0
    n_train: Count | None = None
    labels: Literal["target", "source"] = "target"
    split: Literal["train", "val", "test"]
    metric: Text
    value: Measured


class Note(Part):
    """Remark on the errors of one trial on one set."""

    model: Text
    seed: Count | None
    fold: Count = 0
    labels: Literal["target", "source"] = "target"
    split: Literal["train", "val", "test"]
    text: Text


class ResultsTable(Part):
    """Content of results.json: one long table of all trials, remarks, and the reason of each trial that failed."""

    rows: list[Measurement] = []
    notes: list[Note] = []
    failed: dict[Text, Text] = {}

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        """Unfold the tables of version 0.1: errors nested by model, seed and set, those on the labels of the source apart."""
        if not isinstance(content, list):
            return content
        rows, notes = [], []
        for old in content:
            if not isinstance(old, dict) or not isinstance(old.get("metrics"), dict):
                raise ValueError("a row without errors")
            metrics, seed = dict(old["metrics"]), old.get("seed")
            trial = {"model": old.get("model"), "seed": seed, "split": old.get("split", "test")}
            trial |= {"labels": "target" if "split" in old else "source"}
            kind = old.get("kind") or ("baseline" if seed is None else "method")
            notes += [{**trial, "text": text} for text in metrics.pop("notes", [])]
            rows += [{**trial, "kind": kind, "metric": metric, "value": value} for metric, value in metrics.items()]
        return {"rows": rows, "notes": notes}

    def add(self, errors: Errors, **trial: Any) -> None:
        """Add the errors of a trial on one set.

        Args:
            errors: its numbers and notes.
            trial: ``model``, ``kind``, ``seed`` and ``split``, and what else a :class:`Measurement` is named by.
        """
        self.rows += [Measurement(**trial, metric=name, value=value) for name, value in errors.values().items()]
        named = {name: value for name, value in trial.items() if name in Note.model_fields}
        self.notes += [Note(**named, text=text) for text in errors.notes]

    def select(self, **trial: Any) -> "ResultsTable":
        """Rows and notes with these values, ``select(split="test", labels="target")``."""
        return ResultsTable(
            rows=[row for row in self.rows if all(getattr(row, name) == value for name, value in trial.items())],
            notes=[note for note in self.notes if all(getattr(note, name) == value for name, value in trial.items())],
        )

    def __add__(self, other: "ResultsTable") -> "ResultsTable":
        return ResultsTable(rows=self.rows + other.rows, notes=self.notes + other.notes, failed=self.failed | other.failed)


def read_results(folder: Path) -> ResultsTable:
    """Read the table of a study, whose errors on the labels of the source version 0.1 wrote into a file of their own.

    Raises:
        CheckpointError: if there is none.
        DataError: if it is damaged.
    """
    table = read_content(folder / "results.json", ResultsTable, WRITER)
    former = folder / "retention.json"
    return table + read_content(former, ResultsTable, WRITER) if former.is_file() else table


class StudyPredictions(Part):
    """Content of predictions.json of a study: labels of the test frames, and those of each model, first seed."""

    frame_id: list[Text]
    material_id: list[Text] | None = None
    formula: list[Text]
    n_atoms: list[Count]
    reference: Labels
    models: dict[str, Labels]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        columns = (self.material_id or self.frame_id, self.formula, self.n_atoms, self.reference.energy_per_atom)
        if any(len(column) != len(self.frame_id) for column in columns):
            raise ValueError("columns of different lengths")
        for name, labels in self.models.items():
            if labels.lengths != self.reference.lengths:
                raise ValueError(f"labels of {name!r} and those compared with are of different lengths")
        return self
