"""Looks at steps that were taken: what is not finite, what jumps, who asked to stop.

On a CPU every step is looked at as it is taken. On an accelerator looking means waiting for it, so steps are looked at
sixteen at a time; a step that was not finite has been left out on the device by then, and weights are whole.
"""

from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from xclimb.config import TransferConfig
from xclimb.training.trainer import NonFiniteLossError, Taken, Trainer

LOOK_EVERY = 16  # steps, on an accelerator
WINDOW, ENOUGH = 64, 16  # losses that make the median of what is usual, and how many it needs
MOST_SKIPPED = 10  # steps in a row that may be left out: more is no accident
DIVERGED = 2.0  # validation loss of an epoch over that of step 0, from which it is told


class Guard:
    """Watches one training.

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
        self._waiting: list[Taken] = []
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._skipped = 0
        self._diverged = False
        self.asked = False  # some process was asked to stop

    def take(self, taken: Taken) -> None:
        """Note a step; look, if it is time.

        Raises:
            NonFiniteLossError: as :meth:`look`.
        """
        self._waiting.append(taken)
        if len(self._waiting) >= self._every:
            self.look()

    def look(self) -> None:
        """Look at all steps that were not looked at.

        Raises:
            NonFiniteLossError: if one was not finite and the settings say to stop, or too many in a row were left out.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        rows = [
            torch.stack([taken.did.loss, taken.did.norm, taken.did.taken.to(taken.did.loss), taken.did.asked])
            for taken in waiting
        ]
        for taken, (loss, norm, finite, asked) in zip(waiting, torch.stack(rows).tolist(), strict=True):
            self.asked = self.asked or asked > 0
            if not finite:
                self._not_finite(taken)
                continue
            self._skipped = 0
            self._spike(taken, loss)
            if taken.number % self._config.log_steps == 0:
                self._log(
                    {
                        "step": taken.number,
                        "epoch": self._trainer.epoch + 1,
                        "lr": taken.learning_rate,
                        "loss": loss,
                        "norm": norm,
                    }
                )

    def _not_finite(self, taken: Taken) -> None:
        self._skipped += 1
        names = self._trainer.culprits(taken.frames)
        self._tell({"kind": "nonfinite", "step": taken.number, "epoch": self._trainer.epoch + 1, "frames": names.tolist()})
        if self._config.nonfinite == "stop" or self._skipped > MOST_SKIPPED:
            raise NonFiniteLossError(taken.number, names)

    def _spike(self, taken: Taken, loss: float) -> None:
        usual = median(self._recent) if len(self._recent) >= ENOUGH else None
        self._recent.append(loss)
        if usual is not None and loss > self._config.spike_factor * usual:
            names = self._trainer.train_data.frames.frame_id[taken.frames].tolist()
            event = {"kind": "spike", "step": taken.number, "epoch": self._trainer.epoch + 1, "loss": loss, "usual": usual}
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
        """What it remembers, for a saved state."""
        return {"recent": list(self._recent), "skipped": self._skipped, "diverged": self._diverged}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""
        self._recent.extend(state["recent"])
        self._skipped, self._diverged = state["skipped"], state["diverged"]


def sentence(event: dict[str, Any]) -> str:
    """An event in words, for the screen."""
    frames = event.get("frames", [])
    named = ", ".join(frames[:5]) + (f" and {len(frames) - 5} more" if len(frames) > 5 else "")
    where = f"step {event['step']} (epoch {event['epoch']})"
    if event["kind"] == "nonfinite":
        return f"{where}: loss or gradient not finite, the step is left out; frames {named}"
    if event["kind"] == "spike":
        return f"{where}: the loss jumped to {event['loss']:.3g}, usual is {event['usual']:.3g}; frames {named}"
    return f"{where}: the validation loss is {event['loss'] / event['first']:.1f} times that of step 0: the training diverges"
