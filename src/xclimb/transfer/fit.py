"""``xclimb.transfer``: from a pre-trained potential and a few frames of a better functional to a transferred potential."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xclimb.analysis.metrics import evaluate as metrics_of
from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import DataError
from xclimb.models.potential import Potential, device_of
from xclimb.models.zoo import load
from xclimb.training.loop import NonFiniteLossError
from xclimb.training.run import Run, RunFolder, describe_data, versions
from xclimb.training.trainer import Trainer
from xclimb.transfer.checks import check_data, coverage_notes, split_off_validation
from xclimb.transfer.methods import get_method
from xclimb.transfer.progress import EpochBar
from xclimb.units import MEV_PER_EV

__all__ = ["Run", "run_transfer", "transfer"]

STEP_ZERO_TOLERANCE = 1e-4  # eV/atom; float32 rounding of the network stays far below


def transfer(
    source: str | Path | Potential = "chgnet-0.3.0",
    train: Frames | None = None,
    val: Frames | None = None,
    method: str = "residual",
    out: str | Path | None = None,
    epochs: int = 50,
    seed: int = 0,
    *,
    overwrite: bool = False,
    progress: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    **settings: Any,
) -> Run:
    """Transfer a pre-trained potential to the level of theory of the training frames.

    Args:
        source: zoo name, path of a potential or run folder, or a Potential; ``scratch`` takes only its architecture.
        train: labelled frames; labels that are missing are masked.
        val: frames to choose the best epoch by, at the same level of theory; None takes a tenth of the materials of ``train``.
        method: ``scratch``, ``trainable``, ``frozen``, ``refit`` (Methods 1 to 4 of arXiv 2504.05565) or ``residual``.
        out: run folder, new or empty; ``runs/<method>-<seed>`` by default.
        epochs: passes over the training frames; 0 only exchanges the references.
        seed: of new weights, of the order of the frames and of the split; same seed, same machine, same numbers.
        overwrite: replace a run that is in the folder already.
        progress: show a progress bar, if the output is a terminal.
        on_epoch: called with each line of metrics.jsonl as it is written.
        settings: any other field of :class:`xclimb.config.TransferConfig`, nested ones as ``loss={"energy": 2}``.

    Returns:
        The run. Its potential is the best epoch by the weighted validation loss, which may be epoch 0: the potential is
        never worse, by that measure, than the source with the references of the method. After Ctrl-C, the run so far with
        ``interrupted`` set.

    Raises:
        ConfigError: on settings that are unknown, of the wrong kind or without effect, or a folder that is in use.
        DataError: on empty sets, no energies, unsupported elements, frames in both sets, or a loss that is not finite.
        TheoryError: if the functional of the frames is not known, or the two sets are at different levels of theory.
        ReferencesError: if the references cannot be fitted or do not cover the frames.
    """
    name = source.name if isinstance(source, Potential) else str(source)
    config = TransferConfig.build({"source": name, "method": method, "epochs": epochs, "seed": seed, **settings})
    potential = source if isinstance(source, Potential) else None
    return run_transfer(config, train, val, out, potential, overwrite=overwrite, progress=progress, on_epoch=on_epoch)


def run_transfer(
    config: TransferConfig,
    train: Frames | None,
    val: Frames | None = None,
    out: str | Path | None = None,
    source: Potential | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """The same with all settings in one object; ``source`` replaces loading ``config.source``. See :func:`transfer`."""
    method = get_method(config.method)
    method.check(config)
    device_of(config.device)
    if train is None or not len(train):
        raise DataError("no training frames: give train=xclimb.read(...)")
    if val is None:
        train, val = split_off_validation(train, config.seed)
    notes = check_data(train, val)
    source = load(source or config.source, device=config.device, dtype=config.dtype)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / f"{config.method}-{config.seed}", overwrite)
    start = method.start(source, train, config.seed)
    notes += coverage_notes(start, train, val)
    trainer = Trainer(config, start, train, val, method.trains_references)
    step_zero = None if method.new_weights else _check_step_zero(source, trainer, val)
    folder.start(config.to_yaml(), _record(config, source, train, val, notes, step_zero))
    with EpochBar(config.method, config.epochs, progress) as bar:
        for note in notes:
            bar.say(f"note: {note}")
        interrupted = _train(trainer, folder, bar, on_epoch)
    metrics = metrics_of(trainer.best, val)
    folder.evaluation({"val": metrics})
    folder.update(state="interrupted" if interrupted else "finished", best_epoch=trainer.best_epoch)
    best, epoch = trainer.best, trainer.best_epoch
    return Run(folder.path, best, metrics, trainer.history, epoch, config.method, interrupted, tuple(notes))


def _record(
    config: TransferConfig, source: Potential, train: Frames, val: Frames, notes: list[str], step_zero: float | None
) -> dict[str, Any]:
    """What run.json says from the start."""
    return {
        "versions": versions(),
        "xclimb": versions()["xclimb"],
        "method": config.method,
        "source": config.source,
        "seed": config.seed,
        "theory": {"source": source.theory.to_dict(), "target": train.theory.to_dict()},
        "data": {"train": describe_data(train), "val": describe_data(val)},
        "best_epoch": None,
        # largest deviation of step 0 from "pre-trained network + references of the method", meV/atom
        "step_zero_deviation": step_zero,
        "threads": torch.get_num_threads(),
        "notes": list(notes),
        "settings": config.model_dump(mode="json"),
    }


def _check_step_zero(source: Potential, trainer: Trainer, val: Frames) -> float:
    """Assert that step 0 is the pre-trained network plus the references of the method; gives the deviation in meV/atom.

    The pre-trained side goes through :meth:`Potential.interaction_energy`, the other through what training will use.
    """
    index = np.argsort(val.n_atoms, kind="stable")[:8]  # a few small frames are enough to find a wrong weight or reference
    frames = val[index]
    expected = (source.interaction_energy(frames) + trainer.start.references.energy(frames)) / frames.n_atoms
    batch = trainer.val_data.batch(index)
    with torch.no_grad():
        output = trainer.model(batch.graph, derivatives=False)
    energy = output.energy.double().cpu().numpy() + trainer.val_data.reference_energy[index]
    deviation = float(np.abs(energy / frames.n_atoms - expected).max())
    if not deviation < STEP_ZERO_TOLERANCE:
        raise RuntimeError(f"step 0 differs from the pre-trained potential by {deviation:.2e} eV/atom: a bug, please report it")
    return MEV_PER_EV * deviation


def _train(trainer: Trainer, folder: RunFolder, bar: EpochBar, on_epoch: Callable[[dict[str, Any]], None] | None) -> bool:
    """All epochs, each written down as it ends; True if Ctrl-C ended them early."""
    try:
        _close_epoch(trainer, trainer.evaluate_start(), folder, bar, on_epoch)
        while trainer.epoch < trainer.config.epochs:
            _close_epoch(trainer, trainer.run_epoch(), folder, bar, on_epoch)
    except KeyboardInterrupt:
        folder.checkpoint("best", trainer.best)  # the signal may have come between the epoch and its checkpoint
        bar.say(f"interrupted: the best potential so far (epoch {trainer.best_epoch}) is in {folder.path}")
        return True
    except NonFiniteLossError as error:
        sentence = _divergence(error, trainer, folder)
        folder.update(state="interrupted", best_epoch=trainer.best_epoch, error=sentence)
        raise DataError(sentence) from error
    return False


def _close_epoch(
    trainer: Trainer, line: dict[str, Any], folder: RunFolder, bar: EpochBar, on_epoch: Callable[[dict[str, Any]], None] | None
) -> None:
    if trainer.best_epoch == line["epoch"]:
        folder.checkpoint("best", trainer.best)
    folder.checkpoint("last", trainer.potential())
    folder.log(line)
    folder.update(best_epoch=trainer.best_epoch)
    bar.show(line, trainer.best_epoch)
    if on_epoch is not None:
        on_epoch(line)


def _divergence(error: NonFiniteLossError, trainer: Trainer, folder: RunFolder) -> str:
    names = error.frame_ids[:16].tolist()
    more = "" if len(error.frame_ids) <= 16 else f" and {len(error.frame_ids) - 16} more"
    kept = f"; the best potential so far (epoch {trainer.best_epoch}) is kept in {folder.path}" if trainer.history else ""
    return (
        f"the loss is not finite at step {error.step} (epoch {trainer.epoch + 1}) in the batch of {', '.join(names)}{more}: "
        f"look for broken labels there, lower learning_rate or set gradient_clip{kept}"
    )
