"""Cross-fitting: a network for each part of the materials, trained on the others and judged on this part.

Where materials are few, a tenth of them says little about what a transfer gained, and is missed in training. Here each
material trains all networks but one and is judged by that one. The guard chooses the share of the way from step 0 by these
errors; what is handed over is the average of the networks' weights at this share (Wortsman et al., arXiv 2203.05482).
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xclimb.config import TransferConfig, ValidationSettings
from xclimb.data.frames import Frames
from xclimb.data.groups import group_frames
from xclimb.errors import DataError, XclimbWarning, counted
from xclimb.evaluation.metrics import evaluate
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.runs.folder import Run, RunFolder, read_run
from xclimb.training.engine import started_from_outside
from xclimb.transfer.guard import choose, compare, interpolate
from xclimb.transfer.job import Job
from xclimb.transfer.methods import get_method
from xclimb.transfer.predictions import describe_predictions
from xclimb.transfer.resume import can_go_on, check_same_run
from xclimb.transfer.run_job import run_job
from xclimb.transfer.start import begin_folder, prepare, start_notes

MOST_FRAMES = 1000  # with more, a tenth of the frames says enough
EACH_PART = 2  # materials of a part, at least
NO_PART = -1


class CrossFitted:
    """Predictions for frames that each network was not trained on.

    Args:
        members: potentials, one for each part.
        fold: part of each frame ``[S]``.
    """

    def __init__(self, members: Sequence[Potential], fold: np.ndarray):
        self.members, self.fold, self.theory = tuple(members), fold, members[0].theory

    def label(self, frames: Frames) -> Frames:
        """All these frames, in their order, with the predictions of the member whose part they are.

        Raises:
            ValueError: if these are not as many frames as were divided.
        """
        if len(frames) != len(self.fold):
            raise ValueError(f"{len(frames)} frames, and {len(self.fold)} that were divided into parts")
        rows = [np.flatnonzero(self.fold == k) for k in range(len(self.members))]
        with warnings.catch_warnings():  # an element that the training of one network lacks is part of what is judged
            warnings.simplefilter("ignore", XclimbWarning)
            parts = [potential.label(frames[index]) for potential, index in zip(self.members, rows, strict=True)]
        return Frames.concatenate(parts)[np.argsort(np.concatenate(rows))]

    def towards(self, ends: "CrossFitted", share: float) -> "CrossFitted":
        """Each member at a share of the way to that of others."""
        pairs = zip(self.members, ends.members, strict=True)
        return CrossFitted([interpolate(start, end, share) for start, end in pairs], self.fold)


def count_folds(config: TransferConfig, frames: Frames) -> int:
    """Number of networks of a transfer without validation frames of its own: as the settings say, or as the method does.

    The method's number holds where frames are few, in one process, if nothing is said about validation frames.
    """
    settings = config.validation
    if settings.folds is not None:
        return settings.folds
    is_default = settings == ValidationSettings()
    single = config.devices * config.nodes == 1 and not started_from_outside()
    usable = is_default and single and config.epochs > 0 and len(frames) <= MOST_FRAMES
    wanted = get_method(config.method.name).folds if usable else 1
    return wanted if len(np.unique(frames.material_id)) >= EACH_PART * wanted else 1


def assign_folds(
    frames: Frames, config: TransferConfig, folds: int, progress: bool = False
) -> tuple[np.ndarray | None, list[str]]:
    """Divide materials into parts of about as many frames.

    Returns:
        Part of each frame ``[S]``, -1 where the only material with some element stays in every training (unless
        ``validation.cover`` is off); None if materials are too few, and nothing in the settings asks for parts. And notes.

    Raises:
        DataError: if there are fewer materials than parts that the settings ask for.
    """
    groups = group_frames(frames, config.validation.group, progress)
    holds = np.zeros((len(groups.names), frames.numbers.max() + 1), dtype=bool)  # [G, Z]
    holds[groups.group[frames.system], frames.numbers] = True
    alone = np.any(holds[:, holds.sum(axis=0) == 1], axis=1) & config.validation.cover
    number, is_asked = int(np.count_nonzero(~alone)), config.validation.folds is not None
    if number < folds * (1 if is_asked else EACH_PART):
        if not is_asked:
            return None, []
        raise DataError(
            f"{counted(number, groups.noun)} whose elements others have too cannot be divided into {folds} parts: "
            "give validation.folds=1, or more data"
        )
    sizes, load_of = np.bincount(groups.group), np.zeros(folds)
    part = np.full(len(groups.names), NO_PART)
    for group in np.random.default_rng(config.seed).permutation(np.flatnonzero(~alone)):
        part[group] = np.argmin(load_of)
        load_of[part[group]] += sizes[group]
    text = (
        f"{folds} networks, each trained without a part of the {groups.noun}s and judged on it; their average is kept. "
        "Validation errors are those of the single networks."
    )
    return part[groups.group], [*groups.notes, text]


def cross_fit(job: Job) -> Run:
    """Train a network for each part of the materials in ``folds/K`` of the run folder, and hand over their average.

    Raises:
        ConfigError, TrainingError: as :func:`xclimb.transfer.run_job.run_job`.
    """
    folder = RunFolder(job.path, job.overwrite, job.resume)
    if job.resume and not folder.was_cleaning_up:
        check_same_run(folder, job)
    try:
        if job.resume:
            folder.go_on(job.config.to_yaml(), [], 0)
            start = load(job.path / "checkpoints" / "start", device=job.config.device, dtype=job.config.dtype)
        else:
            source, start = prepare(job, job.config.device)
            begin_folder(folder, job, source, start, start_notes(job, start))
            folder.checkpoint("best", start)
        runs: list[Run] = []
        for k in range(_count(job)):
            runs.append(_train_member(job, k))
            if runs[-1].interrupted:
                folder.stop({"val": evaluate(start, job.val).to_dict()}, 0)
                break
        else:
            _finish(job, folder, start, runs)
    finally:
        folder.release()
    return read_run(job.path, job.config.device, job.config.dtype)


def _count(job: Job) -> int:
    return int(job.fold.max()) + 1  # type: ignore[union-attr]


def _train_member(job: Job, k: int) -> Run:
    """The run of one part; one that is finished is read, one that was interrupted goes on."""
    path = job.path / "folds" / str(k)
    if (path / "run.json").exists() and RunFolder(path, resume=True).record.state == "finished":
        return read_run(path, job.config.device, job.config.dtype)
    config = job.config.model_copy(
        update={"validation": ValidationSettings(), "seed": job.config.seed + k, "guard": "sum", "audit_frames": 0}
    )
    member = replace(
        job,
        config=config,
        train=job.train[job.fold != k],
        val=job.train[job.fold == k],
        path=path,
        notes=(),
        test=None,
        fold=None,
    )
    resume = can_go_on(member)
    return run_job(replace(member, resume=resume, overwrite=not resume))


def _finish(job: Job, folder: RunFolder, start: Potential, runs: Sequence[Run]) -> None:
    config, fold = job.config, job.fold[job.fold != NO_PART]  # type: ignore[index]
    starts = CrossFitted([_step_zero(job, start, k) for k in range(len(runs))], fold)
    last = len(runs[0].history) - 1
    if config.guard == "sum":
        epoch, ends = round(float(np.mean([run.best_epoch for run in runs]))), [run.potential for run in runs]
    else:
        epoch, ends = last, [load(run.path / "checkpoints" / "last", device=config.device, dtype=config.dtype) for run in runs]
    candidate = (epoch, CrossFitted(ends, fold))
    choice = choose(config.guard, starts, candidate, candidate, job.val, CrossFitted.towards)
    fixed = get_method(config.method.name).references_rate(config.method, config.learning_rate) is None
    mean = average(ends, start.references if fixed else None)
    best = interpolate(start, mean, choice.share) if choice.share else start
    notes = list(choice.notes)
    if choice.share and is_behind_barrier(choice.potential, best, job.val):
        notes.append("The average of the networks is worse than each of them (a barrier between them): step 0 is kept.")
        choice, best = replace(choice, potential=starts, share=0.0, epoch=0), start
    for line in _mean_lines(job, [run.history for run in runs]):
        folder.log(line)
    metrics = evaluate(choice.potential, job.val)
    errors: dict[str, Any] = {"val": replace(metrics, notes=(*metrics.notes, *notes)).to_dict()}
    predictions = describe_predictions(starts, choice.potential, best.references, {"val": job.val}, config.seed)
    if job.test is not None:
        predictions |= describe_predictions(start, best, best.references, {"test": job.test}, config.seed)
        errors["test"] = {when: evaluate(each, job.test).to_dict() for when, each in (("before", start), ("after", best))}
    folder.predict(predictions)
    folder.checkpoint("best", best)
    folder.checkpoint("last", mean)
    folder.update(guard=choice.to_dict())
    folder.finish(errors, choice.epoch)


def is_behind_barrier(members: CrossFitted, mean: Potential, frames: Frames) -> bool:
    """Whether an average is worse in some quantity than its members are on frames that they have not seen, as it has."""
    return any(change.is_worse for change in compare(members, mean, frames))


def _step_zero(job: Job, start: Potential, k: int) -> Potential:
    """Step 0 of a member: as the whole's, with the references of its own training frames."""
    member = replace(job, train=job.train[job.fold != k], config=job.config.model_copy(update={"seed": job.config.seed + k}))
    return prepare(member, str(start.device))[1]


def average(potentials: Sequence[Potential], references: Any = None) -> Potential:
    """The potential whose weights are the means of those of others of one architecture and one origin.

    Args:
        potentials: at least one.
        references: of the average; None for the mean of theirs.
    """
    model = copy.deepcopy(potentials[0].model)
    states = [potential.model.state_dict() for potential in potentials]
    with torch.no_grad():
        model.load_state_dict(
            {
                name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
                for name, value in states[0].items()
            }
        )
    first = potentials[0]
    if references is None:
        values = np.mean([potential.references.values for potential in potentials], axis=0)
        references = replace(first.references, values=values)
    return Potential(model, references, first.theory, first.name)


def _mean_lines(job: Job, histories: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The lines of each epoch that all networks have, averaged; validation errors by the number of labels behind them."""
    parts = [job.train[job.fold == k] for k in range(len(histories))]
    labels = {"energy_mae": "energy", "forces_mae": "forces", "stress_mae": "stress", "magmom_mae": "magmoms"}
    counts = {name: [int(np.isfinite(getattr(part, label)).sum()) for part in parts] for name, label in labels.items()}
    counts["loss"] = [len(part) for part in parts]
    lines = []
    for same_epoch in zip(*histories, strict=False):
        line = _mean(same_epoch)
        line["val"] = {name: _weighted([each["val"][name] for each in same_epoch], counts[name]) for name in line["val"]}
        lines.append(line)
    return lines


def _mean(values: Sequence[Any]) -> Any:
    if isinstance(values[0], dict):
        return {name: _mean([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], int):  # epoch and step
        return max(values)
    return _weighted(values, [1] * len(values))


def _weighted(values: Sequence[float | None], counts: Sequence[int]) -> float | None:
    known = [(value, count) for value, count in zip(values, counts, strict=True) if value is not None]
    return sum(value * count for value, count in known) / sum(count for _, count in known) if known else None
