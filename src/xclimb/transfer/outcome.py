"""Outcome of a transfer: errors, predictions and the potential that is handed over, into the run folder."""

from dataclasses import replace
from typing import Any

from xclimb.errors import counted
from xclimb.evaluation.metrics import HasLabels, Metrics, evaluate
from xclimb.models.potential import Potential
from xclimb.runs.folder import RunFolder
from xclimb.transfer.guard import Choice
from xclimb.transfer.job import Job
from xclimb.transfer.predictions import describe_predictions


def hand_over(
    folder: RunFolder,
    job: Job,
    choice: Choice,
    start: Potential,
    best: Potential,
    judged: tuple[HasLabels, HasLabels],
    notes: tuple[str, ...] = (),
    stopped: bool = False,
) -> None:
    """Write the outcome of a run, and end it.

    Args:
        folder: of the run.
        job: the transfer; its test frames are evaluated here, once: whoever looks at them twice chooses by them.
        choice: of the guard.
        start: the potential of step 0.
        best: the one that is handed over.
        judged: the same two for the validation frames, where others than these are judged by them.
        notes: on the errors of the validation frames, beside those of the choice.
        stopped: the run may go on; test frames are left alone.
    """
    seed, metrics = job.config.seed, evaluate(judged[1], job.val)
    errors: dict[str, Any] = {"val": {}}
    predictions = describe_predictions(*judged, best.references, {"val": job.val}, seed)
    if job.test is not None and not stopped:
        errors["test"] = {when: evaluate(each, job.test).to_dict() for when, each in (("before", start), ("after", best))}
        predictions |= describe_predictions(start, best, best.references, {"test": job.test}, seed)
    for functional, frames in job.others.val.items():
        pair = {when: evaluate(each.at(functional), frames) for when, each in (("before", start), ("after", best))}
        errors[f"val {functional}"] = {when: one.to_dict() for when, one in pair.items()}
        notes = (*notes, _change(functional, pair["before"], pair["after"]))
    errors["val"] = replace(metrics, notes=(*metrics.notes, *choice.notes, *notes)).to_dict()
    folder.predict(predictions)
    folder.checkpoint("best", best)
    folder.update(guard=choice.to_dict())
    close = folder.stop if stopped else folder.finish
    close(errors, choice.epoch)


def _change(functional: str, before: Metrics, after: Metrics) -> str:
    """Sentence on the errors at a functional of the training that is not the target's."""
    pairs = {
        "energy": (before.energy_mae, after.energy_mae, "meV/atom"),
        "forces": (before.forces_mae, after.forces_mae, "meV/Å"),
    }
    known = [f"{name} {first:.1f} to {last:.1f} {unit}" for name, (first, last, unit) in pairs.items() if first == first]
    return f"At {functional}, on {counted(before.n_frames, 'frame')} held out, from step 0 to what is kept: {', '.join(known)}."
