"""One transfer: from a pre-trained potential and a few frames of a better functional to a run folder."""

from pathlib import Path
from typing import Any

import numpy as np

from xclimb.config import TransferConfig
from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError
from xclimb.ingest.set_audit import zero_rows
from xclimb.models.potential import Potential, device_of
from xclimb.models.zoo import load
from xclimb.runs.folder import Run
from xclimb.runs.loggers import check_logs
from xclimb.training.engine import first_process
from xclimb.transfer.audit import take_zeros_as_missing
from xclimb.transfer.checks import (
    check_data,
    check_levels,
    check_no_effect,
    check_others,
    material_frames,
    replay_frames,
    split_off_validation,
)
from xclimb.transfer.cross_fitting import NO_PART, assign_folds, count_folds, cross_fit
from xclimb.transfer.job import Job, OnEpoch
from xclimb.transfer.methods import get_method
from xclimb.transfer.run_job import run_job
from xclimb.transfer.sources import AUTO, rank_sources

__all__ = ["Run", "run_transfer"]


def run_transfer(
    config: TransferConfig,
    train: FramesLike | None,
    val: FramesLike | None = None,
    out: str | Path | None = None,
    source: Potential | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    inputs: dict[str, Any] | None = None,
    test: FramesLike | None = None,
) -> Run:
    """Carry out a transfer with all settings in one object; ``source`` replaces loading ``config.source``.

    Other arguments and errors are those of :func:`xclimb.transfer`.

    ``inputs`` says in run.json where the frames came from, for whoever resumes.
    """
    device_of(config.device)
    check_logs(config)
    if on_epoch is not None and config.devices > 1:
        raise ConfigError("on_epoch cannot be called from several processes: leave it out, or devices")
    if train is None or not len(train):
        raise DataError("no training frames: give train=xclimb.read(...)")
    train = labelled_frames(train, "train")
    val, test = (None if one is None else labelled_frames(one, name) for name, one in (("val", val), ("test", test)))
    check_levels(train, val, test)
    chosen = ""
    if config.source == AUTO and source is None:
        ranking = rank_sources(train, seed=config.seed, device=config.device)
        config, chosen = config.model_copy(update={"source": ranking.chosen}), ranking.reason
    frames, notes = material_frames(train, "train")
    others, on_others = check_others(get_method(config.method.name).other_frames(config.method), train, val, test)
    folds = 1 if val is not None else count_folds(config, frames)
    fold, on_folds = assign_folds(frames, config, folds, progress and first_process()) if folds > 1 else (None, [])
    frames, held_out, tested, more = _prepared(frames, val, test, fold, config, source, progress and first_process())
    path = Path(out) if out is not None else Path("runs") / f"{config.method.name}-{config.seed}"
    said = tuple(filter(None, [chosen, *notes, *on_folds, *more, *on_others]))
    crystals = replay_frames(config)
    job = Job(
        config, frames, held_out, path, source, said, inputs, overwrite, resume, progress, on_epoch, tested, crystals, others
    )
    return run_job(job) if fold is None else cross_fit(job, fold)


def _prepared(
    frames: Frames,
    val: Frames | None,
    test: Frames | None,
    fold: np.ndarray | None,
    config: TransferConfig,
    source: Potential | None,
    progress: bool,
) -> tuple[Frames, Frames, Frames | None, list[str]]:
    """Checked training, validation and test frames, and notes on them; with parts, validation frames are those of all parts."""
    notes: list[str] = []
    if fold is not None:
        held_out = frames[:0]
    elif val is None:
        frames, held_out, notes = split_off_validation(frames, config, progress)
    else:
        check_no_effect(config)
        held_out, notes = material_frames(val, "val")
    tested, on_test = (None, []) if test is None else material_frames(test, "test")

    def check() -> list[str]:
        """Check the sets of one training; of parts, the first stands for validation frames."""
        sets = (frames, held_out) if fold is None else (frames[fold != 0], frames[fold == 0])
        return check_data(*sets, tested)

    checked = check()
    if config.audit_frames:
        frames, held_out, zeros = _without_zeros(config, frames, held_out, source)
        if zeros:  # labels that are missing now
            checked = [*zeros, *check()]
    if fold is not None:
        held_out = frames[fold != NO_PART]
    return frames, held_out, tested, [*checked, *notes, *on_test]


def _without_zeros(
    config: TransferConfig, train: Frames, val: Frames, source: Potential | None
) -> tuple[Frames, Frames, list[str]]:
    """Both sets with forces and stresses that were not computed taken as missing, and notes about these."""
    if not any(len(rows) for frames in (train, val) for rows in zero_rows(frames).values()):
        return train, val, []
    potential = source or load(config.source)
    train, notes = take_zeros_as_missing(potential, train, "training", config.seed)
    val, more = take_zeros_as_missing(potential, val, "validation", config.seed)
    return train, val, notes + more
