"""One transfer: from a pre-trained potential and a few frames of a better functional to a run folder."""

from pathlib import Path
from typing import Any

from xclimb.config import TransferConfig
from xclimb.data.convert import FramesLike
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError
from xclimb.ingest.set_audit import zero_rows
from xclimb.models.potential import Potential, device_of
from xclimb.models.zoo import load
from xclimb.runs.folder import Run, RunFolder, read_run
from xclimb.runs.loggers import check_logs
from xclimb.training.engine import Engine, first_process, run_on_devices
from xclimb.transfer.audit import take_zeros_as_missing
from xclimb.transfer.checks import check_data, check_no_effect, material_frames, replay_frames, split_off_validation
from xclimb.transfer.job import Job, OnEpoch
from xclimb.transfer.resume import check_same_run, go_on
from xclimb.transfer.session import Session, no_room
from xclimb.transfer.sources import AUTO, rank_sources
from xclimb.transfer.start import start

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
    chosen = ""
    if config.source == AUTO and source is None:
        ranking = rank_sources(train, seed=config.seed, device=config.device)
        config, chosen = config.model_copy(update={"source": ranking.chosen}), ranking.reason
    frames, held_out, tested, notes = _prepared(train, val, test, config, source, progress and first_process())
    path = Path(out) if out is not None else Path("runs") / f"{config.method.name}-{config.seed}"
    job = Job(
        config,
        frames,
        held_out,
        path,
        source,
        tuple(filter(None, [chosen, *notes])),
        inputs,
        overwrite,
        resume,
        progress,
        on_epoch,
        tested,
        replay_frames(config),
    )
    if first_process():
        folder = RunFolder(path, overwrite, resume)
        if resume and folder.was_cleaning_up:
            folder.clean_up()
            return read_run(path, config.device, config.dtype)
        if resume:
            check_same_run(folder, job)
    rank = run_on_devices(config, carry_out, job)
    return read_run(path, config.device, config.dtype, rank)


def _prepared(
    train: FramesLike,
    val: FramesLike | None,
    test: FramesLike | None,
    config: TransferConfig,
    source: Potential | None,
    progress: bool,
) -> tuple[Frames, Frames, Frames | None, list[str]]:
    """Checked training, validation and test frames, and notes on them."""
    frames, notes = material_frames(train, "train")
    if val is None:
        frames, held_out, more = split_off_validation(frames, config, progress)
    else:
        check_no_effect(config)
        held_out, more = material_frames(val, "val")
    tested, on_test = (None, []) if test is None else material_frames(test, "test")
    notes += [*more, *on_test]
    checked = check_data(frames, held_out, tested)
    if config.audit_frames:
        frames, held_out, zeros = _without_zeros(config, frames, held_out, source)
        if zeros:  # labels that are missing now
            checked = [*zeros, *check_data(frames, held_out, tested)]
    return frames, held_out, tested, [*checked, *notes]


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


def carry_out(engine: Engine, job: Job) -> int:
    """Carry out a transfer in one of its processes, of which the first writes and prints; gives the number of the process."""
    folder = RunFolder(job.path, job.overwrite, job.resume) if engine.is_rank_zero else None
    saved = RunFolder(job.path, resume=True).states.newest() if job.resume else None
    try:
        trainer, notes = start(job, engine, folder) if saved is None else go_on(job, engine, folder, saved)
        Session(job, trainer, folder, saved).run(notes)
        engine.barrier()  # the folder is whole when any of them returns
    except OSError as error:  # before the session, which tells its own
        raise no_room(error, job.path, saved.card["step"] if saved else 0) from error
    finally:
        if folder is not None:
            folder.release()
    return engine.rank
