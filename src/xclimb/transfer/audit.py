"""Labels against what the potential says before any step: a wrong label stands out before it is learned."""

from typing import Any

import numpy as np

from xclimb.data.frames import Frames
from xclimb.errors import counted
from xclimb.ingest.label_units import OPTIONS
from xclimb.ingest.set_audit import ZeroLabel, without_labels, zero_rows
from xclimb.ingest.unit_evidence import incomparable, misfit, suspects
from xclimb.ingest.zero_labels import doubt
from xclimb.models.potential import Potential
from xclimb.references import AtomRef
from xclimb.units import MEV_PER_EV

LISTED = 10
SUSPECT = 50.0  # times the median error: sound data reach 25, from crystals that differ and strained frames


def take_zeros_as_missing(source: Potential, frames: Frames, name: str, seed: int) -> tuple[Frames, list[str]]:
    """The frames without forces and stresses that are exactly zero where the source predicts that they cannot be, and notes."""
    zeros, notes = [], []
    for label, rows in zero_rows(frames).items():
        if len(rows) and (evidence := doubt(label, rows, frames.__getitem__, source, seed)):
            zeros.append(ZeroLabel(label, rows, evidence))
            notes.append(f"In the {name} set {evidence}; they are taken as missing (audit_frames=0 takes them as they are).")
    return without_labels(frames, zeros), notes


def audit_labels(
    start: Potential, train: Frames, most: int, seed: int, source: AtomRef
) -> tuple[list[dict[str, Any]], list[str]]:
    """The training frames whose labels are furthest from step 0, and a note if some are out of all proportion.

    Args:
        start: the potential at step 0.
        train: labelled frames.
        most: frames to look at; of more, a seeded sample; 0 looks at none.
        seed: of the sample.
        source: references of the potential that the transfer starts from, for the distance of energies from it.

    Returns:
        Up to ten rows ``{frame, energy, forces, times}``: error of the energy (meV/atom), largest error of a force
        component (meV/Å), and how many times the median of its kind the larger of the two is; the worst first.
    """
    if not most:
        return [], []
    index = np.arange(len(train))
    if len(train) > most:
        index = np.sort(np.random.default_rng([seed, len(train)]).choice(len(train), most, replace=False))
    frames = train[index]
    predicted = start.label(frames)
    energy = MEV_PER_EV * np.abs(predicted.energy - frames.energy) / frames.n_atoms  # [S]
    forces = MEV_PER_EV * _largest(np.abs(predicted.forces - frames.forces), frames)  # [S]
    times = np.fmax(against_median(energy), against_median(forces))  # [S]
    worst = np.argsort(-np.nan_to_num(times, nan=-1.0), kind="stable")[:LISTED]
    rows = [
        {"frame": str(frames.frame_id[s]), "energy": energy[s], "forces": forces[s], "times": times[s]}
        for s in worst
        if np.isfinite(times[s])
    ]
    far = [row["frame"] for row in rows if row["times"] > SUSPECT]
    notes = _unit_notes(start, frames, predicted, source)
    if far:
        listed = "more than nine training frames" if len(far) == LISTED else counted(len(far), "training frame")
        notes.append(
            f"Labels of {listed} are over {SUSPECT:g} times further from step 0 than usual "
            f"({', '.join(far[:3])}{', ...' if len(far) > 3 else ''}): look at them, run.json lists the worst ten."
        )
    return rows, notes


def _unit_notes(start: Potential, frames: Frames, predicted: Frames, source: AtomRef) -> list[str]:
    """Notes on labels that look like being in another unit, or energies per atom, and on energies that nothing is known of."""
    interaction = predicted.energy - start.references.energy(frames)
    of_source = np.bincount(frames.system, source.values[frames.numbers], len(frames))  # NaN for an element without
    as_source = predicted.replace(energy=interaction + of_source)
    wrong = suspects(frames, as_source, interaction, start.name)
    notes = [
        f"The units of the training labels are in doubt: {one.evidence}. Read them with {OPTIONS[one.label]}=... if that is so."
        for one in wrong
    ]
    if any(one.label == "energy" for one in wrong):
        return notes
    sentence = misfit(frames, interaction, start.name) or incomparable(frames, interaction)
    return [*notes, f"{sentence[0].upper()}{sentence[1:]}."] if sentence else notes


def _largest(errors: np.ndarray, frames: Frames) -> np.ndarray:
    """Largest entry of each frame's rows ``[S]``; NaN where nothing is labelled."""
    largest = np.full(len(frames), np.nan)
    np.fmax.at(largest, frames.system, np.fmax.reduce(errors, axis=1))
    return largest


def against_median(errors: np.ndarray) -> np.ndarray:
    """Errors in units of the median of those that are known; NaN where that is 0."""
    known = errors[np.isfinite(errors)]
    usual = np.median(known) if len(known) else 0.0
    return errors / usual if usual > 0 else np.full_like(errors, np.nan)
