"""Replay: crystals labelled by the potential of step 0 among the training frames, so that its function is not forgotten.

The labels are what the network itself says before training (knowledge distillation, arXiv 1606.09282): no data of its
functional are needed. Energies are interaction energies, without any references, while those of the training frames are
compared without the references of the target: each kind of frame has its own table, and no energy shift is learned.
"""

from collections.abc import Sequence
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
class Mixture:
    """Kinds of frames in a training set, one after another, and how many of each an epoch has.

    Args:
        sizes: number of frames of each kind; the first are those of the target.
        drawn: number of frames of each further kind in an epoch, which has every frame of the first.
    """

    sizes: tuple[int, ...]
    drawn: tuple[int, ...]

    @property
    def n_train(self) -> int:
        """Number of frames of the target, which come first."""
        return self.sizes[0]

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Indices of the frames of an epoch: every frame of the target once, those of other kinds spread evenly between them.

        Those of successive epochs follow one another through shuffled passes over all of their kind.
        """
        kinds, begin = [np.random.default_rng([seed, epoch]).permutation(self.n_train)], self.n_train
        for kind, (size, count) in enumerate(zip(self.sizes[1:], self.drawn, strict=True), start=1):
            rounds, place = np.divmod(np.arange(epoch * count, (epoch + 1) * count), size)
            passes = {int(r): np.random.default_rng([seed, int(r), kind]).permutation(size) for r in np.unique(rounds)}
            kinds.append(begin + np.array([passes[int(r)][p] for r, p in zip(rounds, place, strict=True)]))
            begin += size
        when = np.concatenate([(np.arange(len(kind)) + 0.5) / len(kind) for kind in kinds])
        return np.concatenate(kinds)[np.argsort(when, kind="stable")]


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
    return with_others(source, [(labelled, np.zeros(len(labelled)))], fraction / (1 - fraction))


def with_others(source: "BatchSource", others: Sequence[tuple[Frames, np.ndarray]], share: float) -> "BatchSource":
    """Add other kinds of frames to a training set; in the loss each has the mean weight of the training frames.

    Args:
        source: the training frames.
        others: frames of each kind, and the energies of their references, eV ``[S]``.
        share: frames of each kind in an epoch, of the number of training frames.
    """
    theory, weights = source.frames.theory, source.weights
    added = [frames.replace(theory=theory, extras={}) for frames, _ in others]
    if weights is not None:
        weights = np.concatenate([weights, np.full(sum(map(len, added)), weights.mean())])
    return replace(
        source,
        frames=Frames.concatenate([source.frames, *added]),
        reference_energy=np.concatenate([source.reference_energy, *(energy for _, energy in others)]),
        weights=weights,
        mixture=Mixture((len(source), *map(len, added)), (max(1, round(len(source) * share)),) * len(added)),
    )


def _interaction_labels(start: Potential, frames: Frames) -> Frames:
    """Frames with the predictions of the network as labels, energies without references."""
    zeros = np.zeros_like(start.references.values)
    nothing = AtomRef(values=zeros, covered=np.ones(len(zeros), dtype=bool))
    labelled = start.replace(references=nothing, theory=LevelOfTheory()).label(frames)
    return labelled.replace(frame_id=np.array([f"replay of {name}" for name in frames.frame_id.tolist()]))
