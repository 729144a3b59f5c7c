"""The run of a study of any kind: its folder, the models without training, the trials, and the one long table."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xclimb.config import respell
from xclimb.data.frames import Frames
from xclimb.data.splits import Split
from xclimb.errors import ConfigError, DataError
from xclimb.files import write_json
from xclimb.runs.schema import Errors, ResultsTable, StudyPredictions, StudyRecord
from xclimb.settings import nest
from xclimb.study.base import Plan, Say, Sets, Study, StudyContent, Trial, get_study, methods_of
from xclimb.study.grid import Failed, Grid, is_finished, run_grid, share_of_cores, torch_threads
from xclimb.study.summary import summary_table
from xclimb.units import ev_a3_to_gpa

if TYPE_CHECKING:
    from xclimb.evaluation.metrics import Metrics
    from xclimb.models.potential import Potential

_FILES = ("study.json", "shift.json", "results.json", "retention.json", "predictions.json")


@dataclass(frozen=True)
class StudyResult:
    """Result of a study: its folder, the rows of its table, and the error of each trial that failed."""

    path: Path
    rows: list[dict[str, Any]]
    failed: Failed = field(default_factory=dict)


def run_study(
    kind: str,
    high: Frames,
    split: Split | Sequence,
    out: str | Path,
    low: Frames | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    source: "str | Path | Potential" = "chgnet-0.3.0",
    epochs: int = 50,
    *,
    options: dict[str, Any] | None = None,
    title: str | None = None,
    sample: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    say: Say | None = None,
    **settings: Any,
) -> StudyResult:
    """Run every trial of a study, and compare on frames that no training saw.

    Args:
        kind: name of the study in its registry.
        high: frames at the target functional.
        split: a Split, or the frame ids of (train, val, test).
        out: study folder; the same call on the same folder continues where it ended.
        low: frames at the source's functional with the same frame ids; None leaves out what is measured on them.
        methods: names of methods; None: those of the study.
        seeds: of the transfers.
        source: zoo name, path or Potential to start from.
        epochs: of a transfer.
        options: settings of the study itself.
        title: for the report.
        sample: name of the embedded sample that the frames are, if they are one.
        workers: transfers at a time, each in a process of its own (guard a script with ``if __name__ == "__main__"``).
        overwrite: repeat finished transfers.
        progress: show a progress bar, if the output is a terminal.
        say: called with a sentence when a stage has a result.
        settings: any other field of :class:`xclimb.config.TransferConfig`, for all transfers alike; those under
            ``method`` go to the methods that have them.

    Raises:
        ConfigError, DataError, TheoryError: as :func:`xclimb.transfer`, before anything is run.
        KeyboardInterrupt: after Ctrl-C; repeat the call to continue.
    """
    study = get_study(kind)
    plan = make_plan(study, high, split, low, methods, seeds, source, epochs, options, title, sample, **settings)
    given = None if isinstance(source, str | Path) else source
    return run_plan(study, plan, out, given, workers, overwrite, progress, say)


def run_plan(
    study: Study,
    plan: Plan,
    out: str | Path,
    given: "Potential | None" = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    say: Say | None = None,
) -> StudyResult:
    """Run a study that is checked; ``given`` replaces loading its source, other arguments are those of :func:`run_study`."""
    from xclimb.models.zoo import load
    from xclimb.study.progress import GridBar

    say = say or (lambda sentence: None)
    trials = study.trials(plan)
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    folder = make_folder(Path(out), overwrite)
    for trial in trials:  # a finished run of other settings is an error before anything is written
        is_finished(folder / "runs" / trial.name, trial, plan.sets)
    potential = given or load(plan.source)
    record = describe(study, plan, potential)
    write_json(folder / "study.json", record.model_dump())
    results = Results(plan)
    study.prepare(plan, potential, folder, say)
    # with one worker torch decides; with several, this process does not use more threads than each of them
    with torch_threads(share_of_cores(workers) if workers > 1 else None):
        _add_baselines(results, study, potential, folder, say)
        with GridBar({trial.name: trial.config.epochs for trial in trials}, progress) as bar:

            def done(trial: str) -> None:
                bar.finish(trial)
                if not bar.shown:
                    say(f"{trial}: finished")

            failed = run_grid(trials, Grid(plan.sets, folder / "runs", given, bar.show, done), workers)
        _add_runs(results, trials, folder, failed)
    study.finish(StudyContent(folder, record, results.table))
    return StudyResult(folder, summary_table(folder), failed)


def make_plan(
    study: Study,
    high: Frames,
    split: Split | Sequence,
    low: Frames | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    source: "str | Path | Potential" = "chgnet-0.3.0",
    epochs: int = 50,
    options: dict[str, Any] | None = None,
    title: str | None = None,
    sample: str | None = None,
    **settings: Any,
) -> Plan:
    """Check what a study is asked for; arguments and errors are those of :func:`run_study`."""
    if study.needs_low and low is None:
        raise ConfigError(f"a study of {study.name} needs frames at the functional of the source too: give low=...")
    return Plan(
        high=high,
        sets=_sets(high, split, strict=True),
        low=low,
        low_sets=None if low is None else _sets(low, split, strict=False),
        source=str(source) if isinstance(source, str | Path) else source.name,
        methods=methods_of(study, methods),
        seeds=list(seeds),
        epochs=epochs,
        transfer=respell(nest(settings)),
        settings=study.settings.build(options, f"the study {study.name!r}"),
        title=title,
        sample=sample,
    )


def _sets(frames: Frames, split: Split | Sequence, strict: bool) -> Sets:
    """The three sets by frame id; frames that the split names must all be there if ``strict``."""
    if isinstance(split, Split):
        ids = [split.frame_id[index] for index in (split.train, split.val, split.test)]
    else:
        ids = [np.asarray(part, dtype=np.str_) for part in split]
    if len(ids) != 3:
        raise DataError("a split has three parts, train, val and test: give an xclimb Split or three lists of frame ids")
    if len(np.unique(frames.frame_id)) < len(frames):
        raise DataError("frame ids are not unique: a split by id needs unique ones")
    parts = []
    for part, name in zip(ids, ("train", "val", "test"), strict=True):
        missing = np.setdiff1d(part, frames.frame_id)
        if strict and (len(missing) or not len(part)):
            problem = f"frame {missing[0]} of the split is not in the data" if len(missing) else "it is empty"
            raise DataError(f"cannot make the {name} set: {problem}; split these frames with xclimb.split_frames")
        parts.append(frames[np.isin(frames.frame_id, part)])
    return Sets(*parts)


def make_folder(path: Path, overwrite: bool) -> Path:
    """Make the folder of a study, or take one of an earlier call.

    Raises:
        ConfigError: if it is not empty and holds no study.
    """
    if path.is_file():
        raise ConfigError(f"{path} is a file: give the name of a folder for the study")
    if path.exists() and any(path.iterdir()) and not (path / "study.json").exists() and not (path / "runs").exists():
        raise ConfigError(f"{path} is not empty and holds no study: give another folder")
    if overwrite:
        for name in _FILES:
            (path / name).unlink(missing_ok=True)
        for name in ("runs", "references"):
            shutil.rmtree(path / name, ignore_errors=True)
    (path / "runs").mkdir(parents=True, exist_ok=True)
    return path


def describe(study: Study, plan: Plan, source: "Potential") -> StudyRecord:
    """Build the content of study.json."""
    from xclimb.runs.folder import describe_data, versions

    config = plan.configure(plan.methods[0], plan.seeds[0])
    theory = source.theory if plan.low is None else plan.low.theory
    content = {
        "kind": study.name,
        "title": plan.title or study.title(plan),
        "source": plan.source,
        "methods": list(plan.methods),
        "seeds": list(plan.seeds),
        "settings": config.model_dump(mode="json", exclude={"method", "seed", "source"}),
        "options": plan.settings.model_dump(mode="json"),
        "versions": versions(),
        "theory": {"low": theory.to_dict(), "high": plan.high.theory.to_dict()},
        "data": {name: describe_data(frames) for name, frames in plan.sets.items()},
        "sample": plan.sample,
    }
    return StudyRecord.model_validate(content)


# -- results ---------------------------------------------------------------------------------------


def _add_baselines(results: "Results", study: Study, source: "Potential", folder: Path, say: Say) -> None:
    """Add the errors of models without any training."""
    from xclimb.evaluation.metrics import compare_labels

    baselines = study.baselines(results.plan, source)
    for baseline in baselines:
        labelled = {split: baseline.potential.label(frames) for split, frames in results.plan.sets.items()}
        errors = {split: compare_labels(labelled[split], frames) for split, frames in results.plan.sets.items()}
        trial = {"model": baseline.name, "seed": None, "kind": "baseline", "n_train": baseline.n_train}
        results.add(baseline.potential, errors, trial)
        results.models[baseline.name] = _labels(labelled["test"])
    if not (folder / "results.json").exists():
        results.write(folder)  # a first table, long before the transfers end
    if len(baselines) > 1:
        model = baselines[1].name
        rows = results.table.select(model=model, split="test", labels="target").rows
        energy, forces = (
            next((f"{row.value:.1f}" for row in rows if row.metric == name and row.value is not None), "no")
            for name in ("energy_mae", "forces_mae")
        )
        say(f"{model} (references alone): test {energy} meV/atom, {forces} meV/Å")


def _add_runs(results: "Results", trials: Sequence[Trial], folder: Path, failed: Failed) -> None:
    """Add the errors of the finished trials, and the reasons of those that failed."""
    from xclimb.models.zoo import load
    from xclimb.runs.folder import read_evaluation

    plan = results.plan
    finished = [trial for trial in trials if trial.name not in failed]
    sizes = {trial.name: len(plan.sets.of(trial).train) for trial in finished}
    for trial in finished:
        seed, n_train = trial.config.seed, sizes[trial.name]
        run = folder / "runs" / trial.name
        best = load(run, dtype=trial.config.dtype)
        errors = {split: both.after.metrics() for split, both in read_evaluation(run).root.items()}
        results.add(best, errors, {"model": trial.model, "seed": seed, "kind": "method", "n_train": n_train})
        if seed == plan.seeds[0] and n_train == max(sizes.values()):
            results.models[trial.model] = _labels(best.label(plan.sets.test))
    results.table.failed = {name: str(error) or type(error).__name__ for name, error in failed.items()}
    results.write(folder)


class Results:
    """Table of all models of a study, and the predictions of those of the first seed and the most training frames."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.table = ResultsTable()
        self.models: dict[str, dict[str, Any]] = {}

    def add(self, potential: "Potential", errors: "dict[str, Metrics]", trial: dict[str, Any]) -> None:
        """Add the errors of a potential on each set, and measure those on the lower functional.

        Args:
            potential: the model.
            errors: on each set.
            trial: entries of its rows.
        """
        for split, metrics in errors.items():
            self.table.add(Errors.model_validate(metrics.to_dict()), split=split, **trial)
        low = self.plan.low_sets
        if low is not None and len(low.test) and low.train.has("energy"):
            kept = retention(potential, low.train, low.test)
            self.table.add(Errors.model_validate(kept.to_dict()), split="test", labels="source", **trial)

    def write(self, folder: Path) -> None:
        """Write the table and the predictions."""
        from xclimb.runs.folder import to_builtin

        test = self.plan.sets.test
        write_json(folder / "results.json", self.table.model_dump())
        names = {
            "frame_id": test.frame_id,
            "material_id": test.material_id,
            "formula": test.formulas(),
            "n_atoms": test.n_atoms,
        }
        content = to_builtin({**names, "reference": _labels(test), "models": self.models})
        StudyPredictions.model_validate(content)
        write_json(folder / "predictions.json", content)


def retention(potential: "Potential", train: Frames, test: Frames) -> "Metrics":
    """Retention of another functional: errors of a potential on that functional's test frames.

    Energies are compared after residual references fitted to that functional's training frames, for every potential alike:
    a transferred potential is not blamed for its energy zero, only for forgetting of its network. The fit starts from raw
    references of those frames, so that where the frames do not determine it, it is the same for all potentials.
    """
    from xclimb.evaluation.metrics import evaluate
    from xclimb.references import fit_references

    aligned = potential.with_references(fit_references(train, potential=potential, kind="raw"))
    return evaluate(aligned.with_references(fit_references(train, potential=aligned, kind="residual")), test)


def _labels(frames: Frames) -> dict[str, np.ndarray]:
    return {
        "energy_per_atom": frames.energy_per_atom,
        "forces": frames.forces.reshape(-1),
        "stress": ev_a3_to_gpa(frames.stress).reshape(-1),
    }
