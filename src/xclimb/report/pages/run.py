"""The page of a run: what a transfer changed, where it is wrong, and how to use it."""

from typing import Any

import plotly.graph_objects as go

from xclimb.report import figures, tables
from xclimb.report.folder import RunFolder, number
from xclimb.report.pages.base import Page, Section, register
from xclimb.report.run_summary import (
    SPLITS,
    change_table,
    changes,
    element_table,
    is_kept,
    main_split,
    run_tiles,
    run_verdict,
    validation_remark,
    worst_table,
)
from xclimb.report.structures import scene
from xclimb.report.style import BASELINE, colour
from xclimb.runs.schema import Predicted
from xclimb.runs.schema.predictions import STATES

_STATES = {"before": "before any step", "after": "after training"}


def _title(run: RunFolder) -> str:
    return f"{run.record.source} → {_high(run)}, {run.method}"


def _high(run: RunFolder) -> str:
    return run.record.theory.target.functional or "target"


def _common(run: RunFolder) -> dict[str, Any]:
    split, shown = _shown(run)
    return {
        "run": run,
        "high": _high(run),
        "kept": is_kept(run),
        "split": SPLITS.get(split),
        "sampled": _sampled(shown) if shown else "",
    }


def _shown(run: RunFolder) -> tuple[str, Predicted | None]:
    """The split whose frames are shown one by one, and its predictions."""
    split = next((name for name in SPLITS if name in run.predictions), "")
    return split, run.predictions.get(split)


def _errors(run: RunFolder) -> dict[str, Any]:
    return {
        "changed": {SPLITS[name]: table for name in SPLITS if (table := change_table(run, name))},
        "intervals": any(one.supported is not None for name in SPLITS for one in changes(run, name)),
        "no_intervals": _no_intervals(run),
        "remark": validation_remark(run),
        "evaluation": tables.evaluation({split: both.after for split, both in run.evaluation.items()}),
        "notes": sorted({note for both in run.evaluation.values() for note in both.after.notes}),
    }


def _no_intervals(run: RunFolder) -> str:
    """The reason why no change has an interval."""
    predicted = run.predictions.get(main_split(run) or "")
    if predicted is None:
        return "Intervals need predictions.json, which is not in this folder."
    count = len(set(predicted.material_id))
    held = "one material" if count == 1 else f"{count} materials"
    return f"Intervals need frames of at least five materials, and these are of {held}."


def _parities(run: RunFolder) -> dict[str, go.Figure]:
    return {name: _parity(run, *name.split(":")[1:]) for name in _parity_names(run)}


def _element_figures(run: RunFolder) -> dict[str, go.Figure]:
    _, shown = _shown(run)
    errors = {symbol: number(element["after"].forces) for symbol, element in shown.elements.items()} if shown else {}
    return {"elements": figures.shift_table(errors, None, "force MAE", "meV/Å", 0)} if any(errors.values()) else {}


def _elements(run: RunFolder) -> dict[str, Any]:
    _, shown = _shown(run)
    return {"elements": element_table(shown, is_kept(run)) if shown else None}


def _worst(run: RunFolder) -> dict[str, Any]:
    _, shown = _shown(run)
    return {"worst": worst_table(shown, is_kept(run)) if shown else None}


def _crystals(run: RunFolder) -> list:
    _, shown = _shown(run)
    return [[scene(one.structure.model_dump())] if one.structure else [] for one in shown.worst] if shown else []


def _training_figures(run: RunFolder) -> dict[str, go.Figure]:
    return {"training": figures.training_curves([run])} if len(run.epochs) > 1 else {}


def _reference_figures(run: RunFolder) -> dict[str, go.Figure]:
    if not run.references or not run.references.materials:
        return {}
    covered = {symbol: value for symbol, value in run.references.energies.items() if symbol in run.references.materials}
    return {"references": figures.shift_table(covered, run.references.std, "reference energy")}


def _references(run: RunFolder) -> dict[str, Any]:
    return {"references": tables.references({run.references.kind: run.references} if run.references else {})}


def _provenance(run: RunFolder) -> dict[str, Any]:
    record = run.record
    facts = [
        ("Method", run.method),
        ("Seed", str(record.seed)),
        ("State", record.state),
        ("Best epoch", "—" if run.best_epoch is None else str(run.best_epoch)),
    ]
    return {
        "facts": facts,
        "data": tables.records({name: data.model_dump() for name, data in record.data.items()}),
        "theories": tables.theories({"source": record.theory.source.stated(), "target": record.theory.target.stated()}),
        "settings": tables.settings(record.settings),
        "config": tables.settings(run.config),
        "versions": tables.settings({"xclimb": record.xclimb, **record.versions}),
    }


def _parity(run: RunFolder, split: str, state: str) -> go.Figure:
    """Parity of one set; the errors in its titles are those of the whole set."""
    predicted = run.predictions[split]
    content = {
        "frame_id": predicted.frame_id,
        "formula": predicted.formula,
        "reference_energy": predicted.reference_energy,
        "reference": predicted.reference.model_dump(),
        "models": {state: predicted.labels(state).model_dump()},
        "errors": {state: {one.metric: getattr(one, state) for one in changes(run, split)}},
    }
    return figures.parity(content, state, colour(run.method) if state == "after" else BASELINE)


def _parity_captions(run: RunFolder) -> dict[str, str]:
    """Name of each parity figure -> its entry in the choice."""
    names = [name.split(":") for name in _parity_names(run)]
    return {":".join(parts): f"{SPLITS[parts[1]]} set, {_STATES['before' if is_kept(run) else parts[2]]}" for parts in names}


def _parity_names(run: RunFolder) -> list[str]:
    states = STATES[1:] if is_kept(run) else STATES[::-1]
    return [f"parity:{name}:{state}" for name in SPLITS if name in run.predictions for state in states]


def _sampled(predicted: Predicted) -> str:
    if predicted.n_frames <= len(predicted.frame_id):
        return ""
    return f"A seeded sample of {len(predicted.frame_id):,} of {predicted.n_frames:,} frames."


register(
    Page("run", "Run report", _title, run_verdict, run_tiles, _common),
    Section("run", "evaluation", lambda run: "Errors of what was kept" if is_kept(run) else "Before and after",
            lambda run: "Errors" if is_kept(run) else "Before and after", block="evaluation", values=_errors),
    Section("run", "parity", "Predicted against computed", "Parity", needs=lambda run: bool(_parity_names(run)),
            figures=_parities, block="parity", values=lambda run: {"parities": _parity_captions(run)}),
    Section("run", "worst", "Furthest off", "Worst frames", needs=lambda run: _worst(run)["worst"], block="worst",
            values=_worst, structures=_crystals),
    Section("run", "by-element", "By element", needs=lambda run: _shown(run)[1], figures=_element_figures, block="by_element",
            values=_elements),
    Section("run", "training", "Training", figures=_training_figures, block="training",
            values=lambda run: {"stepped": len(run.epochs) > 1}),
    Section("run", "references", "Elemental references", "References", figures=_reference_figures, block="references",
            values=_references),
    Section("run", "use", "How to use it", "Use", block="use", values=lambda run: {"folder": run.path.resolve().name}),
    Section("run", "provenance", "Settings, data and versions", "Settings and data", block="provenance", values=_provenance),
)  # fmt: skip
