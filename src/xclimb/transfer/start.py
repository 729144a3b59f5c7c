"""A run that begins: step 0, what is checked there, and what run.json says from the start."""

from typing import Any

import numpy as np
import torch

from xclimb.data.frames import Frames
from xclimb.errors import counted
from xclimb.models.potential import Potential
from xclimb.models.zoo import load
from xclimb.runs.folder import RunFolder, describe_data, versions
from xclimb.training.batches import over_budget
from xclimb.training.engine import Engine
from xclimb.training.trainer import Trainer
from xclimb.transfer.audit import audit_labels
from xclimb.transfer.checks import SET_NAMES, check_elements, coverage_notes
from xclimb.transfer.job import Job
from xclimb.transfer.methods import get_method
from xclimb.units import MEV_PER_EV

STEP_ZERO_TOLERANCE = 1e-4  # eV/atom; float32 rounding of the network stays far below


def start(job: Job, engine: Engine, folder: RunFolder | None) -> tuple[Trainer, list[str]]:
    """A trainer at step 0 and the notes of the run; its folder is begun, by the process that has it.

    Raises:
        ReferencesError: if the references cannot be fitted or do not cover the frames.
    """
    config, method = job.config, get_method(job.config.method.name)
    source, potential = prepare(job, str(engine.device))
    trainer = Trainer(config, potential, job.train, job.val, engine, method, job.replay)
    deviation = None if method.new_weights else check_step_zero(source, trainer, job.val)
    notes = [*start_notes(job, potential), *over_budget(trainer.train_data, config)]
    notes += mixture_notes(job, source, trainer)
    if config.precision == "bf16" and engine.device.type == "cpu":
        notes.append("precision 'bf16' is made for accelerators: on this CPU steps take longer with it than with 'full'.")
    engine.barrier()  # before anything is written, all have read what is there
    if folder is not None:
        notes += begin_folder(folder, job, source, potential, notes, deviation)
    return trainer, notes


def mixture_notes(job: Job, source: Potential, trainer: Trainer) -> list[str]:
    """Notes on the frames of an epoch that are not of the target."""
    mixture, functionals = trainer.train_data.mixture, trainer.start.functionals
    if mixture is None:
        return []
    if fraction := job.config.replay.fraction:
        detail = f"{counted(mixture.sizes[1], 'crystal')} labelled by {source.name} itself"
        return [f"Replay: {100 * fraction:g} % of the frames of an epoch are of {detail}."]
    of_others = [
        f"{count} of {functional} (out of {size})"
        for functional, count, size in zip(functionals[1:], mixture.drawn, mixture.sizes[1:], strict=True)
    ]
    return [f"An epoch has {mixture.n_train} frames of {functionals[0]}, all, and beside them {', '.join(of_others)}."]


def prepare(job: Job, device: str) -> tuple[Potential, Potential]:
    """Source, and potential of step 0.

    Raises:
        DataError: on elements that the source does not know.
        ReferencesError: if the references cannot be fitted or do not cover the frames.
    """
    config = job.config
    source = load(job.source or config.source, device=device, dtype=config.dtype)
    if source.others:
        source = source.at(source.functionals[0])
    for name, frames in job.sets.items():
        check_elements(source, frames, SET_NAMES.get(name, name))
    return source, get_method(config.method.name).prepare(source, job.train, config.method, config.seed)


def start_notes(job: Job, potential: Potential) -> list[str]:
    """Notes on the sets, and on elements that the references of step 0 do not cover."""
    notes = [*job.notes, *coverage_notes(potential, job.train, job.val)]
    return notes if job.test is None else [*notes, *coverage_notes(potential, job.train, job.test, "test")]


def begin_folder(
    folder: RunFolder, job: Job, source: Potential, potential: Potential, notes: list[str], deviation: float | None = None
) -> list[str]:
    """Write what a run folder says from the start; gives notes on labels that are far from step 0.

    Args:
        folder: to begin.
        job: the transfer.
        source: pre-trained potential.
        potential: of step 0.
        notes: so far.
        deviation: of step 0 from the source, meV/atom; None where they are not compared.
    """
    looked_at = 0 if get_method(job.config.method.name).new_weights else job.config.audit_frames
    worst, suspicious = audit_labels(potential, job.train, looked_at, job.config.seed, source.references)
    checked = {"notes": [*notes, *suspicious], "step_zero_deviation": deviation, "audit": worst}
    folder.start(job.config.to_yaml(), _record(job) | checked | {"theory": _levels(source, job.train)})
    folder.checkpoint("start", potential)
    return suspicious


def check_step_zero(source: Potential, trainer: Trainer, val: Frames) -> float:
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


def _levels(source: Potential, train: Frames) -> dict[str, Any]:
    return {"source": source.theory.to_dict(), "target": train.theory.to_dict()}


def _record(job: Job) -> dict[str, Any]:
    """Fields of run.json that do not depend on step 0."""
    return {
        "versions": versions(),
        "xclimb": versions()["xclimb"],
        "method": job.config.method.name,
        "source": job.config.source,
        "seed": job.config.seed,
        "data": {name: describe_data(frames) for name, frames in job.sets.items()},
        "inputs": job.inputs,
        "best_epoch": None,
        "threads": torch.get_num_threads(),
        "settings": job.config.model_dump(mode="json"),
    }
