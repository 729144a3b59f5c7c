"""From rows of results to what the page says: means over seeds, formatted numbers, tiles and the verdict in words."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xclimb.report.folder import Row, StudyFolder, number

MISSING = "—"


@dataclass(frozen=True)
class Quantity:
    """How a metric is called and written."""

    label: str
    unit: str
    digits: int


QUANTITIES = {
    "energy_mae": Quantity("Energy MAE", "meV/atom", 1),
    "energy_rmse": Quantity("Energy RMSE", "meV/atom", 1),
    "forces_mae": Quantity("Force MAE", "meV/Å", 1),
    "forces_rmse": Quantity("Force RMSE", "meV/Å", 1),
    "stress_mae": Quantity("Stress MAE", "GPa", 3),
    "stress_rmse": Quantity("Stress RMSE", "GPa", 3),
    "magmom_mae": Quantity("Magmom MAE", "µB", 3),
    "magmom_rmse": Quantity("Magmom RMSE", "µB", 3),
}

METHODS = {
    "scratch": "new random weights, references fitted to the target",
    "trainable": "source weights; source references kept and trained along",
    "frozen": "source weights; source references kept and frozen",
    "refit": "source weights; references refitted to the target energies, frozen",
    "residual": "source weights; references fitted to what the network leaves over, frozen",
    "head": "source weights; only the readout trained",
    "lora": "source weights; low-rank updates trained",
    "delta": "source potential plus a trained difference",
    "multifidelity": "both functionals trained together",
}


@dataclass(frozen=True)
class ModelErrors:
    """Errors of one model over its seeds.

    Args:
        model: method or baseline name.
        kind: ``"method"`` or ``"baseline"``.
        seeds: number of rows averaged.
        mean: metric -> mean over seeds; NaN without labels.
        spread: metric -> sample standard deviation over seeds; NaN for a single row.
        each: metric -> value of each seed.
    """

    model: str
    kind: str
    seeds: int
    mean: dict[str, float]
    spread: dict[str, float]
    each: dict[str, list[float]]


def by_model(rows: Iterable[Row], split: str = "test") -> list[ModelErrors]:
    """Mean and spread over the seeds of each model, in the order in which the models first occur."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.split == split:
            groups.setdefault(row.model, []).append(row)
    return [_over_seeds(model, members) for model, members in groups.items()]


def _over_seeds(model: str, rows: list[Row]) -> ModelErrors:
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    each = {name: [row.metrics.get(name, math.nan) for row in rows] for name in names}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in each.items()}
    mean = {name: statistics.fmean(values) if values else math.nan for name, values in finite.items()}
    spread = {name: statistics.stdev(values) if len(values) > 1 else math.nan for name, values in finite.items()}
    return ModelErrors(model, rows[0].kind, len(rows), mean, spread, each)


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


def with_spread(metric: str, errors: ModelErrors) -> str:
    """``"23.1 ± 1.9"``, or the number alone where there is no spread."""
    mean, spread = errors.mean.get(metric, math.nan), errors.spread.get(metric, math.nan)
    return written(metric, mean) + (f" ± {written(metric, spread)}" if math.isfinite(spread) else "")


def best_of(errors: Sequence[ModelErrors], metric: str) -> ModelErrors | None:
    """The model with the smallest mean; None if none has the metric."""
    finite = [model for model in errors if math.isfinite(model.mean.get(metric, math.nan))]
    return min(finite, key=lambda model: model.mean[metric], default=None)


def compared(value: float, other: float) -> str:
    """How one error stands to another: ``"4.1 times lower than"``, ``"12 % lower than"``, ``"on a par with"`` and so on."""
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


def functional(theory: dict | None, fallback: str) -> str:
    """Name of the functional of a level of theory given as a dictionary."""
    return str((theory or {}).get("functional") or fallback)


def label_origin(study: StudyFolder) -> str:
    """What computed the labels, as far as the folder says: ``"DFT labels"``, ``"teacher labels"`` or ``"labels"``."""
    fields = study.study
    data = fields["data"] if isinstance(fields.get("data"), dict) else {}
    codes = [str(side.get("code") or "") for side in (fields.get("theory") or {}).values() if isinstance(side, dict)]
    told = " ".join(
        [str(data.get("labels", "")), str(fields.get("labels", "")), str(fields.get("sample") or ""), *codes]
    ).lower()
    if "teacher" in told or "chgnet" in told:
        return "teacher labels (computed by a trained potential, not by DFT)"
    if "dft" in told or any(code.split()[0].lower() in _DFT_CODES for code in codes if code):
        return "DFT labels"
    return "labels"


_DFT_CODES = {
    "vasp",
    "gpaw",
    "quantum",
    "qe",
    "cp2k",
    "abinit",
    "castep",
    "fhi-aims",
    "siesta",
    "wien2k",
    "elk",
    "exciting",
    "dftk",
}


def duration(seconds: float) -> str:
    """``"6 min 53 s"``; an em dash if unknown."""
    if not math.isfinite(seconds):
        return MISSING
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# -- verdicts: plain language from numbers ------------------------------------------------------------


def study_verdict(study: StudyFolder) -> list[str]:
    """The study in a few sentences, honest if nothing was gained; every number comes from the folder."""
    errors = by_model(study.results)
    methods = [model for model in errors if model.kind == "method"]
    baselines = {model.model: model for model in errors if model.kind != "method"}
    best = best_of(methods, "energy_mae")
    if best is None:
        return ["There are no test results of any method in this folder yet, so there is no verdict."]
    high = functional((study.study.get("theory") or {}).get("high"), "the target functional")
    low = functional((study.study.get("theory") or {}).get("low"), "the source functional")
    count = best.mean.get("n_frames", math.nan)
    where = (
        f"On {count:.0f} held-out structures with {high} {label_origin(study)}"
        if math.isfinite(count)
        else f"On held-out {high} {label_origin(study)}"
    )
    seeds = f", mean of {best.seeds} seeds" if best.seeds > 1 else ""
    energy = best.mean["energy_mae"]
    lowest = f"{with_spread('energy_mae', best)} meV/atom{seeds}"
    said = [f"{where}, of the methods {best.model} has the lowest energy error: {lowest}."]
    frozen = next((model for model in methods if model.model == "frozen" and model is not best), None)
    rivals = [(frozen, "the frozen transfer"), (baselines.get(study.source), f"the untouched {study.source}")]
    told = [
        f"{compared(energy, rival.mean['energy_mae'])} {name} ({written('energy_mae', rival.mean['energy_mae'])})"
        for rival, name in rivals
        if rival and math.isfinite(rival.mean.get("energy_mae", math.nan))
    ]
    if told:
        said.append(f"That is {' and '.join(told)}.")
    return (
        said
        + _against_references_alone(study, best, baselines)
        + _forces(best, baselines.get(study.source))
        + _better_baselines(study, best, baselines)
        + _lost(study, best, low)
    )


def _against_references_alone(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Did training add anything to exchanging the references?"""
    alone = baselines.get(f"{study.source} + residual references")
    other = alone.mean.get("energy_mae", math.nan) if alone else math.nan
    if not math.isfinite(other):
        return []
    value = written("energy_mae", other)
    gain, spread = other - best.mean["energy_mae"], best.spread.get("energy_mae", math.nan)
    if 0 < gain < spread:
        return [
            f"Exchanging the references alone, without any training, already gives {value} meV/atom: what training adds in "
            "energy is less than the spread of the seeds."
        ]
    if gain > 0:
        return [
            f"Exchanging the references alone, without any training, already gives {value} meV/atom; training does the rest."
        ]
    return [
        f"No method beats exchanging the references alone, which without any training gives {value} meV/atom: "
        "training gained nothing in energy."
    ]


def _better_baselines(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Another model, not trained here, that is better in energy than all that were is named, with its forces."""
    others = [model for name, model in baselines.items() if not name.startswith(study.source)]
    better = [model for model in others if model.mean.get("energy_mae", math.inf) < best.mean["energy_mae"]]
    lowest = best_of(better, "energy_mae")
    if lowest is None:
        return []
    energy = written("energy_mae", lowest.mean["energy_mae"])
    told = f"The ready-made {lowest.model} is lower still in energy: {energy} meV/atom"
    forces = lowest.mean.get("forces_mae", math.nan)
    return [told + (f", with a force error of {written('forces_mae', forces)} meV/Å." if math.isfinite(forces) else ".")]


def _forces(best: ModelErrors, source: ModelErrors | None) -> list[str]:
    mine = best.mean.get("forces_mae", math.nan)
    other = source.mean.get("forces_mae", math.nan) if source else math.nan
    if not (math.isfinite(mine) and math.isfinite(other)):
        return []
    told = f"{compared(mine, other)} the source's {written('forces_mae', other)}"
    return [f"The force error of {best.model}, {with_spread('forces_mae', best)} meV/Å, is {told}."]


def _lost(study: StudyFolder, best: ModelErrors, low: str) -> list[str]:
    kept = {model.model: model for model in by_model(study.retention)}
    before, after = (
        kept[name].mean.get("energy_mae", math.nan) if name in kept else math.nan for name in (study.source, best.model)
    )
    if not (math.isfinite(before) and math.isfinite(after)):
        return []
    change = "rises" if after > before else "falls"
    told = f"from {written('energy_mae', before)} to {written('energy_mae', after)} meV/atom"
    return [f"On {low} itself, with references refitted, the energy error of {best.model} {change} {told}."]


# -- tiles ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A key figure: what, value, unit, and a line of context."""

    label: str
    value: str
    unit: str
    context: str


def study_tiles(study: StudyFolder) -> list[Tile]:
    """The key figures of a study; those without data are left out."""
    tiles = []
    errors = by_model(study.results)
    best = best_of([model for model in errors if model.kind == "method"], "energy_mae")
    source = next((model for model in errors if model.model == study.source), None)
    if best:
        tiles.append(
            Tile(
                "Energy error, best method",
                written("energy_mae", best.mean["energy_mae"]),
                "meV/atom",
                f"{best.model}, test set",
            )
        )
        tiles.append(
            Tile(
                "Force error, same method",
                written("forces_mae", best.mean.get("forces_mae", math.nan)),
                "meV/Å",
                f"{best.model}, test set",
            )
        )
    if best and source and source.mean.get("energy_mae", 0) > 0 < best.mean["energy_mae"]:
        alone = next((model for model in errors if model.model == f"{study.source} + residual references"), None)
        then = f"{_factor(alone, best)} over new references alone" if alone else f"against untouched {study.source}"
        tiles.append(Tile("Gain over the source", _factor(source, best), "in energy", then))
    if study.shift:
        mean, std = number(study.shift.get("mean")), number(study.shift.get("std"))
        raw, referenced = number(study.shift.get("pearson_raw")), number(study.shift.get("pearson_referenced"))
        tiles.append(
            Tile(
                "Shift between functionals",
                f"{mean:+.2f}".replace("-", "−"),
                "eV/atom",
                f"± {std:.2f} over {study.shift.get('n_pairs', MISSING)} pairs",
            )
        )
        tiles.append(Tile("Correlation, referenced", f"{referenced:.3f}", "Pearson r", f"from {raw:.3f} raw"))
    return tiles


def _factor(before: ModelErrors, after: ModelErrors) -> str:
    factor = before.mean.get("energy_mae", math.nan) / after.mean["energy_mae"]
    return f"{factor:.{1 if factor < 10 else 0}f}×" if math.isfinite(factor) else MISSING
