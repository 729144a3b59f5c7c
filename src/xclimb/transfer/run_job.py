"""One network's training from its job to its run folder, in as many processes as the settings ask for."""

from xclimb.runs.folder import Run, RunFolder, read_run
from xclimb.training.engine import Engine, first_process, run_on_devices
from xclimb.transfer.job import Job
from xclimb.transfer.resume import check_same_run, go_on
from xclimb.transfer.session import Session, no_room
from xclimb.transfer.start import start


def run_job(job: Job) -> Run:
    """Train, or go on with the run in the folder where the job says so.

    Raises:
        ConfigError: if the folder is in use, or holds the run of other settings.
        TrainingError: if a process is lost, memory is out, or the folder can no longer be written to.
    """
    config = job.config
    if first_process() and open_folder(job) is None:
        return read_run(job.path, config.device, config.dtype)
    rank = run_on_devices(config, carry_out, job)
    return read_run(job.path, config.device, config.dtype, rank)


def open_folder(job: Job) -> RunFolder | None:
    """Open the folder of a transfer, not yet begun; None where its run is finished, and only its clean-up was left to do.

    Raises:
        ConfigError: if the folder is in use, or holds the run of other settings.
        DataError: if it holds the run of other frames.
    """
    folder = RunFolder(job.path, job.overwrite, job.resume)
    if job.resume and folder.was_cleaning_up:
        folder.clean_up()
        return None
    if job.resume:
        check_same_run(folder, job)
    return folder


def carry_out(engine: Engine, job: Job) -> int:
    """Carry out a transfer in one of its processes, of which the first writes and prints; gives the number of the process."""
    folder = RunFolder(job.path, job.overwrite, job.resume) if engine.is_rank_zero else None
    saved = RunFolder(job.path, resume=True).states.newest() if job.resume else None
    try:
        trainer, notes = start(job, engine, folder) if saved is None else go_on(job, engine, folder, saved)
        Session(job, trainer, folder, saved).run(notes)
        engine.barrier()  # the folder is whole when any of them returns
    except OSError as error:  # before the session, which explains its own
        raise no_room(error, job.path, saved.card["step"] if saved else 0) from error
    finally:
        if folder is not None:
            folder.release()
    return engine.rank
