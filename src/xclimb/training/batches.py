"""Which frames make a batch, and the batch itself: graph, labels and masks.

Batches are bounded by frames and by atoms, so that memory does not depend on which crystals meet. Graphs are built when
they are needed: that is cheap next to a training step, and the memory of a large data set stays where it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from xclimb.data.frames import Frames
from xclimb.graph import Batch, build_batch
from xclimb.training.objective import Targets
from xclimb.units import ev_a3_to_gpa


def plan_batches(
    n_atoms: np.ndarray, batch_size: int, batch_atoms: int, seed: int | None = None, epoch: int = 0
) -> list[np.ndarray]:
    """Indices of the frames of each batch; every frame in exactly one.

    Args:
        n_atoms: atoms of each frame ``[S]``.
        batch_size: most frames in a batch.
        batch_atoms: most atoms in a batch; a frame larger than that is a batch by itself, never dropped.
        seed: order of the frames, other in each epoch; None keeps the order they have.
        epoch: number of the pass over the data.
    """
    order = np.arange(len(n_atoms))
    if seed is not None:
        order = np.random.default_rng([seed, epoch]).permutation(order)
    starts, frames, atoms = [], batch_size, 0
    for place, size in enumerate(n_atoms[order].tolist()):
        if frames == batch_size or atoms + size > batch_atoms:
            starts.append(place)
            frames, atoms = 0, 0
        frames, atoms = frames + 1, atoms + size
    return np.split(order, starts[1:]) if starts else []


@dataclass(frozen=True)
class TrainingBatch:
    """One batch: the graph, what the network should give for it, and the names of its frames."""

    graph: Batch
    targets: Targets
    frame_ids: np.ndarray


@dataclass(frozen=True, eq=False)
class BatchSource:
    """Frames with their reference energies, ready to be cut into batches.

    Args:
        frames: labelled structures; missing labels are NaN.
        reference_energy: energy of the references of each frame, eV ``[S]``, float64; taken off before rounding.
        cutoff, bond_cutoff: radii of the network's graphs, Å.
        dtype, device: of the tensors.
        elements: atomic numbers whose references are trained ``[K]``; None where the references are fixed.
    """

    frames: Frames
    reference_energy: np.ndarray
    cutoff: float
    bond_cutoff: float
    dtype: torch.dtype
    device: torch.device | str = "cpu"
    elements: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def plan(self, batch_size: int, batch_atoms: int, seed: int | None = None, epoch: int = 0) -> list[np.ndarray]:
        """Which frames make the batches of one pass; see :func:`plan_batches`."""
        return plan_batches(self.frames.n_atoms, batch_size, batch_atoms, seed, epoch)

    def batches(self, plan: list[np.ndarray]) -> Iterator[TrainingBatch]:
        """The batches of a plan, each built when it is asked for."""
        return (self.batch(index) for index in plan)

    def batch(self, index: np.ndarray) -> TrainingBatch:
        """The batch of the frames with these indices."""
        frames = self.frames[index]
        graph = build_batch(frames, self.cutoff, self.bond_cutoff, dtype=self.dtype, device=self.device)
        return TrainingBatch(graph, self._targets(frames, self.reference_energy[index]), frames.frame_id)

    def _targets(self, frames: Frames, reference_energy: np.ndarray) -> Targets:
        n_atoms = np.maximum(frames.n_atoms, 1)
        labels = {
            "energy": (frames.energy - reference_energy) / n_atoms,  # float64: totals may be -1e5 eV
            "forces": frames.forces,
            "stress": ev_a3_to_gpa(frames.stress),
            "magmoms": np.abs(frames.magmoms),
        }
        # NaN is the one way to say "not labelled"; an infinite label is an error and must not pass for a gap
        masks = {term: ~np.isnan(label) for term, label in labels.items()}
        counts = {term: int(mask.sum()) for term, mask in masks.items()}
        fractions = None
        if self.elements is not None:
            fractions = self._tensor(frames.composition()[:, self.elements] / n_atoms[:, None])
        return Targets(
            **{term: self._tensor(np.where(masks[term], label, 0.0)) for term, label in labels.items()},
            masks={term: torch.from_numpy(mask).to(self.device) for term, mask in masks.items()},
            counts=counts,
            fractions=fractions,
        )

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device=self.device, dtype=self.dtype)
