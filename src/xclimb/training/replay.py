"""Replay: crystals labelled by the potential of step 0 among the training frames, so that its function is not forgotten.

The labels are what the network itself says before training (knowledge distillation, arXiv 1606.09282): no data of its
functional are needed. Energies are interaction energies, without any references, while those of the training frames are
compared without the references of the target: each kind of frame has its own table, and no energy shift is learned.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.models.potential import Potential
from xclimb.references import AtomRef

if TYPE_CHECKING:
    from xclimb.training.batches import BatchSource


@dataclass(frozen=True)
class Replay:
    """Place of the replay frames in a training set, and how many an epoch has.

    Args:
        n_train: frames before them.
        n_replay: their number.
        fraction: of the frames of an epoch that are replay frames.
    """

    n_train: int
    n_replay: int
    fraction: float

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Indices of the frames of an epoch: every training frame once, replay frames spread evenly between them.

        The replay frames of successive epochs follow one another through shuffled passes over all of them.
        """
        train = np.random.default_rng([seed, epoch]).permutation(self.n_train)
        count = max(1, round(self.n_train * self.fraction / (1 - self.fraction)))
        places = np.arange(epoch * count, (epoch + 1) * count)
        rounds, place = np.divmod(places, self.n_replay)
        passes = {int(r): np.random.default_rng([seed, int(r), 1]).permutation(self.n_replay) for r in np.unique(rounds)}
        chosen = self.n_train + np.array([passes[int(r)][p] for r, p in zip(rounds, place, strict=True)])
        when = np.concatenate([(np.arange(self.n_train) + 0.5) / self.n_train, (np.arange(count) + 0.5) / count])
        return np.concatenate([train, chosen])[np.argsort(when, kind="stable")]


def with_replay(source: "BatchSource", start: Potential, crystals: Frames | None, fraction: float) -> "BatchSource":
    """Add replay frames to a training set.

    Args:
        source: the training frames.
        start: the potential of step 0, whose network gives the labels.
        crystals: structures for replay besides those of the training frames; their labels are not read.
        fraction: of the frames of an epoch that are replay frames.
    """
    given = [source.frames] if crystals is None else [source.frames, crystals]
    labelled = Frames.concatenate([_interaction_labels(start, frames) for frames in given])
    labelled = labelled.replace(theory=source.frames.theory, extras={})
    weights = source.weights
    if weights is not None:
        weights = np.concatenate([weights, np.full(len(labelled), weights.mean())])
    return replace(
        source,
        frames=Frames.concatenate([source.frames, labelled]),
        reference_energy=np.concatenate([source.reference_energy, np.zeros(len(labelled))]),
        weights=weights,
        replay=Replay(len(source), len(labelled), fraction),
    )


def _interaction_labels(start: Potential, frames: Frames) -> Frames:
    """Frames with the predictions of the network as labels, energies without references."""
    zeros = np.zeros_like(start.references.values)
    nothing = AtomRef(values=zeros, covered=np.ones(len(zeros), dtype=bool))
    labelled = Potential(start.model, nothing, LevelOfTheory(), start.name).label(frames)
    return labelled.replace(frame_id=np.array([f"replay of {name}" for name in frames.frame_id.tolist()]))
