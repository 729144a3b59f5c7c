"""The interface of a study, and the registry; its data, trials, models without training and folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.runs.schema import ResultsTable, StudyPredictions, StudyRecord
from xclimb.settings import Settings, near_miss
from xclimb.transfer.methods import METHODS, get_method

if TYPE_CHECKING:
    from xclimb.models.potential import Potential

STUDIES: dict[str, "Study"] = {}
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Trial:
    """One transfer of a study.

    Args:
        name: of its run folder.
        config: all its settings.
        rows: training frames that it uses, as indices into those of the study; None: all.
        model: name in the table; empty: that of the method.
    """

    name: str
    config: TransferConfig
    rows: np.ndarray | None = None
    model: str = ""

    def __post_init__(self):
        if not self.model:
            object.__setattr__(self, "model", self.config.method.name)


@dataclass(frozen=True, eq=False)
class Sets:
    """The frames of a study at one level of theory."""

    train: Frames
    val: Frames
    test: Frames

    def items(self) -> list[tuple[str, Frames]]:
        """(name, frames) of the three sets."""
        return [("train", self.train), ("val", self.val), ("test", self.test)]

    def of(self, trial: Trial) -> "Sets":
        """The sets with the training frames of a trial."""
        return self if trial.rows is None else Sets(self.train[trial.rows], self.val, self.test)


class StudySettings(Settings):
    """Settings of a study; a study with settings of its own has a class derived from this one."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A study to run on given data.

    Args:
        high: all frames at the target functional.
        sets: those of the split.
        low: frames of the same ids at the source's functional; or None.
        low_sets: those of the split, on whose test frames all models are evaluated too; or None.
        source: name of the potential that transfers start from.
        methods: their names.
        seeds: of the transfers.
        epochs: of a transfer.
        transfer: other settings of all transfers, nested; those under ``method`` go to the methods that have them.
        settings: those of the study.
        title: for the report; None: that of the study.
        sample: name of the embedded sample that the frames are, if they are one.
    """

    high: Frames
    sets: Sets
    low: Frames | None
    low_sets: Sets | None
    source: str
    methods: Sequence[str]
    seeds: Sequence[int]
    epochs: int
    transfer: Mapping[str, Any]
    settings: StudySettings
    title: str | None = None
    sample: str | None = None

    def __post_init__(self):
        if not self.methods or not self.seeds:
            raise ConfigError("a study needs at least one method and one seed")
        if len(set(self.methods)) < len(self.methods) or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("a method or seed is given twice: name each once")
        own = self.transfer.get("method", {})
        for reserved, there in (("method", isinstance(own, str) or "name" in own), ("seed", "seed" in self.transfer)):
            if there:
                raise ConfigError(f"{reserved} has no effect in a study: give {reserved}s=[...]")

    def configure(self, method: str, seed: int, **changes: Any) -> TransferConfig:
        """Build the settings of one transfer.

        Args:
            method: its name.
            seed: of the transfer.
            changes: settings that the study sets, such as ``epochs``.

        Raises:
            ConfigError: on an unknown method, or a setting that is unknown or without effect.
        """
        given = dict(self.transfer)
        own = {name: get_method(name).settings.model_fields for name in self.methods}
        # a setting of one method goes to that method; one that none of the methods has is refused by the first
        mine = {
            name: value
            for name, value in given.pop("method", {}).items()
            if name in own[method] or not any(name in fields for fields in own.values())
        }
        common = {"source": self.source, "method": {"name": method, **mine}, "epochs": self.epochs, "seed": seed}
        return TransferConfig.build({**common, **given, **changes})


@dataclass(frozen=True, eq=False)
class Baseline:
    """A model that a study evaluates without training it.

    Args:
        name: in the table.
        potential: the model.
        n_train: training frames that it has used, for its references.
    """

    name: str
    potential: "Potential"
    n_train: int


@dataclass(frozen=True)
class StudyContent:
    """Content of the folder of a study.

    Args:
        path: the folder.
        record: study.json.
        results: results.json; empty if missing.
        predictions: predictions.json; None if missing.
    """

    path: Path
    record: StudyRecord
    results: ResultsTable = field(default_factory=ResultsTable)
    predictions: StudyPredictions | None = None


@dataclass(frozen=True)
class Study:
    """A study: many transfers and one table. One with other trials is a class derived from this one.

    Args:
        name: unique, as users write it.
        summary: one line for help texts.
        examples: command lines, for its help.
        settings: class of its settings.
        methods: names of those that are compared where none are named; empty: all.
        needs_low: whether it needs frames at the source's functional as well.
    """

    name: str
    summary: str
    examples: tuple[str, ...] = ()
    settings: type[StudySettings] = StudySettings
    methods: tuple[str, ...] = ()
    needs_low: bool = False

    def title(self, plan: Plan) -> str:
        """Title for the report."""
        return f"{plan.source} to {plan.high.theory.functional}: {self.name}"

    def trials(self, plan: Plan) -> list[Trial]:
        """List the transfers to run: by default one for each method and seed.

        Raises:
            ConfigError, DataError: if the plan does not fit.
        """
        return [
            Trial(f"{method}-{seed}", plan.configure(method, seed)) for seed in plan.seeds for method in plan.methods
        ]  # fmt: skip

    def prepare(self, plan: Plan, source: "Potential", folder: Path, say: Say) -> None:
        """Write files of its own into the folder, before the first trial; by default none.

        Args:
            plan: the study to run.
            source: potential that transfers start from.
            folder: of the study.
            say: called with a sentence when there is a result.
        """

    def baselines(self, plan: Plan, source: "Potential") -> list[Baseline]:
        """List the models that are evaluated without training: by default the source, as it is and with new references."""
        from xclimb.references import fit_references

        train = plan.sets.train
        fitted = source.with_references(fit_references(train, potential=source, kind="residual"))
        return [
            Baseline(source.name, source, len(train)),
            Baseline(f"{source.name} + residual references", fitted, len(train)),
        ]

    def finish(self, content: StudyContent) -> None:
        """Write files of its own out of the results, after the last trial; by default none."""

    def verdict(self, content: StudyContent) -> list[str]:
        """Say in a few sentences what came out; by default nothing."""
        return []


def register(study: Study) -> Study:
    """Add a study to the registry.

    Raises:
        ValueError: if the name is taken.
    """
    if study.name in STUDIES:
        raise ValueError(f"there is a study {study.name!r} already: give the new one another name")
    STUDIES[study.name] = study
    return study


def get_study(name: str) -> Study:
    """Look up a kind of study by name.

    Raises:
        ConfigError: on an unknown name, with the nearest and the list.
    """
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}: {near_miss(name, STUDIES)}")
    return STUDIES[name]


def methods_of(study: Study, names: Sequence[str] | None) -> list[str]:
    """Names of the methods to compare: those that are given, those of the study, or all."""
    return list(names if names is not None else study.methods or METHODS)
