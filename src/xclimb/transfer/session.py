"""One training with its run folder: steps are watched, logged and saved, signals and errors end it with everything kept."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from xclimb.errors import DataError, TrainingError, XclimbError
from xclimb.runs.folder import RunFolder
from xclimb.runs.loggers import open_logs
from xclimb.runs.progress import EpochBar
from xclimb.runs.states import Saved, state_of
from xclimb.training.guard import Guard, sentence
from xclimb.training.stop import StopSignals
from xclimb.training.trainer import NonFiniteLossError, Trainer
from xclimb.transfer.guard import choose
from xclimb.transfer.job import Job
from xclimb.transfer.outcome import hand_over

_NAMED = 16  # frames that a message lists


class Session:
    """Trains until it is done or stopped by a signal.

    Args:
        job: what is to be done.
        trainer: at step 0, or where the saved state left it.
        folder: begun; None in the processes that do not write.
        saved: the state that the trainer was restored from.
    """

    def __init__(self, job: Job, trainer: Trainer, folder: RunFolder | None, saved: Saved | None = None):
        self._job, self._trainer, self._folder = job, trainer, folder
        self._bar = EpochBar(job.config.method.name, job.config.epochs, job.progress and folder is not None)
        self._logs = open_logs(job.config, job.path, trainer.step) if folder is not None else []
        self._guard = Guard(job.config, trainer, self._tell, self._log_step)
        if saved is not None:
            self._guard.restore(saved.card["guard"])
        self._stop = StopSignals()
        self._saved = time.monotonic()  # a clock that never goes backwards
        self._saved_step = trainer.step
        self._atoms = 0

    def run(self, notes: Sequence[str]) -> None:
        """All epochs, fewer if a signal ends them, and what the folder says in the end.

        Args:
            notes: reported before the first step.

        Raises:
            DataError: at a loss that is not finite, naming frames.
            TrainingError: if nothing more can be written, memory is out, or a process is lost.
        """
        with ExitStack() as whatever_comes:
            for log in self._logs:
                whatever_comes.callback(log.close)
            whatever_comes.enter_context(self._bar)
            whatever_comes.enter_context(self._stop)
            whatever_comes.enter_context(self._explained())
            for note in notes:
                self._bar.say(f"note: {note}")
            self._finish(stopped=not self._train())

    def _train(self) -> bool:
        """All epochs; False if a signal ended them early."""
        trainer = self._trainer
        if not trainer.history:
            self._close_epoch()
        while not trainer.done:
            began = time.perf_counter()
            for taken in trainer.steps(self._stop.asked):
                self._guard.record(taken)
                self._atoms = round(taken.atoms / max(time.perf_counter() - began, 1e-9))
                self._bar.step(trainer.epoch, trainer.place, trainer.steps_in_epoch, taken.number, self._atoms)
                if self._guard.asked:
                    self._save()
                    self._bar.say(f"{self._stop.name or 'told to stop'}: the state at step {taken.number} is saved")
                    return False
                self._save_if_due()
                began = time.perf_counter()
            self._guard.check()
            self._close_epoch()
        return True

    def _finish(self, stopped: bool) -> None:
        if self._folder is None:
            return
        trainer, start = self._trainer, self._trainer.start
        ends = (trainer.epoch, trainer.last), (trainer.best_epoch, trainer.best)
        choice = choose(trainer.config.guard, start, *ends, self._job.val)
        best = choice.potential
        hand_over(self._folder, self._job, choice, start, best, (start, best), stopped=stopped)

    # -- what is written ------------------------------------------------------------------------------

    def _close_epoch(self) -> None:
        trainer = self._trainer
        line = trainer.close_epoch()
        self._guard.close_epoch(line)
        self._bar.show(line, trainer.best_epoch)
        if self._folder is not None:
            if trainer.best_epoch == line["epoch"]:
                self._folder.checkpoint("best", trainer.best)
            self._folder.checkpoint("last", trainer.last)
            self._folder.log(line)
            self._folder.update(best_epoch=trainer.best_epoch)
            for log in self._logs:
                log.epoch(line, trainer.history)
        self._save_if_due()
        if self._job.on_epoch is not None:
            self._job.on_epoch(line)

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved >= 60 * self._trainer.config.checkpoint_minutes:
            self._guard.check()
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self._folder is None:
            return
        tensors, card = state_of(self._trainer)
        self._folder.states.write(
            tensors, {"step": card["step"], "trainer": card, "guard": self._guard.state(), "threads": torch.get_num_threads()}
        )
        self._saved_step = card["step"]

    def _tell(self, event: dict[str, Any]) -> None:
        self._bar.say(f"note: {sentence(event)}")
        if self._folder is not None:
            self._folder.log(event, "events.jsonl")

    def _log_step(self, line: dict[str, Any]) -> None:
        line = line | {"atoms_per_second": self._atoms}
        if self._folder is not None:
            self._folder.log(line, "steps.jsonl")
            for log in self._logs:
                log.step(line)

    # -- what goes wrong ------------------------------------------------------------------------------

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of every kind as one sentence, in run.json too; the last saved state stays what it is."""
        try:
            yield
        except NonFiniteLossError as error:
            raise self._failed(DataError(self._divergence(error))) from error
        except XclimbError as error:
            raise self._failed(error) from error.__cause__
        except torch.OutOfMemoryError as error:
            detail = f"out of memory at step {self._trainer.step + 1}: lower batch_atoms (or set batch_bonds, batch_angles)"
            raise self._failed(TrainingError(f"{detail}{self._kept()}")) from error
        except OSError as error:
            raise self._failed(no_room(error, self._job.path, self._saved_step)) from error
        except KeyboardInterrupt:
            self._failed(TrainingError(f"ended at once{self._kept()}"))
            raise

    def _failed(self, error: XclimbError) -> XclimbError:
        if self._folder is not None:
            with suppress(OSError):  # the folder that cannot be written to may be what the error is about
                self._folder.update(state="interrupted", best_epoch=self._trainer.best_epoch, error=str(error))
        return error

    def _kept(self) -> str:
        return kept(self._job.path, self._saved_step)

    def _divergence(self, error: NonFiniteLossError) -> str:
        names = error.frame_ids[:_NAMED].tolist()
        more = "" if len(error.frame_ids) <= _NAMED else f" and {len(error.frame_ids) - _NAMED} more"
        trainer, best = self._trainer, ""
        if trainer.history and self._folder is not None:
            best = f"; the best potential so far (epoch {trainer.best_epoch}) is kept in {self._folder.path}"
        return (
            f"the loss is not finite at step {error.step} (epoch {trainer.epoch + 1}) in {', '.join(names)}{more}: "
            f"look for broken labels there, lower learning_rate or set gradient_clip, or nonfinite='skip' to leave such "
            f"steps out{best}"
        )


def no_room(error: OSError, run: Path, step: int) -> TrainingError:
    """Make the error of a run that cannot be written any more; ``step`` is that of its last state, 0 if there is none."""
    detail = f"cannot write {error.filename or run} ({error.strerror or error})"
    return TrainingError(f"{detail}: make room or give rights{kept(run, step)}")


def kept(run: Path, step: int) -> str:
    """The end of a message: what is left, and how to go on."""
    return f"; the state at step {step} is whole, go on from it with --resume {run}" if step else ""
