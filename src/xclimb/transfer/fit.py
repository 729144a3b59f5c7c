"""``xclimb.transfer``: from a pre-trained potential and a few frames of a better functional to a transferred potential."""

from pathlib import Path
from typing import Any

from xclimb.config import TransferConfig
from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.errors import ConfigError, DataError
from xclimb.models.potential import Potential, device_of
from xclimb.training.engine import Engine, first_process, run_on_devices
from xclimb.training.logs import check_logs
from xclimb.training.run import Run, RunFolder, read_run
from xclimb.transfer.checks import check_data, set_isolated_atoms_aside, split_off_validation
from xclimb.transfer.job import Job, OnEpoch
from xclimb.transfer.methods import get_method
from xclimb.transfer.resume import check_same_run, go_on
from xclimb.transfer.session import Session, no_room
from xclimb.transfer.start import start

__all__ = ["Run", "run_transfer", "transfer"]


def transfer(
    source: str | Path | Potential = "chgnet-0.3.0",
    train: FramesLike | None = None,
    val: FramesLike | None = None,
    method: str = "residual",
    out: str | Path | None = None,
    epochs: int = 50,
    seed: int = 0,
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    **settings: Any,
) -> Run:
    """Transfer a pre-trained potential to the level of theory of the training frames.

    Args:
        source: zoo name, path of a potential or run folder, or a Potential; ``scratch`` takes only its architecture.
        train: labelled frames, or a list of ASE atoms with labels; labels that are missing are masked.
        val: frames to choose the best epoch by, at the same level of theory; None takes a tenth of the materials of ``train``.
        method: ``scratch``, ``trainable``, ``frozen``, ``refit`` (Methods 1 to 4 of arXiv 2504.05565) or ``residual``.
        out: run folder, new or empty; ``runs/<method>-<seed>`` by default.
        epochs: passes over the training frames; 0 only exchanges the references.
        seed: of new weights, of the order of the frames and of the split; same seed, same machine, same numbers.
        overwrite: replace a run that is in the folder already.
        resume: go on with the run in the folder, interrupted or killed, from its last saved state; settings and frames must
            be the same. On one process what comes out is, bit for bit, what the run would have given undisturbed.
        progress: show a progress bar, if the output is a terminal.
        on_epoch: called with each line of metrics.jsonl as it is written.
        settings: any other field of :class:`xclimb.config.TransferConfig`, nested ones as ``loss={"energy": 2}``.

    Returns:
        The run. Its potential is the best epoch by the weighted validation loss, which may be epoch 0: the potential is
        never worse, by that measure, than the source with the references of the method. After Ctrl-C or SIGTERM, which save
        the state first, the run so far with ``interrupted`` set.

    Raises:
        ConfigError: on settings that are unknown, of the wrong kind or without effect, a folder that is in use, or settings
            that are not those of the run to go on with.
        DataError: on empty sets, no energies, unsupported elements, frames in both sets, or a loss that is not finite.
        TrainingError: if a process is lost, memory is out, or the folder can no longer be written to.
        TheoryError: if the functional of the frames is not known, or the two sets are at different levels of theory.
        ReferencesError: if the references cannot be fitted or do not cover the frames.
    """
    name = source.name if isinstance(source, Potential) else str(source)
    config = TransferConfig.build({"source": name, "method": method, "epochs": epochs, "seed": seed, **settings})
    potential = source if isinstance(source, Potential) else None
    more: dict[str, Any] = {"overwrite": overwrite, "resume": resume, "progress": progress, "on_epoch": on_epoch}
    return run_transfer(config, train, val, out, potential, **more)


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
) -> Run:
    """The same with all settings in one object; ``source`` replaces loading ``config.source``. See :func:`transfer`.

    ``inputs`` says in run.json where the frames came from, for whoever resumes.
    """
    get_method(config.method).check(config)
    device_of(config.device)
    check_logs(config)
    if on_epoch is not None and config.devices > 1:
        raise ConfigError("on_epoch cannot be called from several processes: leave it out, or devices")
    if train is None or not len(train):
        raise DataError("no training frames: give train=xclimb.read(...)")
    train, val = labelled_frames(train, "train"), None if val is None else labelled_frames(val, "val")
    train, val, isolated = set_isolated_atoms_aside(train, val)
    if val is None:
        train, val = split_off_validation(train, config.seed)
    notes = (*isolated, *check_data(train, val))
    path = Path(out) if out is not None else Path("runs") / f"{config.method}-{config.seed}"
    job = Job(config, train, val, path, source, notes, inputs, overwrite, resume, progress, on_epoch)
    if first_process():
        folder = RunFolder(path, overwrite, resume)
        if resume:
            check_same_run(folder, job)
    rank = run_on_devices(config, carry_out, job)
    return read_run(path, config.device, config.dtype, rank)


def carry_out(engine: Engine, job: Job) -> int:
    """What every process of a transfer does; the first of them writes and talks. Gives the number of the process."""
    folder = RunFolder(job.path, job.overwrite, job.resume) if engine.leads else None
    saved = RunFolder(job.path, resume=True).states.newest() if job.resume else None
    try:
        trainer, notes = start(job, engine, folder) if saved is None else go_on(job, engine, folder, saved)
        Session(job, trainer, folder, saved).run(notes)
        engine.wait()  # the folder is whole when any of them returns
    except OSError as error:  # before the session, which tells its own
        raise no_room(error, job.path, saved.card["step"] if saved else 0) from error
    finally:
        if folder is not None:
            folder.release()
    return engine.rank
