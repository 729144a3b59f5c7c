"""Study of scaling: errors against the number of training structures, by method, and how much data transfer saves.

Subsets are nested and made of whole materials, drawn anew for each seed, so that the spread over seeds holds that of the
subsets. The law of each method is fitted by :mod:`xclimb.evaluation.scaling`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from xclimb.data.splits import nested_subsets
from xclimb.errors import ConfigError, DataError, counted
from xclimb.evaluation.scaling import FAR, Efficiency, Law, efficiency, fit_law
from xclimb.files import write_json
from xclimb.runs.schema import ResultsTable
from xclimb.study.base import Baseline, Plan, Study, StudyContent, StudySettings, Trial, register
from xclimb.study.summary import QUANTITIES, written
from xclimb.transfer.methods import METHODS

if TYPE_CHECKING:
    from xclimb.models.potential import Potential

NAME = "scaling"
METRICS = ("energy_mae", "forces_mae")
_LEAST = 16  # training frames of the smallest default size


def _numbers(value: Any) -> Any:
    """Take ``"0,64,256"`` as a list of numbers."""
    try:
        return [int(part) for part in value.split(",")] if isinstance(value, str) else [value] if type(value) is int else value
    except ValueError:
        raise ConfigError(f"sizes {value!r} is no list of whole numbers: write 0,64,256") from None


class ScalingSettings(StudySettings):
    """Settings of the study ``scaling``."""

    sizes: Annotated[list[int] | None, BeforeValidator(_numbers)] = Field(
        default=None,
        description="numbers of training frames, 0 for the source with new references and no training; unset: 0, and "
        "per_decade of each power of ten up to all frames",
    )
    per_decade: int = Field(default=3, ge=1, description="numbers of training frames in a power of ten, where none are given")
    rule: Literal["epochs", "steps"] = Field(
        default="epochs",
        description="what is the same for all sizes; epochs: passes over the training frames; steps: those that the epochs "
        "make with all frames, so small sizes get more epochs",
    )
    subsets: Literal["material", "frame"] = Field(
        default="material", description="subsets of whole materials, the last one cut; or of single frames"
    )
    fit_from: int = Field(default=1, ge=1, description="fewest training frames of a trial that the laws are fitted to")

    def grid(self, count: int) -> list[int]:
        """List the sizes for a number of frames, ascending.

        Raises:
            ConfigError: if a size is given twice.
        """
        if self.sizes is None:
            steps = int(self.per_decade * math.log10(max(count / _LEAST, 1.0)))
            return [0, *sorted({round(count * 10 ** (-k / self.per_decade)) for k in range(steps + 1)})]
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigError("a size is given twice: name each once")
        return sorted(self.sizes)


class ScalingStudy(Study):
    """One transfer for each method, number of training frames and seed."""

    def title(self, plan: Plan) -> str:
        """Title for the report."""
        return f"{plan.source} to {plan.high.theory.functional}: errors against the number of training structures"

    def trials(self, plan: Plan) -> list[Trial]:
        """List the transfers, the smallest first; the largest subset of a seed holds all smaller ones."""
        settings, train = _settings(plan), plan.sets.train
        sizes = [size for size in settings.grid(len(train)) if size]
        if not sizes:
            raise ConfigError("a study of scaling needs a number of training frames above 0: give sizes")
        subsets = {seed: nested_subsets(train, sizes, seed, settings.subsets) for seed in plan.seeds}
        return [
            Trial(
                f"{method}-{size}-{seed}",
                plan.configure(method, seed, epochs=self.epochs(plan, size, max(sizes))),
                subsets[seed][size],
            )
            for size in sizes
            for seed in plan.seeds
            for method in plan.methods
        ]

    def epochs(self, plan: Plan, size: int, largest: int) -> int:
        """Number of epochs at a size, by the rule of the study."""
        return plan.epochs if _settings(plan).rule == "epochs" else round(plan.epochs * largest / size)

    def baselines(self, plan: Plan, source: "Potential") -> list[Baseline]:
        """List the source with informed references of all training frames and no training, where 0 is among the sizes."""
        from xclimb.references import fit_references

        if 0 not in _settings(plan).grid(len(plan.sets.train)):
            return []
        references = fit_references(plan.sets.train, potential=source, kind="informed")
        return [Baseline(f"{source.name} + informed references", source.with_references(references), 0)]

    def finish(self, content: StudyContent) -> None:
        """Write scaling.json: all laws, their intervals, and the data efficiency."""
        write_json(content.path / "scaling.json", [_to_dict(curve, curves(content, *key)) for key in _keys(content)
                                                   for curve in curves(content, *key).values()])  # fmt: skip

    def verdict(self, content: StudyContent) -> list[str]:
        """Say how many structures transfer saves, and what the next halving of its error costs."""
        said = [sentence for metric in METRICS for sentence in _sentences(curves(content, metric), metric)]
        return [*said, f"Compute rule: {rule_of(content)}."]


def _settings(plan: Plan) -> ScalingSettings:
    assert isinstance(plan.settings, ScalingSettings)
    return plan.settings


def rule_of(content: StudyContent) -> str:
    """Compute rule of a study in words."""
    settings = ScalingSettings.build(content.record.options)
    epochs = counted(content.record.settings.get("epochs", 0), "epoch")
    if settings.rule == "epochs":
        return f"{epochs} at every size, so larger sizes take more steps"
    return f"as many steps at every size as {epochs} make with the largest, so smaller sizes take more epochs"


# -- laws ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Curve:
    """Errors of one method against the number of training structures.

    Args:
        method: its name.
        metric: name of the error.
        split: set of frames that it is measured on.
        sizes: training frames of each trial.
        errors: of each trial.
        law: fitted to those from ``fit_from`` on; None where the sizes are too few.
    """

    method: str
    metric: str
    split: str
    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    law: Law | None

    @property
    def is_new(self) -> bool:
        """Whether the method starts from new weights."""
        return self.method in METHODS and METHODS[self.method].new_weights

    def mean(self, size: int) -> float:
        """Mean error over the seeds at a size."""
        return float(np.mean([error for n, error in zip(self.sizes, self.errors, strict=True) if n == size]))


def curves(content: StudyContent, metric: str, split: str = "test") -> dict[str, Curve]:
    """Errors of each method and their laws, by name."""
    fit_from = ScalingSettings.build(content.record.options).fit_from
    rows = content.results.select(kind="method", split=split, labels="target", metric=metric).rows
    points: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        if row.value is not None and row.n_train:
            points.setdefault(row.model, []).append((row.n_train, row.value))
    made = {}
    for method, trials in points.items():
        sizes, errors = (tuple(column) for column in zip(*sorted(trials), strict=True))
        made[method] = Curve(method, metric, split, sizes, errors, _law(sizes, errors, fit_from))
    return made


@cache
def _law(sizes: tuple[int, ...], errors: tuple[float, ...], fit_from: int) -> Law | None:
    kept = [(size, error) for size, error in zip(sizes, errors, strict=True) if size >= fit_from]
    try:
        return fit_law([size for size, _ in kept], [error for _, error in kept])
    except DataError:
        return None


def untrained(table: ResultsTable, metric: str, split: str = "test") -> float | None:
    """Error of the source with new references and no training."""
    rows = table.select(kind="baseline", n_train=0, split=split, labels="target", metric=metric).rows
    return rows[0].value if rows else None


def efficiencies(curve: Curve, others: dict[str, Curve]) -> dict[str, list[Efficiency]]:
    """Structures that methods with new weights need for the error of a transfer, by name, at each of its sizes."""
    if curve.law is None or curve.is_new:
        return {}
    sizes = [size for size in sorted(set(curve.sizes)) if size >= curve.law.smallest]
    scratch = {name: other.law for name, other in others.items() if other.is_new and other.law is not None}
    return {name: [efficiency(curve.law, law, size) for size in sizes] for name, law in scratch.items()}


def _keys(content: StudyContent) -> list[tuple[str, str]]:
    return [(metric, split) for metric in METRICS for split in ("val", "test")]


def _to_dict(curve: Curve, others: dict[str, Curve]) -> dict[str, Any]:
    law = curve.law
    entry: dict[str, Any] = {"method": curve.method, "metric": curve.metric, "split": curve.split, "law": None}
    if law is None:
        return entry
    numbers = {name: getattr(law, name) for name in ("kind", "a", "b", "c", "r2", "aicc", "spread", "smallest", "largest")}
    compared = {
        name: [{"size": one.size, "error": one.error, "needed": _finite(one.other), "ratio": _finite(one.ratio),
                "interval": [_finite(bound) for bound in one.interval], "reached": one.reached} for one in each]
        for name, each in efficiencies(curve, others).items()
    }  # fmt: skip
    return entry | {
        "law": numbers | {"slope_interval": list(law.slope), "offset_interval": list(law.offset)},
        "halving": _finite(law.size(law.error(law.largest) / 2)),
        "efficiency": compared,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# -- sentences -------------------------------------------------------------------------------------


def _sentences(all_curves: dict[str, Curve], metric: str) -> list[str]:
    """Data efficiency and next halving of the best transfer at its largest size."""
    transfers = [curve for curve in all_curves.values() if not curve.is_new and curve.law is not None]
    if not transfers:
        return [f"{QUANTITIES[metric].label}: too few numbers of training structures for a law (three are needed)."]
    best = min(transfers, key=lambda curve: curve.mean(max(curve.sizes)))
    said = [_saved(best, name, each, metric) for name, each in efficiencies(best, all_curves).items()]
    return [*said, _next_halving(best, metric)]


def _saved(curve: Curve, other: str, each: Sequence[Efficiency], metric: str) -> str:
    """Compare with a method of new weights where it gets as low within its sizes, or say that it does not."""
    quantity = QUANTITIES[metric]
    reached = [one for one in each if one.reached]
    one = reached[-1] if reached else each[0]
    error = f"{quantity.label} {written(metric, one.error)} {quantity.unit}"
    if reached:
        low, high = (_times(bound) for bound in one.interval)
        equal = f"{one.size:,} structures with {curve.method} equal {_about(one.other)} with {other}"
        return f"{error}: {equal}, {_times(one.ratio)} times as many (95 % {low} to {high})."
    return (
        f"{error}, of {one.size:,} structures with {curve.method}: not reached in range by {other}, which needs more than "
        f"{_times(one.least)} times as many."
    )


def _about(count: float) -> str:
    """A number of structures to two digits."""
    return f"{float(f'{count:.2g}'):,.0f}"


def _times(ratio: float) -> str:
    if not math.isfinite(ratio):
        return "without bound"
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _next_halving(curve: Curve, metric: str) -> str:
    assert curve.law is not None
    law, quantity = curve.law, QUANTITIES[metric]
    half = law.error(law.largest) / 2
    target = f"half of its error at {law.largest:,}, {written(metric, half)} {quantity.unit}"
    size = law.size(half)
    name = f"{quantity.label} of {curve.method}"
    if not math.isfinite(size):
        floor = f"its law levels off at {written(metric, law.c)} {quantity.unit}" if law.c else "its error does not fall"
        return f"{name}: {target}, is not reached by more structures of this kind: {floor}."
    low, high = law.predict(size)
    more = f"{_about(size - law.largest)} structures more"
    cost = f"{more} (predicted there: 95 % {written(metric, low)} to {written(metric, high)})"
    far = f"; that is more than {FAR:g} times the largest size, do not rely on it" if law.is_far(size) else ""
    return f"{name}: {target}, costs {cost}{far}."


register(
    ScalingStudy(
        NAME,
        "Errors against the number of training structures, by method; fitted laws, and how much data transfer saves.",
        examples=(
            "xclimb study scaling --sample dft_pairs --seeds 0,1,2 --epochs 20 --workers 2",
            "xclimb study scaling r2scan.extxyz --sizes 0,64,256,1024 --methods scratch,refit --out studies/scaling",
        ),
        settings=ScalingSettings,
        methods=("scratch", "refit"),
    )
)
