"""The named strategies of a transfer: which weights and which elemental references it starts from, and what is trained.

| name      | paper | weights     | references                                                     | trained      |
|-----------|-------|-------------|----------------------------------------------------------------|--------------|
| scratch   | 1     | new, random | fitted to the training energies                                | weights      |
| trainable | 2     | pre-trained | the source's                                                   | both         |
| frozen    | 3     | pre-trained | the source's                                                   | weights      |
| refit     | 4     | pre-trained | fitted to the training energies                                | weights      |
| residual  | ours  | pre-trained | fitted to what the pre-trained network leaves of the energies  | weights      |

(arXiv 2504.05565, Methods.) ``refit`` asks for the linear part of the energies, although the pre-trained network already
gives a good share of it; ``residual`` asks only for what is missing, so that step 0 is the best that references can do.
"""

from dataclasses import dataclass, replace

import numpy as np

from xclimb.config import TransferConfig, near_miss
from xclimb.data.frames import Frames
from xclimb.errors import ConfigError
from xclimb.models.potential import Potential
from xclimb.models.zoo import fresh
from xclimb.references import fit_references


@dataclass(frozen=True)
class Method:
    """A strategy: where weights and references come from, and what is trained.

    Args:
        name: as users write it.
        summary: one line for help texts.
        paper: number in the paper's table; None for ours.
        new_weights: start from random weights instead of the source's.
        references: ``"source"`` keeps them, ``"raw"`` and ``"residual"`` are fitted to the training frames.
        trains_references: whether the references are trained with the weights.
        settings: settings that not all methods use, and this one does.
    """

    name: str
    summary: str
    paper: int | None = None
    new_weights: bool = False
    references: str = "source"
    trains_references: bool = False
    settings: frozenset[str] = frozenset()

    def check(self, config: TransferConfig) -> None:
        """Refuse settings that have no effect with this method.

        Raises:
            ConfigError: naming the setting and the methods that use it.
        """
        for setting in sorted(set().union(*(method.settings for method in METHODS.values())) - self.settings):
            if getattr(config, setting) != TransferConfig.model_fields[setting].default:
                users = ", ".join(repr(method.name) for method in METHODS.values() if setting in method.settings)
                raise ConfigError(f"{setting} has no effect with method {self.name!r}: leave it out, or use {users}")

    def start(self, source: Potential, train: Frames, seed: int) -> Potential:
        """The potential at step 0, at the level of theory of the training frames; the source is untouched.

        Raises:
            ReferencesError: if the references cannot be fitted.
        """
        potential = fresh(source, seed) if self.new_weights else source.copy()
        if self.references == "source":
            references = replace(source.references, theory=train.theory)
        else:
            labelled = train[np.isfinite(train.energy)]
            references = fit_references(labelled, potential=source, kind=self.references)
        potential = potential.with_references(references, theory=train.theory)
        potential.name = f"{source.name} to {train.theory.functional}, {self.name}"
        return potential


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "scratch", "new weights, references fitted to the training energies", paper=1, new_weights=True, references="raw"
        ),
        Method(
            "trainable",
            "pre-trained weights, the source's references, both trained",
            paper=2,
            trains_references=True,
            settings=frozenset({"audit_frames", "references_lr"}),
        ),
        Method(
            "frozen", "pre-trained weights, the source's references, which stay", paper=3, settings=frozenset({"audit_frames"})
        ),
        Method(
            "refit",
            "pre-trained weights, references fitted to the training energies",
            paper=4,
            references="raw",
            settings=frozenset({"audit_frames"}),
        ),
        Method(
            "residual",
            "pre-trained weights, references fitted to what the pre-trained network leaves over",
            references="residual",
            settings=frozenset({"audit_frames"}),
        ),
    )
}


def get_method(name: str) -> Method:
    """A method by name.

    Raises:
        ConfigError: on an unknown name, with the nearest and the list.
    """
    if name not in METHODS:
        listed = ", ".join(METHODS)
        hint = near_miss(name, METHODS)
        known = "" if listed in hint else f" (known: {listed})"
        raise ConfigError(f"unknown method {name!r}: {hint}{known}")
    return METHODS[name]
