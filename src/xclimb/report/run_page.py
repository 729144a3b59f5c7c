"""The page of a run: what a transfer changed, where it is wrong, and how to use it."""

import plotly.graph_objects as go

from xclimb.report import figures, tables
from xclimb.report.folder import RunFolder, number
from xclimb.report.html import figures_json, json_for_html, render, script
from xclimb.report.run_predictions import STATES, Predicted
from xclimb.report.run_summary import (
    SPLITS,
    change_table,
    changes,
    element_table,
    is_kept,
    main_split,
    run_tiles,
    run_verdict,
    worst_table,
)
from xclimb.report.structures import scene
from xclimb.report.style import BASELINE, colour
from xclimb.report.summary import functional

_STATES = {"before": "before any step", "after": "after training"}


def run_page(run: RunFolder) -> str:
    """The page out of a run folder."""
    theory = run.info.get("theory") or {}
    high = functional(theory.get("target"), "target")
    drawn = _figures(run)
    split = next((name for name in SPLITS if name in run.predictions), None)
    shown, kept = run.predictions[split] if split else None, is_kept(run)
    worst = worst_table(shown, kept) if shown else None
    return render(
        "run.html.j2",
        title=f"{run.info.get('source', 'source')} → {high}, {run.method}",
        kind="Run report",
        verdict=run_verdict(run),
        tiles=run_tiles(run),
        drawn=set(drawn),
        figures=figures_json(drawn),
        run=run,
        high=high,
        kept=kept,
        stepped=len(run.epochs) > 1,
        changed={SPLITS[name]: table for name in SPLITS if (table := change_table(run, name))},
        intervals=any(one.supported is not None for name in SPLITS for one in changes(run, name)),
        judged=SPLITS.get(main_split(run) or ""),
        parities={name: _parity_caption(name, run) for name in drawn if name.startswith("parity:")},
        split=SPLITS.get(split or ""),
        sampled=_sampled(shown) if shown else "",
        elements=element_table(shown, kept) if shown else None,
        worst=worst,
        scenes=json_for_html([[scene(one.structure)] if one.structure else [] for one in shown.worst])
        if shown and worst
        else "",
        viewer=script("structure.js"),
        references=tables.references({run.references.kind: run.references} if run.references else {}),
        evaluation=tables.evaluation(run.evaluation),
        notes=sorted({note for row in run.evaluation for note in row.notes}),
        data=tables.records(run.info.get("data")),
        theories=tables.theories({"source": theory.get("source"), "target": theory.get("target")}),
        settings=tables.settings(run.info.get("settings") or run.config),
        config=tables.settings(run.config) if run.info.get("settings") else [],
        versions=tables.settings({"xclimb": run.info.get("xclimb"), **(run.info.get("versions") or {})}),
        facts=[
            ("Method", run.method),
            ("Seed", str(run.info.get("seed", "—"))),
            ("State", str(run.info.get("state", "—"))),
            ("Best epoch", "—" if run.best_epoch is None else str(run.best_epoch)),
        ],
        folder=run.path.resolve().name,
    )


def _figures(run: RunFolder) -> dict[str, go.Figure]:
    drawn = {"training": figures.training_curves([run])} if len(run.epochs) > 1 else {}
    for name in (split for split in SPLITS if split in run.predictions):
        for state in STATES[1:] if is_kept(run) else STATES[::-1]:
            drawn[f"parity:{name}:{state}"] = _parity(run, name, state)
    split = next((name for name in SPLITS if name in run.predictions), None)
    if split is not None:
        errors = {symbol: number(element["after"].forces) for symbol, element in run.predictions[split].elements.items()}
        drawn |= {"elements": figures.shift_table(errors, None, "force MAE", "meV/Å", 0)} if any(errors.values()) else {}
    if run.references and run.references.covered:
        covered = {symbol: value for symbol, value in run.references.values.items() if symbol in run.references.covered}
        drawn["references"] = figures.shift_table(covered, run.references.std, "reference energy")
    return drawn


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


def _parity_caption(name: str, run: RunFolder) -> str:
    _, split, state = name.split(":")
    return f"{SPLITS[split]} set, {_STATES['before' if is_kept(run) else state]}"


def _sampled(predicted: Predicted) -> str:
    if predicted.n_frames <= len(predicted.frame_id):
        return ""
    return f"A seeded sample of {len(predicted.frame_id):,} of {predicted.n_frames:,} frames."
