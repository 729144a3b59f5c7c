"""Points between potentials of one architecture in the space of weights and references."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from xclimb.models.potential import Potential
from xclimb.references import AtomRef


def interpolate(start: Potential, end: Potential, share: float) -> Potential:
    """The potential on the straight line between two of one architecture: weights and references."""
    if share == 1.0:
        return end
    origin = start.model.state_dict()
    line = {
        name: origin[name] + share * (value - origin[name]) if value.is_floating_point() else value
        for name, value in end.model.state_dict().items()
    }
    values = start.references.values + share * (end.references.values - start.references.values)
    return _with_weights(end, line, replace(end.references, values=values))


def average(potentials: Sequence[Potential], references: AtomRef | None = None) -> Potential:
    """The potential whose weights are the means of those of others of one architecture and one origin.

    Args:
        potentials: at least one.
        references: of the average; None for the mean of theirs.
    """
    first, states = potentials[0], [potential.model.state_dict() for potential in potentials]
    means = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    if references is None:
        values = np.mean([potential.references.values for potential in potentials], axis=0)
        references = replace(first.references, values=values)
    return _with_weights(first, means, references)


def _with_weights(potential: Potential, state: dict[str, Tensor], references: AtomRef) -> Potential:
    model = copy.deepcopy(potential.model)
    model.load_state_dict(state)
    return potential.replace(model=model, references=references)
