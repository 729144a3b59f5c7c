"""Cross-fitting: a network for each part of the materials, trained on the others and judged on this part.

Where materials are few, a tenth of them says little about what a transfer gained, and is missed in training. Here each
material trains all networks but one and is judged by that one. The guard chooses the share of the way from step 0 by these
errors; what is handed over is the average of the networks' weights at this share (Wortsman et al., arXiv 2203.05482).
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from xclimb.config import TransferConfig, ValidationSettings
from xclimb.data.frames import Frames
from xclimb.data.groups import elements_of, group_frames, sole_holders
from xclimb.errors import DataError, XclimbWarning, counted
from xclimb.evaluation.metrics import evaluate
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.runs.folder import Run, RunFolder, read_run
from xclimb.training.engine import started_from_outside
from xclimb.transfer.guard import choose, compare
from xclimb.transfer.job import Job
from xclimb.transfer.methods import get_method
from xclimb.transfer.outcome import hand_over
from xclimb.transfer.resume import can_go_on
from xclimb.transfer.run_job import open_folder, run_job
from xclimb.transfer.session import no_room
from xclimb.transfer.start import begin_folder, prepare, start_notes
from xclimb.transfer.weights import average, interpolate

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
    alone = sole_holders(elements_of(frames, groups)) & config.validation.cover
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


def cross_fit(job: Job, fold: np.ndarray) -> Run:
    """Train a network for each part of the materials in ``folds/K`` of the run folder, and hand over their average.

    Args:
        job: the transfer; its validation frames are the training frames of all parts.
        fold: part of each training frame ``[S]``, of :func:`assign_folds`.

    Raises:
        ConfigError, TrainingError: as :func:`xclimb.transfer.run_job.run_job`.
    """
    config = job.config
    folder = open_folder(job)
    if folder is None:
        return read_run(job.path, config.device, config.dtype)
    try:
        source, start = prepare(job, config.device)
        if job.resume:
            folder.go_on(config.to_yaml(), [], 0)
        else:
            begin_folder(folder, job, source, start, start_notes(job, start))
        folder.checkpoint("best", start)
        members = [_member(job, fold, k) for k in range(fold.max() + 1)]
        folder.update(folds=len(members))
        runs: list[Run] = []
        for member in members:
            runs.append(_train_member(member))
            if runs[-1].interrupted:
                folder.stop({"val": evaluate(start, job.val).to_dict()}, 0)
                break
        else:
            starts = [get_method(config.method.name).prepare(source, m.train, config.method, m.config.seed) for m in members]
            _finish(job, folder, fold[fold != NO_PART], start, starts, runs)
    except OSError as error:
        raise no_room(error, job.path, 0) from error
    finally:
        folder.release()
    return read_run(job.path, config.device, config.dtype)


def _member(job: Job, fold: np.ndarray, k: int) -> Job:
    """The transfer of the network that does not see part k."""
    config = job.config.model_copy(
        update={"validation": ValidationSettings(), "seed": job.config.seed + k, "guard": "sum", "audit_frames": 0}
    )
    train, val, path = job.train[fold != k], job.train[fold == k], job.path / "folds" / str(k)
    return replace(job, config=config, train=train, val=val, path=path, notes=(), test=None)


def _train_member(member: Job) -> Run:
    """The run of one part; one that is finished is read, one that was interrupted goes on."""
    path = member.path
    if (path / "run.json").exists() and RunFolder(path, resume=True).record.state == "finished":
        return read_run(path, member.config.device, member.config.dtype)
    resume = can_go_on(member)
    return run_job(replace(member, resume=resume, overwrite=not resume))


def _finish(
    job: Job, folder: RunFolder, fold: np.ndarray, start: Potential, starts: Sequence[Potential], runs: Sequence[Run]
) -> None:
    """Choose the share of the way by frames that each network has not seen, and hand over the average at this share.

    Args:
        job: the transfer.
        folder: of the run.
        fold: part of each validation frame ``[S]``.
        start: step 0 with the references of all frames.
        starts: step 0 of each network.
        runs: of the networks.
    """
    config, before = job.config, CrossFitted(starts, fold)
    if config.guard == "sum":
        epoch, ends = round(float(np.mean([run.best_epoch for run in runs]))), [run.potential for run in runs]
    else:
        epoch = len(runs[0].history) - 1
        ends = [load(run.path / "checkpoints" / "last", device=config.device, dtype=config.dtype) for run in runs]
    candidate = (epoch, CrossFitted(ends, fold))
    rule: Literal["first", "sum"] = "first" if config.guard == "each" else "sum"
    choice = choose(rule, before, candidate, candidate, job.val, CrossFitted.towards)
    fixed = get_method(config.method.name).references_rate(config.method, config.learning_rate) is None
    mean = average(ends, start.references if fixed else None)
    best = interpolate(start, mean, choice.share) if choice.share else start
    notes: tuple[str, ...] = ()
    if choice.share and is_behind_barrier(choice.potential, best, job.val):
        notes = ("The average of the networks is worse than each of them (a barrier between them): step 0 is kept.",)
        choice, best = replace(choice, potential=before, share=0.0, epoch=0), start
    for line in _mean_lines([run.history for run in runs], fold, job.val):
        folder.log(line)
    folder.checkpoint("last", mean)
    hand_over(folder, job, choice, start, best, (before, choice.potential), notes)


def is_behind_barrier(members: CrossFitted, mean: Potential, frames: Frames) -> bool:
    """Whether an average is worse in some quantity than its members are on frames that they have not seen, as it has."""
    return any(change.is_worse for change in compare(members, mean, frames))


def _mean_lines(histories: Sequence[list[dict[str, Any]]], fold: np.ndarray, frames: Frames) -> list[dict[str, Any]]:
    """The lines of each epoch that all networks have, averaged; validation errors by the number of labels behind them.

    Args:
        histories: of the networks.
        fold: part of each validation frame ``[S]``.
        frames: validation frames.
    """
    parts = [frames[fold == k] for k in range(len(histories))]
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
