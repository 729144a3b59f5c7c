"""Summary of a run: errors before any step and of the weights kept, with intervals, as verdict, tiles and tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xclimb.comparison.intervals import paired_difference
from xclimb.report.folder import RunFolder, number
from xclimb.report.tables import Cell, Table, Tile
from xclimb.runs.schema import Predicted, ResultsTable
from xclimb.runs.schema.predictions import ElementErrors
from xclimb.study.summary import MISSING, QUANTITIES, written

SPLITS = {"test": "test", "val": "validation"}  # the first that there is counts
_NAMES = {"energy": "energy", "forces": "forces", "stress": "stress", "magmom": "magnetic moments"}


@dataclass(frozen=True)
class Change:
    """One mean absolute error before any step and after; both may be NaN.

    Args:
        quantity: ``"energy"``, ``"forces"``, ``"stress"`` or ``"magmom"``.
        before: in the unit of the quantity.
        after: in the same unit.
        interval: 95 % interval of ``after - before`` over materials; NaN where it is not known.
    """

    quantity: str
    before: float
    after: float
    interval: tuple[float, float] = (math.nan, math.nan)

    @property
    def metric(self) -> str:
        """Name of the error, as in evaluation.json."""
        return f"{self.quantity}_mae"

    @property
    def percent(self) -> float:
        """Change in percent of the error before; NaN where there was none."""
        return 100.0 * (self.after / self.before - 1.0) if self.before > 0.0 else math.nan

    @property
    def supported(self) -> bool | None:
        """Whether the interval excludes no change; None without an interval."""
        low, high = self.interval
        return None if math.isnan(low) else low > 0.0 or high < 0.0

    @property
    def judged(self) -> str:
        """The change in a word or two; what the interval does not support is no change for better or worse."""
        if not math.isfinite(self.percent):
            return MISSING
        if self.supported is False:
            return "not significant"
        word = "worse" if self.after > self.before else "better" if self.after < self.before else "the same"
        return word if self.supported or word == "the same" else f"{word} (no interval)"


def is_kept(run: RunFolder) -> bool:
    """Whether the state before any step was kept: no epoch was better, or none was asked for."""
    return run.best_epoch == 0


def changes(run: RunFolder, split: str) -> list[Change]:
    """Changes of the errors on a split, by quantity; empty where errors before and after are not both known."""
    before, after = _errors(run, split)
    predicted = run.predictions.get(split)
    changed = []
    for quantity in _NAMES:
        first, last = (number(side.get(f"{quantity}_mae")) for side in (before, after))
        if math.isfinite(first) and math.isfinite(last):
            changed.append(Change(quantity, first, last, _interval(predicted, quantity)))
    return changed


def _errors(run: RunFolder, split: str) -> tuple[Mapping[str, float | int | None], Mapping[str, float | int | None]]:
    """Errors of a split at step 0 and of what was kept: evaluation.json, and metrics.jsonl for validation."""
    both = run.evaluation.get(split)
    before = both.before.values() if both and both.before else {}
    after = both.after.values() if both else {}
    if split == "val":
        epochs = {line.epoch: line.val.model_dump() for line in run.epochs}
        before, after = before or epochs.get(0, {}), after or epochs.get(run.best_epoch or 0, {})
    return before, after


def _interval(predicted: Predicted | None, quantity: str) -> tuple[float, float]:
    if predicted is None or quantity not in predicted.errors:
        return math.nan, math.nan
    return paired_difference(*predicted.errors[quantity].arrays(), predicted.materials)


def main_split(run: RunFolder) -> str | None:
    """The split that a run is judged by: test where there is one, else validation; None if neither is known."""
    return next((split for split in SPLITS if changes(run, split)), None)


# -- in words --------------------------------------------------------------------------------------------


def run_verdict(run: RunFolder) -> list[str]:
    """One transfer in a few sentences: what got better, what got worse, and what the frames do not tell."""
    record, high = run.record, run.record.theory.target.functional or "the target functional"
    said = [f"{record.source} transferred to {high} by the method {run.method}; the run is {record.state}."]
    split = main_split(run)
    if split is None:
        return [*said, "Its errors before and after training are not in the folder."]
    changed = changes(run, split)
    if is_kept(run):
        return [*said, _kept(run), f"Its errors on the {SPLITS[split]} set: {_listed(changed)}."]
    epochs = run.epochs[-1].epoch if run.epochs else run.best_epoch
    said.append(f"On the {SPLITS[split]} set, from step 0 to the best epoch ({run.best_epoch} of {epochs}{_way(run, ', ')}):")
    said.append(f"{'; '.join(map(_change_text, changed))}.")
    worse = [one for one in changed if one.after > one.before]
    if worse:
        names = " and ".join(_NAMES[one.quantity] for one in worse)
        said.append(f"Worse than before training: {names}{_doubt(worse)}.")
    if split == "val":
        said.append(validation_remark(run))
    return said


def validation_remark(run: RunFolder) -> str:
    """Remark on the errors on the validation frames: how far they can be trusted."""
    if run.record.folds:
        return (
            f"Each material was judged by the one of {run.record.folds} networks that was not trained on it; their average, "
            "which is handed over, has seen all of them."
        )
    return "The best epoch was chosen on the validation frames, so that their errors are optimistic."


def _way(run: RunFolder, before: str = "") -> str:
    """Share of the way from step 0 at which the kept weights lie; empty where it is all of it."""
    share = run.record.guard.share if run.record.guard else 1.0
    return f"{before}{100 * share:.0f} % of the way" if 0 < share < 1 else ""


def _kept(run: RunFolder) -> str:
    if len(run.epochs) < 2:
        return "No step was taken: only the elemental references were exchanged."
    text = f"None of {len(run.epochs) - 1} epochs was better than the state before training"
    return f"{text}, so that state was kept: nothing was gained."


def _listed(changed: Sequence[Change]) -> str:
    return ", ".join(f"{_NAMES[one.quantity]} {_quantity(one.metric, one.after)}" for one in changed)


def _quantity(metric: str, value: float) -> str:
    return f"{written(metric, value)} {QUANTITIES[metric].unit}"


def _change_text(one: Change) -> str:
    text = f"{_NAMES[one.quantity]} {written(one.metric, one.before)} to {_quantity(one.metric, one.after)}"
    return f"{text} ({_percent(one.percent)})"


def _doubt(worse: Sequence[Change]) -> str:
    unsure = [_NAMES[one.quantity] for one in worse if one.supported is False]
    if not unsure:
        return ""
    return f" (within the 95 % interval over materials{': ' + ' and '.join(unsure) if len(unsure) < len(worse) else ''})"


def _percent(value: float) -> str:
    return f"{value:+.0f} %".replace("-", "−") if math.isfinite(value) else MISSING


def run_tiles(run: RunFolder) -> list[Tile]:
    """The key figures of a run; those without data are left out."""
    split = main_split(run)
    tiles = []
    for one in changes(run, split) if split else ():
        quantity, name = QUANTITIES[one.metric], SPLITS.get(split or "", "")
        context = name if is_kept(run) else f"{name}, from {written(one.metric, one.before)} ({_percent(one.percent)})"
        tiles.append(Tile(quantity.label, written(one.metric, one.after), quantity.unit, context))
    if run.best_epoch is None or not run.epochs:
        return tiles
    context = _way(run) or "0 is before any step"
    return [*tiles, Tile("Best epoch", str(run.best_epoch), f"of {run.epochs[-1].epoch}", context)]


# -- tables ----------------------------------------------------------------------------------------------


def change_table(run: RunFolder, split: str) -> Table | None:
    """Before and after of each quantity on a split; None where they are not known."""
    changed = changes(run, split)
    if not changed:
        return None
    if is_kept(run):
        rows = [
            [Cell(QUANTITIES[one.metric].label, aside=QUANTITIES[one.metric].unit), _error(one.metric, one.after)]
            for one in changed
        ]
        return Table([("Quantity", ""), ("Before any step", "and kept")], rows)
    columns = [
        ("Quantity", ""),
        ("Before", "step 0"),
        ("After", "best epoch"),
        ("Change", "%"),
        ("95 % interval", "of the change"),
        ("", ""),
    ]
    return Table(columns, [_change_row(one) for one in changed])


def _change_row(one: Change) -> list[Cell]:
    interval = MISSING
    if math.isfinite(one.interval[0]):
        interval = " to ".join(_percent(100.0 * end / one.before) for end in one.interval)
    quantity = QUANTITIES[one.metric]
    return [
        Cell(quantity.label, aside=quantity.unit),
        _error(one.metric, one.before),
        _error(one.metric, one.after, one.supported is True and one.after < one.before),
        Cell(_percent(one.percent), one.percent),
        Cell(interval),
        Cell(one.judged),
    ]


def _error(metric: str, value: float, best: bool = False) -> Cell:
    return Cell(written(metric, value), value, best)


def element_table(predicted: Predicted, kept: bool) -> Table:
    """Errors by element, those before beside those after; the latter alone where the state before any step was kept."""
    metrics = [
        name
        for name in ("energy", "forces", "magmom")
        if any(_known(one["after"], name) for one in predicted.elements.values())
    ]
    body = []
    for z, (symbol, changed) in enumerate(predicted.elements.items()):
        before, after = changed["before"], changed["after"]
        counts = [Cell(f"{value:.0f}", value) for value in (after.frames, after.atoms)]
        errors = [_both(name, number(getattr(before, name)), number(getattr(after, name)), kept) for name in metrics]
        body.append([Cell(symbol, float(z)), *counts, *errors])
    return Table([("Element", ""), ("Frames", ""), ("Atoms", ""), *_headings(metrics)], body)


def _known(errors: ElementErrors, name: str) -> bool:
    return math.isfinite(number(getattr(errors, name)))


def _both(quantity: str, before: float, after: float, kept: bool) -> Cell:
    metric = f"{quantity}_mae"
    return Cell(written(metric, after), after, aside="" if kept else f"was {written(metric, before)}")


def _headings(quantities: Sequence[str]) -> list[tuple[str, str]]:
    return [(QUANTITIES[f"{name}_mae"].label, QUANTITIES[f"{name}_mae"].unit) for name in quantities]


def worst_table(predicted: Predicted, kept: bool) -> Table | None:
    """The frames that are furthest off, the worst first, as :func:`element_table`; None if there are none."""
    shown = [name for name in ("energy", "forces") if name in predicted.errors]
    body = []
    for row in (one.row for one in predicted.worst):
        errors = [(name, predicted.errors[name]) for name in shown]
        cells = [_both(name, number(changed.before[row]), number(changed.after[row]), kept) for name, changed in errors]
        body.append([Cell(predicted.formula[row]), *cells, Cell(predicted.frame_id[row])])
    return Table([("Formula", ""), *_headings(shown), ("Frame", "")], body) if body else None


def results_of(run: RunFolder) -> ResultsTable:
    """Table of the errors of a run, as of a study: before any step, then of what was kept."""
    table, trial = ResultsTable(), {"seed": run.record.seed}
    for split, both in run.evaluation.items():
        if both.before is not None:
            table.add(both.before, model="before training", kind="baseline", split=split, **trial)
    for split, both in run.evaluation.items():
        table.add(both.after, model=run.method, kind="method", split=split, **trial)
    return table
