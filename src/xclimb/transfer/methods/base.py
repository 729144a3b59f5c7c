"""The method of a transfer: initial weights and references, trained parameters, extra loss, and the network it hands over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xclimb.config import MethodSettings

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from xclimb.data.frames import Frames
    from xclimb.models.potential import Potential
    from xclimb.training.adaptation import ParameterGroup
    from xclimb.training.batches import BatchSource

METHODS: dict[str, "Method"] = {}


@dataclass(frozen=True)
class OtherFrames:
    """Frames of other functionals than that of the training frames, by functional.

    Args:
        train: trained on, beside the training frames.
        val: never trained on; errors on them are reported.
    """

    train: Mapping[str, "Frames"] = field(default_factory=dict)
    val: Mapping[str, "Frames"] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A method of transfer; one that trains in another way is a class derived from this one.

    Args:
        name: unique, as users write it.
        summary: one line for help texts, reports and the documentation.
        paper: number in arXiv 2504.05565; None for others.
        settings: class of its settings.
        new_weights: random initial weights instead of the source's: step 0 is not compared with the source.
        references: initial references; ``"source"`` keeps those of the source, others are fitted to the training frames.
        folds: networks of a cross-fitted transfer, where frames are few and no validation frames are given; 1 for none.
        recipe: settings of :class:`xclimb.config.TransferConfig` whose defaults with this method are not the paper's.
    """

    name: str
    summary: str
    paper: int | None = None
    settings: type[MethodSettings] = MethodSettings
    new_weights: bool = False
    references: Literal["source", "informed", "raw", "residual", "robust"] = "residual"
    folds: int = 1
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self, source: "Potential", train: "Frames", settings: MethodSettings, seed: int) -> "Potential":
        """Build the potential of step 0, at the level of theory of the training frames; the source is not changed.

        Args:
            source: pre-trained potential.
            train: training frames; references are fitted to those with an energy.
            settings: of this method.
            seed: of new weights.

        Raises:
            ReferencesError: if the references cannot be fitted.
        """
        from xclimb.models.zoo import fresh
        from xclimb.references import fit_references

        potential = fresh(source, seed) if self.new_weights else source.copy()
        if self.references == "source":
            references = replace(source.references, theory=train.theory)
        else:
            references = fit_references(train[np.isfinite(train.energy)], potential=source, kind=self.references)
        potential = potential.with_references(references, theory=train.theory)
        potential.name = f"{source.name} to {train.theory.functional}, {self.name}"
        return potential

    def adapt(self, network: "Module", settings: MethodSettings) -> "list[ParameterGroup]":
        """Change a network for training, in place, and group the parameters to train; parameters in no group are frozen.

        torch's generator is seeded when this is called. At step 0 the function of the network must be the same as before.

        Args:
            network: the network of step 0.
            settings: of this method.

        Raises:
            ConfigError: if the settings do not fit the network.
        """
        from xclimb.training.adaptation import ParameterGroup

        return [ParameterGroup(list(network.parameters()))]

    def references_rate(self, settings: MethodSettings, learning_rate: float) -> float | None:
        """Give the learning rate of the references; None keeps them fixed.

        Args:
            settings: of this method.
            learning_rate: first learning rate of the network.
        """
        return None

    def other_frames(self, settings: MethodSettings) -> "OtherFrames":
        """Give the frames of other functionals that the settings name; none by default."""
        return OtherFrames()

    def add_frames(self, data: "BatchSource", start: "Potential", settings: MethodSettings) -> "BatchSource":
        """Add frames of other functionals to the training frames; by default there are none.

        Args:
            data: the training frames, with the energies of the references taken off.
            start: the potential of step 0.
            settings: of this method.
        """
        return data

    def make_penalty(
        self, start: "Potential", train: "Frames", settings: MethodSettings, seed: int
    ) -> "Callable[[Module], Tensor | None]":
        """Build the extra loss as a function of the network in training, once, before the first step and when a run goes on.

        By default it is :meth:`penalty`; a method whose penalty depends on the training frames overrides this one. The
        same arguments must give the same function.

        Args:
            start: the potential of step 0.
            train: training frames.
            settings: of this method.
            seed: of what is sampled.
        """
        return lambda network: self.penalty(network, start.model, settings, len(train))

    def penalty(self, network: "Module", start: "Module", settings: MethodSettings, n_train: int) -> "Tensor | None":
        """Compute a scalar that is added to the loss of each step; None adds nothing.

        Args:
            network: the network in training, as :meth:`adapt` left it.
            start: the network of step 0, before :meth:`adapt`.
            settings: of this method.
            n_train: number of training frames, whose mean the loss is.
        """
        return None

    def export(self, network: "Module") -> "Module":
        """Turn a copy of the adapted network into one of the original architecture, with the same function."""
        return network


def register(method: Method) -> Method:
    """Add a method to the registry.

    Raises:
        ValueError: if the name is taken.
    """
    if method.name in METHODS:
        raise ValueError(f"there is a method {method.name!r} already: give the new one another name")
    METHODS[method.name] = method
    return method


def registered(name: str, summary: str, **fields: object) -> Callable[[type[Method]], type[Method]]:
    """Decorate a class derived from :class:`Method`: register one method of it.

    Args:
        name: of the method.
        summary: one line.
        fields: other fields of :class:`Method`.
    """

    def add(cls: type[Method]) -> type[Method]:
        register(cls(name=name, summary=summary, **fields))  # type: ignore[arg-type]
        return cls

    return add
