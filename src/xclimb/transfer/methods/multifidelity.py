"""One network for several functionals, trained on the frames of all of them together (SevenNet-MF, arXiv 2409.07947).

Each functional has a row of task weights in the linear layers, zero at step 0 (:mod:`xclimb.models.multifidelity`), and
elemental references of its own, from the lowest rung up: those of a functional are fitted with a prior around those of the one
below.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_serializer, field_validator

from xclimb.config import MethodSettings
from xclimb.data.theory import check_functional, functional_name, rung
from xclimb.errors import ConfigError, TheoryError
from xclimb.transfer.methods.base import Method, OtherFrames, registered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.nn import Module, Parameter

    from xclimb.data.frames import Frames
    from xclimb.models.multifidelity import Level
    from xclimb.models.potential import Potential
    from xclimb.training.adaptation import ParameterGroup
    from xclimb.training.batches import BatchSource

_IN_MEMORY = "in memory: "


class MultiFidelitySettings(MethodSettings):
    """Settings of the method ``multifidelity``."""

    low: dict[str, Any] = Field(
        default={},
        description="training frames of other functionals, a file, folder or store each (method.low.PBE=low.extxyz), in Python "
        "also frames; none: the source's own labels of the training frames",
    )
    low_val: dict[str, Any] = Field(
        default={}, description="frames of other functionals, given alike, whose errors are reported beside those of the target"
    )
    balance: float = Field(
        default=1.0, gt=0, description="frames of each other functional in an epoch, of the number of training frames"
    )
    strength: float = Field(
        default=0.1,
        ge=0,
        description="pull of the task weights to zero: strength / number of training frames times the sum of their squares",
    )
    targets: list[str] = Field(
        default=["*"],
        min_length=1,
        description="linear layers with task weights, by patterns of their names such as 'readout.*'; they need a bias",
    )

    @field_validator("low", "low_val")
    @classmethod
    def known_functionals(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Functionals by the one spelling of their names."""
        for functional in given:
            check_functional(functional)
        return {functional_name(functional): value for functional, value in given.items()}

    @field_serializer("low", "low_val")
    def described(self, given: dict[str, Any]) -> dict[str, str]:
        """Names of files; of frames, their number and checksum."""
        return {functional: _described(value) for functional, value in given.items()}

    @cached_property
    def frames(self) -> OtherFrames:
        """The frames, read once."""
        return OtherFrames(*({name: _read(value, name) for name, value in one.items()} for one in (self.low, self.low_val)))


@registered(
    "multifidelity",
    "pre-trained weights with task weights for each functional, trained on all of them; informed references each, fixed",
    settings=MultiFidelitySettings,
    references="informed",
)
class MultiFidelityTransfer(Method):
    """Trains all weights, and task weights with a pull to zero."""

    def prepare(  # type: ignore[override]
        self, source: "Potential", train: "Frames", settings: MultiFidelitySettings, seed: int
    ) -> "Potential":
        """Add task weights of zero to the source, and fit the references of each functional."""
        from xclimb.models.multifidelity import with_levels

        others = _levels(source, settings.frames.train)
        names = [level.theory.functional for level in others]
        if train.theory.functional in names or None in names:
            raise ConfigError(
                f"method 'multifidelity' needs a known functional beside {train.theory.functional}, and the source has none: "
                "give frames of one as method.low.PBE=FILE"
            )
        if unknown := settings.low_val.keys() - set(names):
            raise ConfigError(f"method.low_val has {min(unknown)} and method.low has not: give training frames of it too")
        below = [level for level in others if rung(level.theory.functional) <= rung(train.theory.functional)]
        base = source.with_references(below[-1].references, below[-1].theory) if below else source
        potential = super().prepare(base, train, settings, seed)
        return potential.replace(model=with_levels(potential.model, 1 + len(others)), others=others)

    def other_frames(self, settings: MultiFidelitySettings) -> OtherFrames:  # type: ignore[override]
        """Give the frames that the settings name."""
        return settings.frames

    def add_frames(  # type: ignore[override]
        self, data: "BatchSource", start: "Potential", settings: MultiFidelitySettings
    ) -> "BatchSource":
        """Add the frames of the other functionals; where none are named, those of the target with labels of the source."""
        from dataclasses import replace

        import numpy as np

        from xclimb.training.replay import with_others

        if data.mixture is not None:
            raise ConfigError(
                "replay.fraction has no effect with method 'multifidelity', which trains on low frames: leave it out"
            )
        others = []
        for level in start.others:
            name = str(level.theory.functional)
            frames = _materials(settings.frames.train[name] if settings.low else start.at(name).label(data.frames))
            others.append((frames, level.references.energy(frames)))
        mixed = with_others(data, others, settings.balance)
        sizes = [len(data), *(len(frames) for frames, _ in others)]
        return replace(mixed, levels=np.repeat(np.arange(len(sizes)), sizes))

    def adapt(self, network: "Module", settings: MultiFidelitySettings) -> "list[ParameterGroup]":  # type: ignore[override]
        """Group the weights that all functionals share, and the task weights of the matching layers."""
        from xclimb.training.adaptation import ParameterGroup

        return [ParameterGroup([*network.base.parameters(), *_task_weights(network, settings)])]

    def penalty(  # type: ignore[override]
        self, network: "Module", start: "Module", settings: MultiFidelitySettings, n_train: int
    ) -> "Tensor | None":
        """Compute the squares of the task weights."""
        import torch

        if not settings.strength:
            return None
        squares = torch.stack([weights.square().sum() for weights in _task_weights(network, settings)])
        return settings.strength / n_train * squares.sum()


def _levels(source: "Potential", frames: "Mapping[str, Frames]") -> "list[Level]":
    """References and level of theory of each functional below or beside the target, in the order of the ladder."""
    from xclimb.models.multifidelity import Level
    from xclimb.references import fit_references

    if not frames:
        return [Level(source.references, source.theory)]
    levels, below = [], source
    for one in sorted(map(_materials, frames.values()), key=lambda one: rung(one.theory.functional)):
        below = below.with_references(fit_references(one, below, kind="informed"), one.theory)
        levels.append(Level(below.references, below.theory))
    return levels


def _task_weights(network: "Module", settings: MultiFidelitySettings) -> "list[Parameter]":
    from torch import nn

    from xclimb.training.adaptation import matching_layers

    layers = matching_layers(network.base, settings.targets, nn.Linear, "method.targets")
    weights = [one for name in layers if (one := network.task_weights(name)) is not None]
    if not weights:
        raise ConfigError(
            f"method.targets: no layer of {', '.join(settings.targets)} has a bias, which task weights are added to"
        )
    return weights


def _materials(frames: "Frames") -> "Frames":
    from xclimb.data.isolated import is_isolated_atom

    return frames[~is_isolated_atom(frames)]


def _described(value: Any) -> str:
    if hasattr(value, "__fspath__") or isinstance(value, str):
        return str(value)
    from xclimb.data.convert import labelled_frames

    frames = labelled_frames(value, "method.low")
    return f"{_IN_MEMORY}{len(frames)} frames, sha256 {frames.checksum()}"


def _read(value: Any, functional: str) -> "Frames":
    """Frames of a functional out of a file, or as they were given.

    Raises:
        TheoryError: if they are of another functional.
    """
    from xclimb.data.convert import labelled_frames
    from xclimb.ingest.reading import read

    if isinstance(value, str) and value.startswith(_IN_MEMORY):
        raise ConfigError(f"the {functional} frames of this run were given in Python and are in no file: go on with it there")
    if hasattr(value, "__fspath__") or isinstance(value, str):
        return read(value, functional=functional)
    frames = labelled_frames(value, "method.low")
    if frames.theory.functional not in (None, functional):
        raise TheoryError(
            f"method.low has {frames.theory.functional} frames as those of {functional}: name the right functional"
        )
    return frames.with_theory(frames.theory.with_functional(functional))
