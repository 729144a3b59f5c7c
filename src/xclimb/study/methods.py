"""Every method of the paper on one pair of data sets, beside the untouched models: its Table 1, on a user's own data.

The study folder, all JSON: study, shift, references/, runs/<method>-<seed>/, results, retention, predictions. The report
page is made from it alone.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from xclimb.comparison.shift import shift
from xclimb.config import TransferConfig, respell
from xclimb.data.frames import Frames
from xclimb.data.splits import Split
from xclimb.errors import ConfigError, DataError
from xclimb.evaluation.metrics import Metrics, compare_labels, evaluate
from xclimb.files import write_json
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.references import AtomRef, fit_references
from xclimb.runs.folder import describe_data, read_evaluation, to_builtin, versions
from xclimb.runs.schema import Errors, ResultsTable, StudyPredictions, StudyRecord, read_results
from xclimb.settings import nest
from xclimb.study.grid import Sets, Trial, is_finished, run_grid, share_of_cores, torch_threads
from xclimb.study.progress import GridBar
from xclimb.transfer.methods import METHODS, get_method
from xclimb.units import ev_a3_to_gpa

COMPARED = "chgnet-r2scan"  # the model that others transferred to r2SCAN, with far more data
ERRORS = ("energy_mae", "forces_mae", "stress_mae", "magmom_mae")
_FILES = ("study.json", "shift.json", "results.json", "retention.json", "predictions.json")


@dataclass(frozen=True)
class Study:
    """Result of a study: its folder, and the rows of its table."""

    path: Path
    rows: list[dict[str, Any]]


def study_methods(
    low: Frames,
    high: Frames,
    split: Split | Sequence,
    out: str | Path,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    source: str | Path | Potential = "chgnet-0.3.0",
    epochs: int = 50,
    *,
    title: str | None = None,
    sample: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] | None = None,
    **settings: Any,
) -> Study:
    """Transfer by every method and seed, and compare on frames that no training saw.

    Args:
        low: frames at the source's functional, paired with ``high`` by frame_id.
        high: frames at the target functional.
        split: a Split, or the frame ids of (train, val, test).
        out: study folder; the same call on the same folder continues where it ended.
        methods: names of methods; None: all of the registry.
        seeds: one transfer for each method and seed.
        source: zoo name, path or Potential to start from.
        epochs: of every transfer.
        title: for the report.
        sample: name of the embedded sample that the frames are, if they are one.
        workers: transfers at a time, each in a process of its own (guard a script with ``if __name__ == "__main__"``).
        overwrite: repeat finished transfers.
        progress: show a progress bar, if the output is a terminal.
        say: called with a sentence when a stage has a result.
        settings: any other field of :class:`xclimb.config.TransferConfig`, for all methods alike; those under
            ``method`` go to the methods that have them.

    Raises:
        ConfigError, DataError, TheoryError: as :func:`xclimb.transfer`, before anything is run.
        KeyboardInterrupt: after Ctrl-C; repeat the call to continue.
    """
    say = say or (lambda sentence: None)
    name = source.name if isinstance(source, Potential) else str(source)
    methods = list(METHODS) if methods is None else methods
    trials = _trials(name, methods, seeds, epochs, settings)
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    sets, low_sets = _sets(high, split, strict=True), _sets(low, split, strict=False)
    folder = _folder(Path(out), overwrite)
    for trial in trials:  # a finished run of other settings is an error before anything is written
        is_finished(folder / "runs" / trial.name, trial.config, sets)
    potential = load(source)
    record = _record(title, name, methods, seeds, trials[0].config, low, high, sets, sample)
    write_json(folder / "study.json", record.model_dump())

    table = Results(sets, low_sets)
    _measure_shift(low, high, folder, say)
    # with one worker torch decides; with several, this process does not use more threads than each of them
    with torch_threads(share_of_cores(workers) if workers > 1 else torch.get_num_threads()):
        _add_baselines(table, potential, folder, say)
        with GridBar({trial.name: trial.config.epochs for trial in trials}, progress) as bar:
            given = source if isinstance(source, Potential) else None

            def done(trial: str) -> None:
                bar.finish(trial)
                if not bar.shown:
                    say(f"{trial}: finished")

            run_grid(trials, sets, folder / "runs", given, workers, watch=bar.show, done=done)
        _add_runs(table, trials, folder, seeds[0])
    return Study(folder, summary_table(folder))


def _measure_shift(low: Frames, high: Frames, folder: Path, say: Callable[[str], None]) -> None:
    report = shift(low, high)
    write_json(folder / "shift.json", report.to_dict())
    say(f"shift {high.theory.functional} - {low.theory.functional}: {report.mean:.3f} ± {report.std:.3f} eV/atom")


def _add_baselines(table: "Results", source: Potential, folder: Path, say: Callable[[str], None]) -> None:
    """References of the training frames, and errors of models without any training."""
    train = table.sets.train
    references = {kind: fit_references(train, potential=source, kind=kind) for kind in ("raw", "residual", "robust")}
    for kind, fitted in ({"source": source.references} | references).items():
        write_json(folder / "references" / f"{kind}.json", fitted.to_dict())
    models = _baselines(source, references["residual"], train)
    for model, baseline in models.items():
        labelled = {split: baseline.label(frames) for split, frames in table.sets.items()}
        errors = {split: compare_labels(labelled[split], frames) for split, frames in table.sets.items()}
        table.add(model, None, "baseline", baseline, errors)
        table.models[model] = _labels(labelled["test"])
    if not (folder / "results.json").exists():
        table.write(folder)  # a first table, long before the transfers end
    say(_summary_sentence(table, list(models)[1], "references alone"))


def _add_runs(table: "Results", trials: Sequence[Trial], folder: Path, first_seed: int) -> None:
    for trial in trials:
        method, seed = trial.config.method.name, trial.config.seed
        run = folder / "runs" / trial.name
        best = load(run, dtype=trial.config.dtype)
        errors = {split: both.after.metrics() for split, both in read_evaluation(run).root.items()}
        table.add(method, seed, "method", best, errors)
        if seed == first_seed:
            table.models[method] = _labels(best.label(table.sets.test))
    table.write(folder)


# -- preparation -----------------------------------------------------------------------------------


def _trials(source: str, methods: Sequence[str], seeds: Sequence[int], epochs: int, settings: dict[str, Any]) -> list[Trial]:
    if not methods or not seeds:
        raise ConfigError("a study needs at least one method and one seed")
    if len(set(methods)) < len(methods) or len(set(seeds)) < len(seeds):
        raise ConfigError("a method or seed is given twice: name each once")
    settings = respell(nest(settings))
    given = settings.pop("method", {})
    for reserved, there in (("method", isinstance(given, str) or "name" in given), ("seed", "seed" in settings)):
        if there:
            raise ConfigError(f"{reserved} has no effect in a study: give {reserved}s=[...]")
    own = {name: get_method(name).settings.model_fields for name in methods}
    trials = []
    for seed in seeds:
        for name in methods:
            # a setting of one method goes to that method; one that none of the methods has is refused by the first
            mine = {
                key: value
                for key, value in given.items()
                if key in own[name] or not any(key in fields for fields in own.values())
            }
            common = {"source": source, "method": {"name": name, **mine}, "epochs": epochs, "seed": seed}
            trials.append(Trial(f"{name}-{seed}", TransferConfig.build(common | settings)))
    return trials


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


def _folder(path: Path, overwrite: bool) -> Path:
    if path.is_file():
        raise ConfigError(f"{path} is a file: give the name of a folder for the study")
    if path.exists() and any(path.iterdir()) and not (path / "study.json").exists() and not (path / "runs").exists():
        raise ConfigError(f"{path} is not empty and holds no study: give another folder")
    if overwrite:
        for name in _FILES:
            (path / name).unlink(missing_ok=True)
        for name in ("runs", "references"):
            shutil.rmtree(path / name, ignore_errors=True)
    for name in ("runs", "references"):
        (path / name).mkdir(parents=True, exist_ok=True)
    return path


def _record(
    title: str | None,
    source: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    config: TransferConfig,
    low: Frames,
    high: Frames,
    sets: Sets,
    sample: str | None,
) -> StudyRecord:
    shown = config.model_dump(mode="json", exclude={"method", "seed", "source"})
    content = {
        "kind": "methods",
        "title": title or f"{source} to {high.theory.functional}, method by method",
        "source": source,
        "methods": list(methods),
        "seeds": list(seeds),
        "settings": shown,
        "versions": versions(),
        "theory": {"low": low.theory.to_dict(), "high": high.theory.to_dict()},
        "data": {name: describe_data(frames) for name, frames in sets.items()},
        "sample": sample,
    }
    return StudyRecord.model_validate(content)


def _baselines(source: Potential, residual: AtomRef, train: Frames) -> dict[str, Potential]:
    """Untouched models, and the same with residual references of the training frames: no training at all."""
    models = {source.name: source, f"{source.name} + residual references": source.with_references(residual)}
    if train.theory.functional == "r2SCAN" and source.name != COMPARED:
        other = load(COMPARED)
        fitted = other.with_references(fit_references(train, potential=other, kind="residual"))
        models |= {COMPARED: other, f"{COMPARED} + residual references": fitted}
    return models


# -- results ---------------------------------------------------------------------------------------


class Results:
    """Table and predictions of all models of a study."""

    def __init__(self, sets: Sets, low: Sets):
        self.sets, self.low = sets, low
        self.table = ResultsTable()
        self.models: dict[str, dict[str, Any]] = {}

    def add(self, model: str, seed: int | None, kind: str, potential: Potential, errors: dict[str, Metrics]) -> None:
        """Add the errors of a potential on each set, and measure those on the lower functional."""
        trial = {"model": model, "seed": seed, "kind": kind, "n_train": len(self.sets.train)}
        for split, metrics in errors.items():
            self.table.add(Errors.model_validate(metrics.to_dict()), split=split, **trial)
        if len(self.low.test) and self.low.train.has("energy"):
            kept = retention(potential, self.low.train, self.low.test)
            self.table.add(Errors.model_validate(kept.to_dict()), split="test", labels="source", **trial)

    def write(self, folder: Path) -> None:
        """Write the table and the predictions."""
        test = self.sets.test
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


def retention(potential: Potential, train: Frames, test: Frames) -> Metrics:
    """Retention of another functional: errors of a potential on that functional's test frames.

    Energies are compared after residual references fitted to that functional's training frames, for every potential alike:
    a transferred potential is not blamed for its energy zero, only for forgetting of its network. The fit starts from raw
    references of those frames, so that where the frames do not determine it, it is the same for all potentials.
    """
    aligned = potential.with_references(fit_references(train, potential=potential, kind="raw"))
    return evaluate(aligned.with_references(fit_references(train, potential=aligned, kind="residual")), test)


def _labels(frames: Frames) -> dict[str, np.ndarray]:
    return {
        "energy_per_atom": frames.energy_per_atom,
        "forces": frames.forces.reshape(-1),
        "stress": ev_a3_to_gpa(frames.stress).reshape(-1),
    }


def _summary_sentence(table: Results, model: str, how: str) -> str:
    errors = {row.metric: row.value for row in table.table.select(model=model, split="test", labels="target").rows}
    energy, forces = (math.nan if errors[name] is None else errors[name] for name in ("energy_mae", "forces_mae"))
    return f"{model} ({how}): test {energy:.1f} meV/atom, {forces:.1f} meV/Å"


def summary_table(folder: str | Path, split: str = "test") -> list[dict[str, Any]]:
    """The table of a study: one row a model, mean and standard deviation over its seeds.

    Args:
        folder: a study folder.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Rows ``{model, kind, seeds, energy_mae, energy_mae_std, forces_mae, ..., retention_energy_mae, ...}``: meV/atom,
        meV/Å, GPa, µB; None where there is no number (no labels, or one seed only for a deviation). Baselines come first.

    Raises:
        CheckpointError: if the folder is no study folder.
    """
    table = read_results(Path(folder))
    rows = []
    for model in dict.fromkeys(row.model for row in table.select(split=split, labels="target").rows):
        errors, kept = table.select(model=model, split=split, labels="target"), table.select(model=model, labels="source")
        seeds = {(row.fold, row.seed) for row in errors.rows}
        row = {"model": model, "kind": errors.rows[0].kind, "seeds": len(seeds)}
        for prefix, part in (("", errors), ("retention_", kept)):
            for error in ERRORS:
                row |= _spread(prefix + error, [other.value for other in part.rows if other.metric == error])
        rows.append(row)
    return rows


def _spread(name: str, values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return {name: mean(known) if known else None, f"{name}_std": stdev(known) if len(known) > 1 else None}
