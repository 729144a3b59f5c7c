"""Labels against what the potential says before any step: a wrong label stands out before it is learned."""

from typing import Any

import numpy as np

from xclimb.data.frames import Frames
from xclimb.models.potential import Potential
from xclimb.units import MEV_PER_EV

LISTED = 10
SUSPECT = 50.0  # times the median error: sound data reach 25, from crystals that differ and strained frames


def audit_labels(start: Potential, train: Frames, most: int, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The training frames whose labels are furthest from step 0, and a note if some are out of all proportion.

    Args:
        start: the potential at step 0.
        train: labelled frames.
        most: frames to look at; of more, a seeded sample; 0 looks at none.
        seed: of the sample.

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
    suspects = [row["frame"] for row in rows if row["times"] > SUSPECT]
    notes = []
    if suspects:
        told = "more than nine" if len(suspects) == LISTED else str(len(suspects))
        are = "frame is" if len(suspects) == 1 else "frames are"
        notes.append(
            f"Labels of {told} training {are} over {SUSPECT:g} times further from step 0 than usual "
            f"({', '.join(suspects[:3])}{', ...' if len(suspects) > 3 else ''}): look at them, run.json lists the worst ten."
        )
    return rows, notes


def _largest(errors: np.ndarray, frames: Frames) -> np.ndarray:
    """Largest entry of each frame's rows ``[S]``; NaN where nothing is labelled."""
    found = np.full(len(frames), np.nan)
    np.fmax.at(found, frames.system, np.fmax.reduce(errors, axis=1))
    return found


def against_median(errors: np.ndarray) -> np.ndarray:
    """Errors in units of the median of those that are known; NaN where that is 0."""
    known = errors[np.isfinite(errors)]
    usual = np.median(known) if len(known) else 0.0
    return errors / usual if usual > 0 else np.full_like(errors, np.nan)
