"""The loss: errors of energy, forces, stress and magnetic moments, each over the labels that exist.

    L = w_E l(e) + w_F l(f) + w_S l(s) + w_M l(m)        l: mean loss over the labelled components, Huber by default

Energies are interaction energies per atom (eV/atom): the references are taken off in float64 before anything is rounded,
so that an energy of -1e5 eV loses nothing. Stress counts in GPa, as in the paper (arXiv 2504.05565); moments as |µB|.

A mean is over all labels of a *step*, however its frames are dealt out to batches and processes: losses are summed, and
divided by the totals of the step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import huber_loss

from xclimb.config import LossSettings
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

TERMS = ("energy", "forces", "stress", "magmoms")
FORCE_STEPS = (100.0, 200.0, 300.0)  # eV/Å: labelled forces from which the conditional Huber loss trusts a label less,
DELTA_FACTORS = (1.0, 0.7, 0.4, 0.1)  # and what becomes of its delta


@dataclass(frozen=True)
class Targets:
    """Targets of a batch; a label that is missing holds 0 and is masked out.

    Args:
        energy: (total energy - references) / atoms, eV/atom ``[S]``.
        forces: eV/Å ``[A, 3]``.
        stress: GPa, tension positive ``[S, 3, 3]``.
        magmoms: size of the magnetic moment, µB ``[A]``.
        masks: one mask a term, True where the label exists, of the shape of the label.
        counts: number of labelled components of each term.
        weights: weight of each frame in the loss, spread over the rows of each term; None where all count alike.
        totals: sum of these weights over the labelled components of each term, ``counts`` where there are none.
        fractions: composition of each system as fractions of the listed elements ``[S, K]``; only where references are trained.
    """

    energy: Float[Tensor, " systems"]
    forces: Float[Tensor, "atoms 3"]
    stress: Float[Tensor, "systems 3 3"]
    magmoms: Float[Tensor, " atoms"]
    masks: dict[str, Tensor]
    counts: dict[str, int]
    totals: dict[str, float]
    weights: dict[str, Tensor] | None = None
    fractions: Float[Tensor, "systems elements"] | None = None


class ErrorSums:
    """Sums over labelled components, to be divided by their counts: means that do not depend on the batching.

    Everything stays in one tensor on the device until somebody asks for a number.

    Args:
        table: rows loss, total weight, absolute error, count; one column a term ``[4, 4]``.
    """

    def __init__(self, table: Float[Tensor, "4 4"] | None = None):
        self.table = torch.zeros(4, len(TERMS), dtype=torch.float64) if table is None else table

    @classmethod
    def empty(cls, device: torch.device) -> "ErrorSums":
        """Zero sums; in float64 where the device has it."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        return cls(torch.zeros(4, len(TERMS), dtype=dtype, device=device))

    def add(self, other: "ErrorSums") -> None:
        """Add the sums of another batch."""
        self.table += other.table.to(self.table)

    def means(self) -> dict[str, float | None]:
        """Mean absolute error of each term, None where nothing is labelled."""
        _, _, absolute, count = self.table.tolist()
        return {term: absolute[k] / count[k] if count[k] else None for k, term in enumerate(TERMS)}

    def loss(self, settings: LossSettings) -> float:
        """The weighted loss over everything that was added; a term without labels counts 0."""
        loss, total, _, _ = self.table.tolist()
        weights = term_weights(settings)
        return float(sum(weights[term] * loss[k] / total[k] for k, term in enumerate(TERMS) if total[k]))

    def to_dict(self, settings: LossSettings) -> dict[str, float | None]:
        """Loss and mean absolute errors: meV/atom, meV/Å, GPa, µB; None where nothing is labelled."""
        mean = self.means()
        energy, forces = mean["energy"], mean["forces"]
        return {
            "loss": self.loss(settings),
            "energy_mae": None if energy is None else MEV_PER_EV * energy,
            "forces_mae": None if forces is None else MEV_PER_EV * forces,
            "stress_mae": mean["stress"],
            "magmom_mae": mean["magmoms"],
        }


def term_weights(settings: LossSettings) -> dict[str, float]:
    """The weight of each term by the name of its label."""
    return {"energy": settings.energy, "forces": settings.force, "stress": settings.stress, "magmoms": settings.magmom}


def objective(
    output,
    targets: Targets,
    n_atoms: Tensor,
    settings: LossSettings,
    reference_shift: Float[Tensor, " elements"] | None = None,
    totals: dict[str, float] | None = None,
) -> tuple[Tensor, ErrorSums]:
    """Loss of one batch and its error sums.

    Args:
        output: what the network gave: ``energy [S]`` (interaction, eV), ``forces [A, 3]`` (eV/Å), ``stress [S, 3, 3]``
            (eV/Å^3), ``magmoms [A]`` (µB); what was not computed may be None.
        targets: the labels of the batch.
        n_atoms: atoms of each system ``[S]``.
        settings: weights of the terms and the form of the loss.
        reference_shift: trainable change of the references, eV/atom of each element of ``targets.fractions`` ``[K]``.
        totals: total weight of the labels of each term in the whole step; None: this batch is the step. The losses of the
            batches of a step add up to the loss of the step.

    Returns:
        The scalar loss, differentiable with respect to the network and the shift, and the detached sums. A term that no
        component of the batch is labelled for adds exactly 0.
    """
    loss = output.energy.new_zeros(())
    sums = ErrorSums.empty(loss.device)
    scale = term_weights(settings)
    totals = totals or targets.totals
    for column, (term, error) in enumerate(_errors(output, targets, n_atoms, reference_shift)):
        if error is None or not targets.counts[term]:
            continue
        # masked entries become 0 and stay out of the count: 0 * NaN would poison the gradient, torch.where does not
        error = torch.where(targets.masks[term], error, torch.zeros_like(error))
        penalty = _penalty(error, settings, targets.forces if term == "forces" else None)
        if targets.weights is not None:
            penalty = penalty * targets.weights[term]
        total = penalty.sum()
        if scale[term] and totals[term]:
            loss = loss + scale[term] * total / totals[term]
        sums.table[0, column] = total.detach()
        sums.table[1, column] = targets.totals[term]
        sums.table[2, column] = error.detach().abs().sum()
        sums.table[3, column] = targets.counts[term]
    return loss, sums


def _penalty(error: Tensor, settings: LossSettings, forces: Float[Tensor, "atoms 3"] | None) -> Tensor:
    """The loss of each component; ``forces`` are the labels where the errors are those of forces."""
    if settings.kind == "mse":
        return error.square()
    if settings.kind == "mae":
        return error.abs()
    if settings.kind == "huber" or forces is None:
        return huber_loss(error, torch.zeros_like(error), reduction="none", delta=settings.huber_delta)
    steps, factors = forces.new_tensor(FORCE_STEPS), forces.new_tensor(DELTA_FACTORS)
    delta = settings.huber_delta * factors[torch.bucketize(forces.norm(dim=1), steps, right=True)][:, None]  # [A, 1]
    size = error.abs()
    return torch.where(size <= delta, 0.5 * size.square(), delta * (size - 0.5 * delta))


def _errors(output, targets: Targets, n_atoms: Tensor, shift: Tensor | None) -> Iterator[tuple[str, Tensor | None]]:
    """Predicted minus target for each term, in the order of TERMS; None for what was not computed."""
    energy = output.energy / n_atoms
    if shift is not None and targets.fractions is not None:
        energy = energy + targets.fractions.to(shift.dtype) @ shift
    yield "energy", energy - targets.energy
    yield "forces", None if output.forces is None else output.forces - targets.forces
    yield "stress", None if output.stress is None else ev_a3_to_gpa(output.stress) - targets.stress
    yield "magmoms", None if output.magmoms is None else output.magmoms.abs() - targets.magmoms
