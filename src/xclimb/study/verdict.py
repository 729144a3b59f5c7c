"""A study of methods in words; what the intervals do not support is not claimed."""

import math
from collections.abc import Sequence

from xclimb.study.base import StudyContent
from xclimb.study.comparisons import Interval, difference, is_supported, leading
from xclimb.study.summary import (
    QUANTITIES,
    ModelErrors,
    best_of,
    by_model,
    compared,
    label_origin,
    signed,
    with_spread,
    written,
)


def methods_verdict(study: StudyContent) -> list[str]:
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
        + _against_references(study, best, baselines)
        + _derivatives(study, best, baselines.get(study.record.source))
        + _better_baselines(study, best, baselines)
        + _lost(study, best, low)
    )


def _beside(study: StudyContent, best: ModelErrors, methods: Sequence[ModelErrors]) -> str:
    """The methods whose interval of the difference from the best contains 0."""
    others = sorted(leading(methods, "energy_mae", study.predictions) - {best.model})
    return f", not significantly below {' and '.join(others)}" if others else ""


def _against_rivals(
    study: StudyContent, best: ModelErrors, methods: Sequence[ModelErrors], baselines: dict[str, ModelErrors]
) -> list[str]:
    frozen = next((model for model in methods if model.model == "frozen" and model is not best), None)
    rivals = [
        (frozen, "the frozen transfer", ""),
        (baselines.get(study.record.source), f"the untouched {study.record.source}", _zero(study, baselines)),
    ]
    text = [
        f"{compared(best.mean['energy_mae'], rival.mean['energy_mae'])} {name} "
        f"({written('energy_mae', rival.mean['energy_mae'])}{more})"
        for rival, name, more in rivals
        if rival and math.isfinite(rival.mean.get("energy_mae", math.nan))
    ]
    return [f"That is {' and '.join(text)}."] if text else []


def _zero(study: StudyContent, baselines: dict[str, ModelErrors]) -> str:
    """Share of the source's error that new references remove: its energy zero."""
    alone, source = references_alone(study, baselines), baselines.get(study.record.source)
    if alone is None or source is None or not alone.mean["energy_mae"] < source.mean["energy_mae"]:
        return ""
    return f", all but {written('energy_mae', alone.mean['energy_mae'])} of it the energy zero"


def references_alone(study: StudyContent, baselines: dict[str, ModelErrors]) -> ModelErrors | None:
    """Errors of the source with new references and no training; None if they are not known."""
    alone = baselines.get(f"{study.record.source} + residual references")
    return alone if alone and math.isfinite(alone.mean.get("energy_mae", math.nan)) else None


def _against_references(study: StudyContent, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Compare training with exchanging the references."""
    alone = references_alone(study, baselines)
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


def _better_baselines(study: StudyContent, best: ModelErrors, baselines: dict[str, ModelErrors]) -> list[str]:
    """Another model, not trained here, that is better in energy than all that were is named, with its forces."""
    others = [model for name, model in baselines.items() if not name.startswith(study.record.source)]
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


def _derivatives(study: StudyContent, best: ModelErrors, source: ModelErrors | None) -> list[str]:
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


def _lost(study: StudyContent, best: ModelErrors, low: str) -> list[str]:
    kept = {model.model: model for model in by_model(study.results.rows, labels="source")}
    before, after = (
        kept[name].mean.get("energy_mae", math.nan) if name in kept else math.nan for name in (study.record.source, best.model)
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
