"""The loss: Huber errors of energy, forces, stress and magnetic moments, each over the labels that exist.

    L = w_E H(e) + w_F H(f) + w_S H(s) + w_M H(m)        H: mean Huber loss over the labelled components

Energies are interaction energies per atom (eV/atom): the references are taken off in float64 before anything is rounded,
so that an energy of -1e5 eV loses nothing. Stress counts in GPa, as in the paper (arXiv 2504.05565); moments as |µB|.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import huber_loss

from xclimb.config import LossSettings
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

TERMS = ("energy", "forces", "stress", "magmoms")


@dataclass(frozen=True)
class Targets:
    """What a batch should give; a label that is missing holds 0 and is masked out.

    Args:
        energy: (total energy - references) / atoms, eV/atom ``[S]``.
        forces: eV/Å ``[A, 3]``.
        stress: GPa, tension positive ``[S, 3, 3]``.
        magmoms: size of the magnetic moment, µB ``[A]``.
        masks: one mask a term, True where the label exists, of the shape of the label.
        counts: number of labelled components of each term.
        fractions: composition of each system as fractions of the listed elements ``[S, K]``; only where references are trained.
    """

    energy: Float[Tensor, " systems"]
    forces: Float[Tensor, "atoms 3"]
    stress: Float[Tensor, "systems 3 3"]
    magmoms: Float[Tensor, " atoms"]
    masks: dict[str, Tensor]
    counts: dict[str, int]
    fractions: Float[Tensor, "systems elements"] | None = None


@dataclass
class ErrorSums:
    """Sums over labelled components, to be divided by their counts: means that do not depend on the batching.

    ``huber``, ``absolute`` and ``count`` map a term to a float; ``add`` joins the sums of two batches.
    """

    huber: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    absolute: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TERMS, 0))

    def add(self, other: "ErrorSums") -> None:
        """Take in the sums of another batch."""
        for term in TERMS:
            self.huber[term] += other.huber[term]
            self.absolute[term] += other.absolute[term]
            self.count[term] += other.count[term]

    def mean(self, term: str) -> float | None:
        """Mean absolute error of a term, None where nothing is labelled."""
        return self.absolute[term] / self.count[term] if self.count[term] else None

    def loss(self, weights: LossSettings) -> float:
        """The weighted loss over everything that was added; a term without labels counts 0."""
        terms = term_weights(weights)
        return float(sum(terms[term] * self.huber[term] / self.count[term] for term in TERMS if self.count[term]))

    def to_dict(self, weights: LossSettings) -> dict[str, float | None]:
        """Loss and mean absolute errors: meV/atom, meV/Å, GPa, µB; None where nothing is labelled."""
        energy, forces = self.mean("energy"), self.mean("forces")
        return {
            "loss": self.loss(weights),
            "energy_mae": None if energy is None else MEV_PER_EV * energy,
            "forces_mae": None if forces is None else MEV_PER_EV * forces,
            "stress_mae": self.mean("stress"),
            "magmom_mae": self.mean("magmoms"),
        }


def term_weights(weights: LossSettings) -> dict[str, float]:
    """The weight of each term by the name of its label."""
    return {"energy": weights.energy, "forces": weights.force, "stress": weights.stress, "magmoms": weights.magmom}


def objective(
    output,
    targets: Targets,
    n_atoms: Tensor,
    weights: LossSettings,
    reference_shift: Float[Tensor, " elements"] | None = None,
) -> tuple[Tensor, ErrorSums]:
    """Loss of one batch and its error sums.

    Args:
        output: what the network gave: ``energy [S]`` (interaction, eV), ``forces [A, 3]`` (eV/Å), ``stress [S, 3, 3]``
            (eV/Å^3), ``magmoms [A]`` (µB); what was not computed may be None.
        targets: the labels of the batch.
        n_atoms: atoms of each system ``[S]``.
        weights: weights of the terms and the Huber delta.
        reference_shift: trainable change of the references, eV/atom of each element of ``targets.fractions`` ``[K]``.

    Returns:
        The scalar loss, differentiable with respect to the network and the shift, and the detached sums. A term that no
        component of the batch is labelled for adds exactly 0.
    """
    loss = output.energy.new_zeros(())
    sums = ErrorSums()
    scale = term_weights(weights)
    for term, error in _errors(output, targets, n_atoms, reference_shift):
        count = targets.counts[term]
        if not count:
            continue
        # masked entries become 0 and stay out of the count: 0 * NaN would poison the gradient, torch.where does not
        error = torch.where(targets.masks[term], error, torch.zeros_like(error))
        huber = huber_loss(error, torch.zeros_like(error), reduction="sum", delta=weights.huber_delta)
        if scale[term]:
            loss = loss + scale[term] * huber / count
        sums.huber[term] = float(huber.detach())
        sums.absolute[term] = float(error.detach().abs().sum())
        sums.count[term] = count
    return loss, sums


def _errors(output, targets: Targets, n_atoms: Tensor, shift: Tensor | None) -> Iterator[tuple[str, Tensor]]:
    """Predicted minus wanted for each term that was computed."""
    energy = output.energy / n_atoms
    if shift is not None and targets.fractions is not None:
        energy = energy + targets.fractions.to(shift.dtype) @ shift
    yield "energy", energy - targets.energy
    if output.forces is not None:
        yield "forces", output.forces - targets.forces
    if output.stress is not None:
        yield "stress", ev_a3_to_gpa(output.stress) - targets.stress
    if output.magmoms is not None:
        yield "magmoms", output.magmoms.abs() - targets.magmoms
