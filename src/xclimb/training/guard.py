""":class:`Guard`: checks of the optimiser steps for non-finite losses, spikes and requests to stop.

On a CPU every step is checked at once. On an accelerator a check means waiting for it, so steps are checked
sixteen at a time; a step that was not finite has been left out on the device by then, and weights are whole.
"""

from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from xclimb.config import TransferConfig
from xclimb.training.trainer import NonFiniteLossError, StepRecord, Trainer

LOOK_EVERY = 16  # steps, on an accelerator
WINDOW, ENOUGH = 64, 16  # losses that make the median of what is usual, and how many it needs
MOST_SKIPPED = 10  # steps in a row that may be left out: more is no accident
DIVERGED = 2.0  # validation loss of an epoch over that of step 0, from which it is reported


class Guard:
    """Checks the steps of one training.

    Args:
        config: all settings.
        trainer: asked for the frames that made a step not finite.
        tell: called with each event: ``{"kind", "step", "epoch", "frames", ...}``.
        log: called with a line for steps.jsonl every ``log_steps`` steps.
    """

    def __init__(
        self,
        config: TransferConfig,
        trainer: Trainer,
        tell: Callable[[dict[str, Any]], None],
        log: Callable[[dict[str, Any]], None],
    ):
        self._config, self._trainer, self._tell, self._log = config, trainer, tell, log
        self._every = 1 if trainer.engine.device.type == "cpu" else LOOK_EVERY
        self._waiting: list[StepRecord] = []
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._skipped = 0
        self._diverged = False
        self.asked = False  # some process was asked to stop

    def record(self, record: StepRecord) -> None:
        """Record a step; check, if it is time.

        Raises:
            NonFiniteLossError: as :meth:`check`.
        """
        self._waiting.append(record)
        if len(self._waiting) >= self._every:
            self.check()

    def check(self) -> None:
        """Check all steps that are waiting.

        Raises:
            NonFiniteLossError: if one was not finite and the settings say to stop, or too many in a row were left out.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        rows = [
            torch.stack(
                [
                    record.result.loss,
                    record.result.norm,
                    record.result.is_finite.to(record.result.loss),
                    record.result.stop_requests,
                ]
            )
            for record in waiting
        ]
        for record, (loss, norm, finite, asked) in zip(waiting, torch.stack(rows).tolist(), strict=True):
            self.asked = self.asked or asked > 0
            if not finite:
                self._not_finite(record)
                continue
            self._skipped = 0
            self._spike(record, loss)
            if record.number % self._config.log_steps == 0:
                self._log(
                    {
                        "step": record.number,
                        "epoch": self._trainer.epoch + 1,
                        "lr": record.learning_rate,
                        "loss": loss,
                        "norm": norm,
                    }
                )

    def _not_finite(self, record: StepRecord) -> None:
        self._skipped += 1
        names = self._trainer.culprits(record.frames)
        self._tell({"kind": "nonfinite", "step": record.number, "epoch": self._trainer.epoch + 1, "frames": names.tolist()})
        if self._config.nonfinite == "stop" or self._skipped > MOST_SKIPPED:
            raise NonFiniteLossError(record.number, names)

    def _spike(self, record: StepRecord, loss: float) -> None:
        usual = median(self._recent) if len(self._recent) >= ENOUGH else None
        self._recent.append(loss)
        if usual is not None and loss > self._config.spike_factor * usual:
            names = self._trainer.train_data.frames.frame_id[record.frames].tolist()
            event = {"kind": "spike", "step": record.number, "epoch": self._trainer.epoch + 1, "loss": loss, "usual": usual}
            self._tell(event | {"frames": names})

    def close_epoch(self, line: dict[str, Any]) -> None:
        """Flag, once, a validation loss far above that of step 0."""
        first = self._trainer.history[0]["val"]["loss"]
        if line["val"]["loss"] > DIVERGED * first and not self._diverged:
            self._diverged = True
            self._tell(
                {
                    "kind": "divergence",
                    "step": line["step"],
                    "epoch": line["epoch"],
                    "loss": line["val"]["loss"],
                    "first": first,
                }
            )

    def state(self) -> dict[str, Any]:
        """Counters and recent losses, for a saved state."""
        return {"recent": list(self._recent), "skipped": self._skipped, "diverged": self._diverged}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self._recent.extend(state["recent"])
        self._skipped, self._diverged = state["skipped"], state["diverged"]


def sentence(event: dict[str, Any]) -> str:
    """Describe an event in a sentence for the screen."""
    frames = event.get("frames", [])
    named = ", ".join(frames[:5]) + (f" and {len(frames) - 5} more" if len(frames) > 5 else "")
    where = f"step {event['step']} (epoch {event['epoch']})"
    if event["kind"] == "nonfinite":
        return f"{where}: loss or gradient not finite, the step is left out; frames {named}"
    if event["kind"] == "spike":
        return f"{where}: the loss jumped to {event['loss']:.3g}, usual is {event['usual']:.3g}; frames {named}"
    return f"{where}: the validation loss is {event['loss'] / event['first']:.1f} times that of step 0: the training diverges"
