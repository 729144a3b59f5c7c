"""``xclimb.transfer``: from a pre-trained potential and a few frames of a better functional to a transferred potential."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xclimb.analysis.metrics import evaluate as metrics_of
from xclimb.config import TransferConfig
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError, DataError
from xclimb.models.potential import Potential, device_of
from xclimb.models.zoo import load
from xclimb.training.batches import over_budget
from xclimb.training.engine import Engine, first_process, run_on_devices
from xclimb.training.logs import open_logs
from xclimb.training.run import Run, RunFolder, describe_data, read_run, versions
from xclimb.training.trainer import Trainer
from xclimb.transfer.audit import audit_labels
from xclimb.transfer.checks import check_data, coverage_notes, split_off_validation
from xclimb.transfer.methods import get_method
from xclimb.transfer.progress import EpochBar
from xclimb.transfer.resume import check_same_data, check_unchanged, exactness_notes
from xclimb.transfer.session import OnEpoch, Session
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
    resume: bool = False,
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
    train: Frames | None,
    val: Frames | None = None,
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
    if on_epoch is not None and config.devices > 1:
        raise ConfigError("on_epoch cannot be called from several processes: leave it out, or devices")
    if train is None or not len(train):
        raise DataError("no training frames: give train=xclimb.read(...)")
    if val is None:
        train, val = split_off_validation(train, config.seed)
    notes = check_data(train, val)
    path = Path(out) if out is not None else Path("runs") / f"{config.method}-{config.seed}"
    if first_process():
        folder = RunFolder(path, overwrite, resume)
        if resume:
            check_unchanged(folder, config)
            check_same_data(folder, train, val)
    how = {"overwrite": overwrite, "resume": resume, "progress": progress}
    rank = run_on_devices(config, _train_on, config, train, val, path, source, notes, how, on_epoch, inputs)
    return read_run(path, config.device, config.dtype, rank)


def _train_on(
    engine: Engine,
    config: TransferConfig,
    train: Frames,
    val: Frames,
    path: Path,
    source: Potential | None,
    notes: list[str],
    how: dict[str, bool],
    on_epoch: OnEpoch | None,
    inputs: dict[str, Any] | None,
) -> int:
    """What every process of a transfer does; the first of them writes and talks. Gives the number of the process."""
    folder = RunFolder(path, how["overwrite"], how["resume"]) if engine.leads else None
    try:
        _train_in(folder, engine, config, train, val, path, source, notes, how, on_epoch, inputs)
    finally:
        if folder is not None:
            folder.release()
    return engine.rank


def _train_in(
    folder: RunFolder | None,
    engine: Engine,
    config: TransferConfig,
    train: Frames,
    val: Frames,
    path: Path,
    source: Potential | None,
    notes: list[str],
    how: dict[str, bool],
    on_epoch: OnEpoch | None,
    inputs: dict[str, Any] | None,
) -> None:
    """Start the run in its folder, or go on with it, and train to the end; without a folder, write nothing."""
    saved = RunFolder(path, resume=True).states.newest() if how["resume"] else None
    method = get_method(config.method)
    if saved is None:
        source = load(source or config.source, device=str(engine.device), dtype=config.dtype)
        start = method.start(source, train, config.seed)
        notes = notes + coverage_notes(start, train, val)
    else:
        start = load(path / "checkpoints" / "start", device=str(engine.device), dtype=config.dtype)
    trainer = Trainer(config, start, train, val, engine, method.trains_references)
    bar = EpochBar(config.method, config.epochs, how["progress"] and engine.leads)
    engine.wait()  # whatever is there has been read by all
    if saved is None:
        step_zero = None if method.new_weights or source is None else _check_step_zero(source, trainer, val)
        notes += over_budget(trainer.train_data, config)
        if folder is not None:
            worst: list[dict[str, Any]] = []
            if config.audit_frames and not method.new_weights:
                worst, suspicious = audit_labels(start, train, config.audit_frames, config.seed)
                notes += suspicious
            record = _record(config, train, val, notes, step_zero)
            record |= {"audit": worst, "inputs": inputs, "theory": _levels(source or start, train)}
            folder.start(config.to_yaml(), record)
            folder.checkpoint("start", start)
    elif folder is not None:
        card = saved[1]["trainer"]
        folder.go_on(config.to_yaml(), card["history"], card["step"])
        notes = list(folder.record.get("notes", [])) + saved[2] + exactness_notes(folder, saved[1]["threads"])
        folder.update(notes=notes, settings=config.model_dump(mode="json"))
    logs = open_logs(config, path, 0 if saved is None else saved[1]["step"]) if engine.leads else []
    session = Session(trainer, folder, bar, logs, on_epoch)
    if saved is not None:
        session.go_on(saved[0], saved[1])
        if folder is not None:
            folder.checkpoint("best", trainer.best)  # of the state: a later one is found again
    try:
        with bar:
            for note in notes:
                bar.say(f"note: {note}")
            interrupted = session.run()
        if folder is not None:
            _finish(trainer, folder, val, interrupted)
        engine.wait()  # the folder is whole when any of them returns
    finally:
        for log in logs:
            log.close()


def _finish(trainer: Trainer, folder: RunFolder, val: Frames, interrupted: bool) -> None:
    best = trainer.best
    metrics = {"val": metrics_of(best, val)}
    if not interrupted:
        folder.finish(metrics, trainer.best_epoch)
        return
    folder.checkpoint("best", best)  # the signal may have come between the epoch and its checkpoint
    folder.evaluation(metrics)
    folder.update(state="interrupted", best_epoch=trainer.best_epoch)


def _levels(source: Potential, train: Frames) -> dict[str, Any]:
    return {"source": source.theory.to_dict(), "target": train.theory.to_dict()}


def _record(config: TransferConfig, train: Frames, val: Frames, notes: list[str], step_zero: float | None) -> dict[str, Any]:
    """What run.json says from the start."""
    return {
        "versions": versions(),
        "xclimb": versions()["xclimb"],
        "method": config.method,
        "source": config.source,
        "seed": config.seed,
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
        output = trainer.trained.network(batch.graph, derivatives=False)
    energy = output.energy.double().cpu().numpy() + trainer.val_data.reference_energy[index]
    deviation = float(np.abs(energy / frames.n_atoms - expected).max())
    if not deviation < STEP_ZERO_TOLERANCE:
        raise RuntimeError(f"step 0 differs from the pre-trained potential by {deviation:.2e} eV/atom: a bug, please report it")
    return MEV_PER_EV * deviation
