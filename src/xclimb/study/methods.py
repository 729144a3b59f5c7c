"""Study of methods: every one on one pair of data sets, beside the untouched models: the paper's Table 1, on a user's own data.

The study folder, all JSON: study, shift, references/, runs/<method>-<seed>/, results, retention, predictions. The report
page is made from it alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclimb.data.frames import Frames
from xclimb.data.splits import Split
from xclimb.files import write_json
from xclimb.study.base import Baseline, Plan, Say, Study, StudyContent, register
from xclimb.study.run import StudyResult, run_study
from xclimb.study.verdict import methods_verdict

if TYPE_CHECKING:
    from xclimb.models.potential import Potential

COMPARED = "chgnet-r2scan"  # the model that others transferred to r2SCAN, with far more data


class MethodsStudy(Study):
    """One transfer for each method and seed, on the same frames."""

    def title(self, plan: Plan) -> str:
        """Title for the report."""
        return f"{plan.source} to {plan.high.theory.functional}, method by method"

    def prepare(self, plan: Plan, source: "Potential", folder: Path, say: Say) -> None:
        """Write the shift between the functionals, and all kinds of references of the training frames."""
        from xclimb.comparison.shift import shift
        from xclimb.references import fit_references

        if plan.low is not None:
            report = shift(plan.low, plan.high)
            write_json(folder / "shift.json", report.to_dict())
            change = f"{plan.high.theory.functional} - {plan.low.theory.functional}"
            say(f"shift {change}: {report.mean:.3f} ± {report.std:.3f} eV/atom")
        fitted = {kind: fit_references(plan.sets.train, potential=source, kind=kind) for kind in ("raw", "residual", "robust")}
        (folder / "references").mkdir(exist_ok=True)
        for kind, references in ({"source": source.references} | fitted).items():
            write_json(folder / "references" / f"{kind}.json", references.to_dict())

    def baselines(self, plan: Plan, source: "Potential") -> list[Baseline]:
        """List the untouched models, and the same with residual references of the training frames: no training at all."""
        from xclimb.models.zoo import load
        from xclimb.references import fit_references

        models, train = super().baselines(plan, source), plan.sets.train
        if train.theory.functional == "r2SCAN" and source.name != COMPARED:
            other = load(COMPARED)
            fitted = other.with_references(fit_references(train, potential=other, kind="residual"))
            models += [
                Baseline(COMPARED, other, len(train)),
                Baseline(f"{COMPARED} + residual references", fitted, len(train)),
            ]
        return models

    def verdict(self, content: StudyContent) -> list[str]:
        """Compare the best method with the others and with the models without training."""
        return methods_verdict(content)


METHODS_STUDY = register(
    MethodsStudy(
        "methods",
        "Transfer by every method and seed; table of errors on held-out materials, verdict and report.",
        examples=(
            "xclimb study methods --sample dft_pairs --seeds 0,1,2 --epochs 50 --out studies/dft",
            "xclimb study methods pbe.extxyz r2scan.extxyz --out studies/mine",
        ),
        needs_low=True,
    )
)


def study_methods(
    low: Frames,
    high: Frames,
    split: Split | Sequence,
    out: str | Path,
    methods: Sequence[str] | None = None,
    **settings: Any,
) -> StudyResult:
    """Transfer by every method and seed, and compare on frames that no training saw.

    Args:
        low: frames at the source's functional, paired with ``high`` by frame_id.
        high: frames at the target functional.
        split: a Split, or the frame ids of (train, val, test).
        out: study folder; the same call on the same folder continues where it ended.
        methods: names of methods; None: all of the registry.
        settings: as :func:`xclimb.study.run.run_study` takes them.
    """
    return run_study(METHODS_STUDY.name, high, split, out, low, methods, **settings)
