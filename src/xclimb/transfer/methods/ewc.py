"""Elastic weight consolidation (EWC, Kirkpatrick et al., arXiv 1612.00796): a pull to the start by Fisher information.

The Fisher information of a weight says how much the predictions of the source change with it. Labels are the source's own:
Gaussian around its energies per atom and force components on the training crystals, so that its diagonal is
``F_i = mean over labels k of (d y_k / d w_i)^2``. No label of the source functional is needed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, registered
from xclimb.transfer.methods.l2sp import squared_distance

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from xclimb.data.frames import Frames
    from xclimb.models.potential import Potential


class EWCSettings(MethodSettings):
    """Settings of the method ``ewc``."""

    strength: float = Field(
        default=0.1,
        ge=0,
        description="pull to the start: strength / number of training frames times the squared distance of the weights, each "
        "weighted by its Fisher information, whose mean is 1",
    )
    fisher_frames: int = Field(default=256, ge=1, description="training crystals for the Fisher information; of more, a sample")


@registered(
    "ewc",
    "pre-trained weights, held near by a penalty weighted with their Fisher information; informed references, fixed",
    settings=EWCSettings,
    references="informed",
)
class EWC(Method):
    """Trains all weights with a penalty on their distance from the start, large where the source is sensitive."""

    def make_penalty(  # type: ignore[override]
        self, start: "Potential", train: "Frames", settings: EWCSettings, seed: int
    ) -> "Callable[[Module], Tensor | None]":
        """Compute the Fisher information and close over it."""
        import numpy as np

        if not settings.strength:
            return lambda network: None
        generator = np.random.default_rng([seed, len(train)])
        sample = np.sort(generator.choice(len(train), min(len(train), settings.fisher_frames), replace=False))
        weights = fisher_information(start, train[sample], seed)
        return lambda network: settings.strength / len(train) * squared_distance(network, start.model, weights)


def fisher_information(potential: "Potential", frames: "Frames", seed: int) -> "dict[str, Tensor]":
    """Diagonal Fisher information of the weights by name; its mean over all weights is 1.

    That of the energies per atom and that of the force components are each divided by their mean and then averaged, so that
    no unit matters. The sum over the force components of a crystal, ``sum_k (d f_k / d w)^2``, is the expectation of
    ``(d (z . f) / d w)^2`` over random signs z (Hutchinson), of which one sample a crystal is taken.

    Args:
        potential: the source.
        frames: crystals; their labels are not read.
        seed: of the signs.
    """
    import copy

    import torch

    from xclimb.graph.batch import build_batch
    from xclimb.models.base import backend_of

    model = copy.deepcopy(potential.model).requires_grad_(True)
    forward, parameters = backend_of(model).forward, list(model.parameters())
    generator = torch.Generator().manual_seed(seed)
    squares = [[torch.zeros_like(parameter) for parameter in parameters] for _ in ("energy", "forces")]
    for s in range(len(frames)):
        batch = build_batch(frames[s : s + 1], potential.graph, dtype=potential.dtype, device=potential.device)
        output = forward(model, batch, True)
        signs = 2.0 * torch.randint(0, 2, (len(batch.numbers), 3), generator=generator) - 1
        energy, forces = output.energy.sum() / len(batch.numbers), (output.forces * signs.to(output.forces)).sum()
        for total, value, kept in zip(squares, (energy, forces), (True, False), strict=True):
            gradients = torch.autograd.grad(value, parameters, retain_graph=kept, allow_unused=True, materialize_grads=True)
            for square, gradient in zip(total, gradients, strict=True):
                square += gradient.square()
    means = [torch.cat([square.flatten() for square in total]).mean() for total in squares]
    names = [name for name, _ in model.named_parameters()]
    halves = [[square / mean.clamp(min=1e-30) / 2 for square in total] for total, mean in zip(squares, means, strict=True)]
    return {name: first + second for name, first, second in zip(names, *halves, strict=True)}
