"""Batches of frames: their composition, and :class:`TrainingBatch` with graph, targets and masks.

Batches are bounded by frames, atoms and, where wanted, bonds and angles, so that memory does not depend on which crystals
meet. Graphs are built when they are needed: that is cheap next to a training step, and the memory of a large data set
stays where it is.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch

from xclimb.config import TransferConfig
from xclimb.data.frames import COLUMNS, Frames
from xclimb.errors import counted
from xclimb.graph.batch import Batch, GraphSpec, build_batch
from xclimb.models.potential import atom_batches
from xclimb.training.objective import TERMS, Targets
from xclimb.training.replay import Mixture
from xclimb.units import ev_a3_to_gpa

Item = TypeVar("Item")
Made = TypeVar("Made")
_COUNTED_ATOMS = 4096  # atoms whose graphs are counted at a time


def plan_batches(
    sizes: np.ndarray,
    limits: np.ndarray,
    batch_size: int,
    seed: int | None = None,
    epoch: int = 0,
    order: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Indices of the frames of each batch; every frame, or every one of ``order``, in exactly one.

    Args:
        sizes: cost of each frame in each kind that is bounded (atoms, bonds, ...) ``[S, K]``.
        limits: most of each kind in a batch ``[K]``; a frame beyond them is a batch by itself, never dropped.
        batch_size: most frames in a batch.
        seed: order of the frames, other in each epoch; None keeps the order they have.
        epoch: number of the pass over the data.
        order: frames in their order, instead of that of the seed.
    """
    if order is None:
        order = np.arange(len(sizes))
        if seed is not None:
            order = np.random.default_rng([seed, epoch]).permutation(order)
    starts, frames, used = [], batch_size, np.zeros(len(limits))
    for place, size in enumerate(sizes[order]):
        if frames == batch_size or (used + size > limits).any():
            starts.append(place)
            frames, used = 0, np.zeros(len(limits))
        frames, used = frames + 1, used + size
    return np.split(order, starts[1:]) if starts else []


def share(index: np.ndarray, cost: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The frames of a batch that one of several processes computes: the costliest first, each to the least busy process.

    Args:
        index: frames of the batch.
        cost: of each of them.
        rank: number of the process.
        world: of how many.
    """
    if world == 1:
        return index
    load, owner = np.zeros(world), np.zeros(len(index), dtype=np.int64)
    for place in np.argsort(-cost, kind="stable"):
        owner[place] = load.argmin()
        load[owner[place]] += cost[place]
    return index[owner == rank]


@dataclass(frozen=True)
class TrainingBatch:
    """One batch: the graph, its targets, and the names of its frames."""

    graph: Batch
    targets: Targets
    frame_ids: np.ndarray


@dataclass(frozen=True, eq=False)
class BatchSource:
    """Frames with their reference energies, ready to be cut into batches.

    Args:
        frames: labelled structures; missing labels are NaN.
        reference_energy: energy of the references of each frame, eV ``[S]``, float64; taken off before rounding.
        spec: graph that the network needs.
        dtype, device: of the tensors.
        elements: atomic numbers whose references are trained ``[K]``; None where the references are fixed.
        weights: of each frame in the loss ``[S]``; None where all count alike.
        mixture: kinds of frames among them; None where all are of the target.
        levels: functional of each frame as a number ``[S]``, of a network for several; None where all are of the first.
        rank, world: number of this process, and of how many that share every batch.
    """

    frames: Frames
    reference_energy: np.ndarray
    spec: GraphSpec
    dtype: torch.dtype
    device: torch.device | str = "cpu"
    elements: np.ndarray | None = None
    weights: np.ndarray | None = None
    mixture: Mixture | None = None
    levels: np.ndarray | None = None
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return len(self.frames)

    def plan(self, config: TransferConfig, epoch: int | None = None) -> list[np.ndarray]:
        """Frames of each batch of one pass, in the order of an epoch, or (None) in their own."""
        budgets = {"atoms": config.batch_atoms, "bonds": config.batch_bonds, "angles": config.batch_angles}
        bounded = [name for name, limit in budgets.items() if limit is not None]
        counted = self.graph_sizes if len(bounded) > 1 else {"atoms": self.frames.n_atoms}
        sizes = np.stack([counted[name] for name in bounded], axis=1)  # [S, K]
        limits = np.array([budgets[name] for name in bounded])  # [K]
        if self.mixture is not None and epoch is not None:
            return plan_batches(sizes, limits, config.batch_size, order=self.mixture.order(config.seed, epoch))
        return plan_batches(sizes, limits, config.batch_size, None if epoch is None else config.seed, epoch or 0)

    @cached_property
    def graph_sizes(self) -> dict[str, np.ndarray]:
        """Atoms, bonds and angles of each frame ``[S]``, counted from the graphs themselves, once."""
        bonds, angles = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        for part in atom_batches(self.frames, _COUNTED_ATOMS):
            graph = build_batch(part, self.spec)
            bonds.append(np.bincount(graph.bond_system.numpy(), minlength=len(part)))
            ends = torch.cat([graph.bond_system[: graph.n_short]] * 2).numpy()  # crystal of each short directed edge
            angles.append(np.bincount(ends[graph.first.numpy()], minlength=len(part)))
        return {"atoms": self.frames.n_atoms, "bonds": np.concatenate(bonds), "angles": np.concatenate(angles)}

    @cached_property
    def label_totals(self) -> np.ndarray:
        """Total weight of the labelled components of each frame and term ``[S, 4]``."""
        weights = np.ones(len(self)) if self.weights is None else self.weights
        cut = self.frames.offsets
        columns = []
        for term in TERMS:
            labelled = ~np.isnan(getattr(self.frames, term))
            rows = labelled.reshape(len(labelled), -1).sum(axis=1)  # components of each row
            if COLUMNS[term].scope == "atom":
                rows = np.diff(np.concatenate([[0], np.cumsum(rows)])[cut])
            columns.append(rows * weights)
        return np.stack(columns, axis=1)

    def totals(self, index: np.ndarray) -> dict[str, float]:
        """Total weight of the labels of these frames, by term."""
        return dict(zip(TERMS, self.label_totals[index].sum(axis=0).tolist(), strict=True))

    def share(self, index: np.ndarray) -> np.ndarray:
        """Those of the frames of a batch that this process computes."""
        if self.world == 1:
            return index
        return share(index, self.graph_sizes["bonds"][index], self.rank, self.world)

    def batches(self, plan: Iterable[np.ndarray]) -> Iterator[TrainingBatch]:
        """This process's share of the batches of a plan, each built when it is asked for; empty ones are left out.

        A batch with frames of several functionals comes in one part for each.
        """
        return (self.batch(part) for index in plan if len(mine := self.share(index)) for part in self._by_level(mine))

    def _by_level(self, index: np.ndarray) -> list[np.ndarray]:
        if self.levels is None:
            return [index]
        return [index[self.levels[index] == level] for level in np.unique(self.levels[index])]

    def batch(self, index: np.ndarray) -> TrainingBatch:
        """The batch of the frames with these indices, which are of one functional."""
        frames = self.frames[index]
        graph = build_batch(frames, self.spec, dtype=self.dtype, device=self.device)
        if self.levels is not None:
            graph = replace(graph, level=int(self.levels[index[0]]))
        weights = None if self.weights is None else self.weights[index]
        shifted = None if self.mixture is None else index < self.mixture.n_train
        return TrainingBatch(graph, self._targets(frames, self.reference_energy[index], weights, shifted), frames.frame_id)

    def _targets(
        self, frames: Frames, reference_energy: np.ndarray, weights: np.ndarray | None, shifted: np.ndarray | None
    ) -> Targets:
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
        spread: dict[str, np.ndarray] = {}
        if weights is not None:
            atoms = weights[frames.system]
            spread = {"energy": weights, "forces": atoms[:, None], "stress": weights[:, None, None], "magmoms": atoms}
        fractions = None
        if self.elements is not None:
            fractions = frames.composition()[:, self.elements] / n_atoms[:, None]
            if shifted is not None:  # trained references are those of the target, replay frames have none
                fractions = fractions * shifted[:, None]
        return Targets(
            **{term: self._tensor(np.where(masks[term], label, 0.0)) for term, label in labels.items()},
            masks={term: torch.from_numpy(mask).to(self.device) for term, mask in masks.items()},
            counts=counts,
            totals={term: float((masks[term] * spread.get(term, 1.0)).sum()) for term in TERMS},
            weights={term: self._tensor(values) for term, values in spread.items()} or None,
            fractions=None if fractions is None else self._tensor(fractions),
        )

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(device=self.device, dtype=self.dtype)


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], depth: int = 2) -> Iterator[Made]:
    """``map(make, items)``, made in a thread up to ``depth`` items before they are asked for.

    A thread and no processes: building a graph is a few percent of a training step, and copying it to an accelerator
    happens in the thread too. An error of ``make`` is raised where its item is asked for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="xclimb-batches") as pool:
        waiting: list[Future[Made]] = []
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > depth:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def over_budget(source: BatchSource, config: TransferConfig) -> list[str]:
    """A sentence about crystals that alone exceed a budget of a batch: they are trained on, each as a batch alone."""
    budgets = {"atoms": config.batch_atoms, "bonds": config.batch_bonds, "angles": config.batch_angles}
    messages = []
    for kind, limit in budgets.items():
        if limit is None:
            continue
        size = source.frames.n_atoms if kind == "atoms" else source.graph_sizes[kind]
        if over := int((size > limit).sum()):
            worst = int(size.argmax())
            messages.append(
                f"{counted(over, 'training frame')} over the budget batch_{kind}={limit} and batches alone, the largest "
                f"{source.frames.frame_id[worst]} with {size[worst]} {kind}: memory is needed for such a batch."
            )
    return messages
