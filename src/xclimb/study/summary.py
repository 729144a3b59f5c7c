"""Summaries of rows of results: means over seeds, formatted numbers, key figures."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xclimb.runs.schema import Measurement, read_results
from xclimb.study.base import StudyContent

MISSING = "—"


@dataclass(frozen=True)
class Quantity:
    """Name, unit and format of a metric."""

    label: str
    unit: str
    digits: int


QUANTITIES = {
    "energy_mae": Quantity("Energy MAE", "meV/atom", 1),
    "energy_rmse": Quantity("Energy RMSE", "meV/atom", 1),
    "energy_means_mae": Quantity("Energy MAE, means of materials", "meV/atom", 1),
    "energy_within_mae": Quantity("Energy MAE, within materials", "meV/atom", 1),
    "forces_mae": Quantity("Force MAE", "meV/Å", 1),
    "forces_rmse": Quantity("Force RMSE", "meV/Å", 1),
    "stress_mae": Quantity("Stress MAE", "GPa", 3),
    "stress_rmse": Quantity("Stress RMSE", "GPa", 3),
    "magmom_mae": Quantity("Magmom MAE", "µB", 3),
    "magmom_rmse": Quantity("Magmom RMSE", "µB", 3),
}


@dataclass(frozen=True)
class ModelErrors:
    """Errors of one model over its seeds.

    Args:
        model: method or baseline name.
        kind: ``"method"`` or ``"baseline"``.
        seeds: number of trials averaged.
        mean: metric -> mean over seeds; NaN without labels.
        spread: metric -> sample standard deviation over seeds; NaN for a single trial.
        each: metric -> value of each seed.
    """

    model: str
    kind: str
    seeds: int
    mean: dict[str, float]
    spread: dict[str, float]
    each: dict[str, list[float]]


def by_model(rows: Iterable[Measurement], split: str = "test", labels: str = "target") -> list[ModelErrors]:
    """Mean and spread over the seeds of each model, in the order in which the models first occur."""
    kinds: dict[str, str] = {}
    trials: dict[str, dict[tuple, dict[str, float]]] = {}
    for row in rows:
        if (row.split, row.labels) == (split, labels):
            kinds.setdefault(row.model, row.kind)
            errors = trials.setdefault(row.model, {}).setdefault((row.n_train, row.fold, row.seed), {})
            errors[row.metric] = math.nan if row.value is None else row.value
    return [_over_seeds(model, kinds[model], list(errors.values())) for model, errors in trials.items()]


def _over_seeds(model: str, kind: str, trials: list[dict[str, float]]) -> ModelErrors:
    names = dict.fromkeys(name for errors in trials for name in errors)
    each = {name: [errors.get(name, math.nan) for errors in trials] for name in names}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in each.items()}
    mean = {name: statistics.fmean(values) if values else math.nan for name, values in finite.items()}
    spread = {name: statistics.stdev(values) if len(values) > 1 else math.nan for name, values in finite.items()}
    return ModelErrors(model, kind, len(trials), mean, spread, each)


def written(metric: str, value: float) -> str:
    """A number as the page writes it: meV to one decimal (none from 100 on), GPa and µB to three; NaN as an em dash."""
    if not math.isfinite(value):
        return MISSING
    quantity = QUANTITIES.get(metric)
    digits = quantity.digits if quantity else 3
    if digits == 1 and abs(value) >= 99.95:
        digits = 0
    if digits == 3 and abs(value) >= 9.9995:
        digits = 2
    return f"{value:.{digits}f}"


def signed(metric: str, value: float) -> str:
    """A change as the page writes it; one that rounds to nothing has no sign."""
    text = written(metric, abs(value))
    if not math.isfinite(value) or float(text) == 0.0:
        return text
    return f"{'−' if value < 0 else '+'}{text}"


def with_spread(metric: str, errors: ModelErrors) -> str:
    """``"23.1 ± 1.9"``, or the number alone where there is no spread."""
    mean, spread = errors.mean.get(metric, math.nan), errors.spread.get(metric, math.nan)
    return written(metric, mean) + (f" ± {written(metric, spread)}" if math.isfinite(spread) else "")


def best_of(errors: Sequence[ModelErrors], metric: str) -> ModelErrors | None:
    """The model with the smallest mean; None if none has the metric."""
    finite = [model for model in errors if math.isfinite(model.mean.get(metric, math.nan))]
    return min(finite, key=lambda model: model.mean[metric], default=None)


def compared(value: float, other: float) -> str:
    """Compare two errors in words: ``"4.1 times lower than"``, ``"12 % lower than"``, ``"on a par with"`` and so on."""
    if other <= 0 or value <= 0:
        return "not comparable with"
    ratio = other / value
    if ratio >= 2:
        return f"{ratio:.{1 if ratio < 10 else 0}f} times lower than"
    if abs(value - other) < 0.02 * other:
        return "on a par with"
    if ratio > 1:
        return f"{100 * (1 - value / other):.0f} % lower than"
    if ratio > 0.5:
        return f"{100 * (value / other - 1):.0f} % higher than"
    return f"{1 / ratio:.{1 if ratio > 0.1 else 0}f} times higher than"


# -- what the labels are ---------------------------------------------------------------------------


_ORIGINS = {"DFT": "DFT labels", "potential": "teacher labels (computed by a trained potential, not by DFT)"}


def label_origin(study: StudyContent) -> str:
    """Origin of the labels, as far as the folder states it."""
    return _ORIGINS.get(study.record.labels or "", "labels")


ERRORS = ("energy_mae", "forces_mae", "stress_mae", "magmom_mae")


def summary_table(folder: str | Path, split: str = "test") -> list[dict[str, Any]]:
    """The table of a study: one row a model and number of training frames, mean and standard deviation over its seeds.

    Args:
        folder: a study folder.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Rows ``{model, kind, n_train, seeds, energy_mae, energy_mae_std, forces_mae, ..., retention_energy_mae, ...}``:
        meV/atom, meV/Å, GPa, µB; None where there is no number (no labels, or one seed only for a deviation). Baselines come
        first.

    Raises:
        CheckpointError: if the folder is no study folder.
    """
    table = read_results(Path(folder))
    target = table.select(split=split, labels="target")
    rows = []
    for model, n_train in dict.fromkeys((row.model, row.n_train) for row in target.rows):
        errors, kept = (table.select(model=model, n_train=n_train, labels=labels) for labels in ("target", "source"))
        errors = errors.select(split=split)
        seeds = {(row.fold, row.seed) for row in errors.rows}
        row: dict[str, Any] = {"model": model, "kind": errors.rows[0].kind, "n_train": n_train, "seeds": len(seeds)}
        for prefix, part in (("", errors), ("retention_", kept)):
            for error in ERRORS:
                row |= _spread(prefix + error, [other.value for other in part.rows if other.metric == error])
        rows.append(row)
    return rows


def _spread(name: str, values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    mean, std = statistics.mean, statistics.stdev
    return {name: mean(known) if known else None, f"{name}_std": std(known) if len(known) > 1 else None}
