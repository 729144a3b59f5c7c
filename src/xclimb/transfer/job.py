"""One transfer: the frames, settings and folder that every process of it is given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.models.potential import Potential
from xclimb.transfer.methods import OtherFrames

OnEpoch = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Job:
    """A transfer: settings, frames and folder.

    Args:
        config: all settings.
        train: frames to train on, checked.
        val: frames to choose the best epoch by, checked.
        path: the run folder.
        source: potential to start from; None loads ``config.source``.
        notes: notes of the checks.
        inputs: where the frames came from, for whoever resumes.
        overwrite: replace the run that is in the folder.
        resume: go on with the run that is in the folder.
        progress: show a progress bar.
        on_epoch: called with each line of metrics.jsonl as it is written.
        test: frames that neither training nor choice sees, checked; their errors end the run.
        replay: structures for replay besides the training frames.
        others: frames of other functionals, checked.
    """

    config: TransferConfig
    train: Frames
    val: Frames
    path: Path
    source: Potential | None = None
    notes: tuple[str, ...] = ()
    inputs: dict[str, Any] | None = None
    overwrite: bool = False
    resume: bool = False
    progress: bool = True
    on_epoch: OnEpoch | None = None
    test: Frames | None = None
    replay: Frames | None = None
    others: OtherFrames = field(default_factory=OtherFrames)

    @property
    def sets(self) -> dict[str, Frames]:
        """The frames by the name of their set; without ``"test"``, ``"replay"`` and other functionals where there are none."""
        optional = {"test": self.test, "replay": self.replay}
        optional |= {f"train {functional}": frames for functional, frames in self.others.train.items()}
        optional |= {f"val {functional}": frames for functional, frames in self.others.val.items()}
        return {"train": self.train, "val": self.val} | {
            name: frames for name, frames in optional.items() if frames is not None
        }
