"""Models of the files of a run folder: run.json, the lines of metrics.jsonl, steps.jsonl and events.jsonl, evaluation.json."""

from pathlib import Path
from typing import Any, Literal

from pydantic import RootModel, model_validator

from xclimb.evaluation.metrics import Metrics
from xclimb.runs.schema.base import Count, DataRecord, Measured, Part, Text, Theory, read_content

WRITER = "xclimb transfer"


class RunTheory(Part):
    """Levels of theory of the source potential and of the training frames."""

    source: Theory
    target: Theory


class Guarded(Part):
    """Choice of the guard (:mod:`xclimb.transfer.guard`)."""

    epoch: Count
    share: float


class RunRecord(Part):
    """Content of run.json."""

    method: Text
    source: Text
    seed: Count
    state: Literal["running", "interrupted", "finished"]
    theory: RunTheory
    data: dict[str, DataRecord]
    settings: dict[str, Any]
    versions: dict[str, Text]
    xclimb: Text
    best_epoch: Count | None = None
    folds: Count | None = None  # of a cross-fitted transfer
    inputs: dict[str, Any] = {}
    notes: list[Text] = []
    step_zero_deviation: Measured = None
    threads: Count | None = None
    audit: list[dict[str, Any]] = []
    guard: Guarded | None = None
    error: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        """Spell entries of version 0.1 as they are now: one file of data was text, no data were null."""
        if not isinstance(content, dict) or not isinstance(content.get("inputs", {}), dict | None):
            return content
        inputs = dict(content.get("inputs") or {})
        inputs |= {name: [inputs[name]] for name in ("data", "val") if isinstance(inputs.get(name), str)}
        return content | {"inputs": inputs}


class EpochErrors(Part):
    """Errors of an epoch, and the loss made of them."""

    loss: Measured
    energy_mae: Measured
    forces_mae: Measured
    stress_mae: Measured
    magmom_mae: Measured


class Epoch(Part):
    """Line of metrics.jsonl; the first is before any step."""

    epoch: Count
    step: Count
    lr: Measured
    seconds: float
    atoms_per_second: Measured = None
    train: EpochErrors | None
    val: EpochErrors


class Step(Part):
    """Line of steps.jsonl."""

    step: Count
    epoch: Count
    lr: Measured
    loss: Measured
    norm: Measured


class Event(Part):
    """Line of events.jsonl."""

    kind: Literal["nonfinite", "spike", "divergence"]
    step: Count
    epoch: Count
    loss: Measured = None
    usual: Measured = None
    first: Measured = None
    frames: list[Text] = []


_LINES: dict[str, type[Part]] = {"metrics.jsonl": Epoch, "steps.jsonl": Step, "events.jsonl": Event}


def line_schema(name: str) -> type[Part]:
    """Look up the model of a line of a .jsonl by the name of the file."""
    return _LINES[name]


class Errors(Part):
    """Errors of a potential on one set, as :meth:`xclimb.evaluation.metrics.Metrics.to_dict` writes them."""

    energy_mae: Measured
    energy_rmse: Measured
    forces_mae: Measured
    forces_rmse: Measured
    stress_mae: Measured
    stress_rmse: Measured
    magmom_mae: Measured
    magmom_rmse: Measured
    energy_means_mae: Measured = None
    energy_within_mae: Measured = None
    n_frames: Count
    n_atoms: Count
    n_energy: Count
    n_forces: Count
    n_stress: Count
    n_magmoms: Count
    notes: list[Text] = []

    def values(self) -> dict[str, float | int | None]:
        """Errors and counts by name; None where there were no labels."""
        return self.model_dump(exclude={"notes"}, exclude_unset=True)

    def metrics(self) -> Metrics:
        """Convert to the errors that an evaluation gives."""
        return Metrics.from_dict({name: getattr(self, name) for name in Errors.model_fields})


class BeforeAndAfter(Part):
    """Errors of the potential at step 0 and of the one that was kept."""

    before: Errors | None = None
    after: Errors

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, content: Any) -> Any:
        """Take errors alone as those of what was kept: so validation, a study, and version 0.1 write them."""
        return content if not isinstance(content, dict) or "after" in content else {"after": content}


class Evaluation(RootModel[dict[str, BeforeAndAfter]]):
    """Content of evaluation.json: errors by set."""


def read_record(folder: Path) -> RunRecord:
    """Read run.json.

    Raises:
        CheckpointError: if there is none.
        DataError: if it is damaged.
    """
    return read_content(folder / "run.json", RunRecord, WRITER)


def read_evaluation(folder: Path) -> Evaluation:
    """Read evaluation.json; errors as :func:`read_record`."""
    return read_content(folder / "evaluation.json", Evaluation, WRITER)
