"""The demo: from the embedded PBE / r2SCAN calculations to transferred potentials and their report, step by step.

Each step is a function that returns its results; the caller decides what to print.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.samples import load_sample, load_sample_split
from xclimb.errors import ConfigError

if TYPE_CHECKING:
    from xclimb.references import AtomRef
    from xclimb.study.run import StudyResult

SAMPLE, LOW, HIGH, SOURCE = "dft_pairs", "PBE", "r2SCAN", "chgnet-0.3.0"
MARK = "demo.json"  # says that a folder is a demo's own
EPOCHS, QUICK_EPOCHS = 12, 2
BATCH_SIZE = 8  # small data: more steps an epoch


@dataclass(frozen=True)
class Plan:
    """Plan of a demo.

    Args:
        out: folder of the study and its report.
        seeds: one transfer for each method and each seed.
        epochs: of every transfer.
        workers: transfers at a time; small crystals keep one core busy, not two.
    """

    out: Path
    seeds: tuple[int, ...] = (0,)
    epochs: int = EPOCHS
    workers: int = 1

    @property
    def methods(self) -> list[str]:
        """Names of the methods: those of the paper and the default one."""
        from xclimb.transfer.methods import DEFAULT, METHODS

        return [name for name, method in METHODS.items() if method.paper or name == DEFAULT]

    def prepare(self) -> bool:
        """Make the folder, or find it to be a former demo's; whether that one did something else and must be replaced.

        Raises:
            ConfigError: if the folder holds anything that is not a demo's.
        """
        mark = self.out / MARK
        if self.out.is_file():
            raise ConfigError(f"{self.out} is a file: give the demo another folder with --out")
        if self.out.is_dir() and any(self.out.iterdir()) and not mark.is_file():
            raise ConfigError(f"{self.out} is not empty and no demo made it: give the demo another folder with --out")
        (self.out / "runs").mkdir(parents=True, exist_ok=True)  # a study may go on where there are runs
        wanted = json.dumps({"seeds": self.seeds, "epochs": self.epochs, "sample": SAMPLE}) + "\n"
        former = mark.read_text(encoding="utf-8") if mark.is_file() else wanted
        mark.write_text(wanted, encoding="utf-8")
        return former != wanted


def load_pairs() -> tuple[Frames, Frames]:
    """The embedded frames with the labels of both functionals, low and high."""
    return load_sample(SAMPLE, LOW), load_sample(SAMPLE, HIGH)


def fit_residual(high: Frames) -> "AtomRef":
    """References fitted to what the source potential leaves over of the training frames."""
    from xclimb.models.zoo import load
    from xclimb.references import fit_references

    train, _, _ = load_sample_split(SAMPLE)
    return fit_references(high[np.isin(high.frame_id, train)], potential=load(SOURCE), kind="residual")


def transfer_all(
    plan: Plan, low: Frames, high: Frames, overwrite: bool = False, say: Callable[[str], None] | None = None
) -> "StudyResult":
    """Transfer the source by every method; a repeated call goes on where the last one ended."""
    from xclimb.study.methods import study_methods

    split: Sequence = load_sample_split(SAMPLE)
    title = f"{SOURCE} from {LOW} to {HIGH}: methods on the embedded calculations"
    return study_methods(
        low,
        high,
        split,
        plan.out,
        plan.methods,
        seeds=plan.seeds,
        source=SOURCE,
        epochs=plan.epochs,
        title=title,
        sample=SAMPLE,
        workers=plan.workers,
        batch_size=BATCH_SIZE,
        overwrite=overwrite,
        say=say,
    )
