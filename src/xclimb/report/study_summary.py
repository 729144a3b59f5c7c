"""A study in words and key figures; what the intervals do not support is not claimed."""

import math
from collections.abc import Sequence

from xclimb.report.comparisons import Interval, difference, is_supported, leading
from xclimb.report.folder import StudyFolder, number
from xclimb.report.summary import (
    QUANTITIES,
    ModelErrors,
    Tile,
    best_of,
    by_model,
    compared,
    label_origin,
    signed,
    with_spread,
    written,
)


def study_verdict(study: StudyFolder) -> list[str]:
    """The study in a few sentences, honest if nothing was gained; every number comes from the folder."""
    errors = by_model(study.results.rows)
    methods = [model for model in errors if model.kind == "method"]
    baselines = {model.model: model for model in errors if model.kind != "method"}
    best = best_of(methods, "energy_mae")
    if best is None:
        return ["There are no test results of any method in this folder yet, so there is no verdict."]
    high = study.record.theory.high.functional or "the target functional"
    low = study.record.theory.low.functional or "the source functional"
    count = best.mean.get("n_frames", math.nan)
    where = (
        f"On {count:.0f} held-out structure{'' if count == 1 else 's'} with {high} {label_origin(study)}"
        if math.isfinite(count)
        else f"On held-out {high} {label_origin(study)}"
    )
    seeds = f", mean of {best.seeds} seeds" if best.seeds > 1 else ""
    lowest = f"{with_spread('energy_mae', best)} meV/atom{seeds}"
    said = [f"{where}, of the methods {best.model} has the lowest energy error: {lowest}{_beside(study, best, methods)}."]
    return (
        said
        + _against_rivals(study, best, methods, baselines)
        + _against_references_alone(study, best, baselines)
        + _derivatives(study, best, baselines.get(study.source))
        + _better_baselines(study, best, baselines)
        + _lost(study, best, low)
    )


def _beside(study: StudyFolder, best: ModelErrors, methods: Sequence[ModelErrors]) -> str:
    """The methods whose interval of the difference from the best contains 0."""
    others = sorted(leading(methods, "energy_mae", study.predictions) - {best.model})
    return f", not significantly below {' and '.join(others)}" if others else ""


def _against_rivals(
    study: StudyFolder, best: ModelErrors, methods: Sequence[ModelErrors], baselines: dict[str, ModelErrors]
) -> list[str]:
    frozen = next((model for model in methods if model.model == "frozen" and model is not best), None)
    rivals = [
        (frozen, "the frozen transfer", ""),
        (baselines.get(study.source), f"the untouched {study.source}", _zero(study, baselines)),
    ]
    text = [
        f"{compared(best.mean['energy_mae'], rival.mean['energy_mae'])} {name} "
        f"({written('energy_mae', rival.mean['energy_mae'])}{more})"
        for rival, name, more in rivals
        if rival and math.isfinite(rival.mean.get("energy_mae", math.nan))
    ]
    return [f"That is {' and '.join(text)}."] if text else []


def _zero(study: StudyFolder, baselines: dict[str, ModelErrors]) -> str:
    """Share of the source's error that new references remove: its energy zero."""
    alone, source = _references_alone(study, baselines), baselines.get(study.source)
    if alone is None or source is None or not alone.mean["energy_mae"] < source.mean["energy_mae"]:
        return ""
    return f", all but {written('energy_mae', alone.mean['energy_mae'])} of it the energy zero"


def _references_alone(study: StudyFolder, baselines: dict[str, ModelErrors]) -> ModelErrors | None:
    alone = baselines.get(f"{study.source} + residual references")
    return alone if alone and math.isfinite(alone.mean.get("energy_mae", math.nan)) else None


def _against_references_alone(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Compare training with exchanging the references."""
    alone = _references_alone(study, baselines)
    if alone is None:
        return []
    value = written("energy_mae", alone.mean["energy_mae"])
    change, interval = difference(best, alone, "energy_mae", study.predictions)
    already = f"Exchanging the references alone, without any training, already gives {value} meV/atom"
    size = f"{signed('energy_mae', change)} meV/atom{_in_brackets(interval, 'energy_mae')}"
    if change >= 0:
        return [
            f"No method beats exchanging the references alone, which without any training gives {value} meV/atom; "
            f"training gained nothing in energy: {size}."
        ]
    if is_supported(interval):
        return [f"{already}; training changes that by {size}."]
    return [f"{already}: what training adds in energy, {size}, is not significant."]


def _better_baselines(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Another model, not trained here, that is better in energy than all that were is named, with its forces."""
    others = [model for name, model in baselines.items() if not name.startswith(study.source)]
    better = [model for model in others if model.mean.get("energy_mae", math.inf) < best.mean["energy_mae"]]
    lowest = best_of(better, "energy_mae")
    if lowest is None:
        return []
    change, interval = difference(lowest, best, "energy_mae", study.predictions)
    text = (
        f"The ready-made {lowest.model} is lower still in energy: {written('energy_mae', lowest.mean['energy_mae'])} meV/atom"
    )
    text += f" (by {written('energy_mae', -change)}{_in_words(interval, 'energy_mae', '; ')}{_doubt(interval)})"
    forces = lowest.mean.get("forces_mae", math.nan)
    return [text + (f", with a force error of {written('forces_mae', forces)} meV/Å." if math.isfinite(forces) else ".")]


def _derivatives(study: StudyFolder, best: ModelErrors, source: ModelErrors | None) -> list[str]:
    """Forces and stress of the best method against those of the source."""
    said = []
    for metric, name in (("forces_mae", "force"), ("stress_mae", "stress")):
        mine = best.mean.get(metric, math.nan)
        other = source.mean.get(metric, math.nan) if source else math.nan
        if source is None or not (math.isfinite(mine) and math.isfinite(other)):
            continue
        change, interval = difference(best, source, metric, study.predictions)
        size = f"{signed(metric, change)}{_in_words(interval, metric)}{_doubt(interval)}"
        whole = f"{with_spread(metric, best)} {QUANTITIES[metric].unit}"
        against = f"{compared(mine, other)} the source's {written(metric, other)}"
        said.append(f"The {name} error of {best.model}, {whole}, is {against} ({size}).")
    return said


def _lost(study: StudyFolder, best: ModelErrors, low: str) -> list[str]:
    kept = {model.model: model for model in by_model(study.results.rows, labels="source")}
    before, after = (
        kept[name].mean.get("energy_mae", math.nan) if name in kept else math.nan for name in (study.source, best.model)
    )
    if not (math.isfinite(before) and math.isfinite(after)):
        return []
    change = "rises" if after > before else "falls"
    text = f"from {written('energy_mae', before)} to {with_spread('energy_mae', kept[best.model])} meV/atom"
    return [f"On {low} itself, with references refitted, the energy error of {best.model} {change} {text}."]


def _doubt(interval: Interval) -> str:
    return "; not significant" if math.isfinite(interval[0]) and not is_supported(interval) else ""


def _in_brackets(interval: Interval, metric: str) -> str:
    words = _in_words(interval, metric, "")
    return f" ({words})" if words else ""


def _in_words(interval: Interval, metric: str, before: str = ", ") -> str:
    """``", 95 % −3.1 to +2.0"``; nothing where no interval is known."""
    if not math.isfinite(interval[0]):
        return ""
    return f"{before}95 % {signed(metric, interval[0])} to {signed(metric, interval[1])}"


# -- key figures ---------------------------------------------------------------------------------------


def study_tiles(study: StudyFolder) -> list[Tile]:
    """The key figures of a study; those without data are left out."""
    tiles = []
    errors = by_model(study.results.rows)
    best = best_of([model for model in errors if model.kind == "method"], "energy_mae")
    if best:
        shown = (("energy_mae", "Energy error, best method"), ("forces_mae", "Force error, same method"))
        tiles += [
            Tile(label, written(metric, best.mean.get(metric, math.nan)), QUANTITIES[metric].unit, f"{best.model}, test set")
            for metric, label in shown
        ]
        tiles += _gain(study, best, {model.model: model for model in errors if model.kind != "method"})
    if study.shift:
        mean, std, raw, referenced = (
            number(study.shift[name]) for name in ("mean", "std", "pearson_raw", "pearson_referenced")
        )
        tiles.append(
            Tile(
                "Shift between functionals",
                f"{mean:+.2f}".replace("-", "−"),
                "eV/atom",
                f"± {std:.2f} over {study.shift['n_pairs']} pairs",
            )
        )
        tiles.append(Tile("Correlation, referenced", f"{referenced:.3f}", "Pearson r", f"from {raw:.3f} raw"))
    return tiles


def _gain(study: StudyFolder, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[Tile]:
    """Gain of training over exchanging the references; a factor over the untouched source would be its energy zero."""
    alone = _references_alone(study, baselines)
    if alone is None:
        return []
    change, interval = difference(best, alone, "energy_mae", study.predictions)
    text = "over new references alone"
    if math.isfinite(interval[0]):
        text = f"over new references alone; 95 % {signed('energy_mae', interval[0])} to {signed('energy_mae', interval[1])}"
    return [Tile("Training, in energy", signed("energy_mae", change), "meV/atom", text)]
