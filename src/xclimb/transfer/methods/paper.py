"""Methods that differ in initial weights and references: the four of arXiv 2504.05565, and residual references.

``refit`` fits the linear part of the energies, a good share of which the pre-trained network predicts already; ``residual``
fits the difference only, so that step 0 is the best that references can do.
"""

from pydantic import Field

from xclimb.config import MethodSettings
from xclimb.transfer.methods.base import Method, register, registered


class TrainableSettings(MethodSettings):
    """Settings of the method ``trainable``."""

    references_lr: float | None = Field(
        default=None, gt=0, description="learning rate of the references; unset: learning_rate, as in the paper"
    )


register(
    Method(
        "scratch",
        "new random weights; references fitted to the target energies, fixed",
        paper=1,
        new_weights=True,
        references="raw",
    )
)


@registered(
    "trainable",
    "pre-trained weights; references of the source, trained with the weights",
    paper=2,
    settings=TrainableSettings,
    references="source",
)
class TrainableReferences(Method):
    """References trained together with all weights."""

    def references_rate(self, settings: TrainableSettings, learning_rate: float) -> float | None:  # type: ignore[override]
        """Give the learning rate of the references."""
        return settings.references_lr or learning_rate


register(Method("frozen", "pre-trained weights; references of the source, fixed", paper=3, references="source"))
register(Method("refit", "pre-trained weights; references fitted to the target energies, fixed", paper=4, references="raw"))
register(
    Method("residual", "pre-trained weights; references fitted to the residual energies of the pre-trained network, fixed")
)
