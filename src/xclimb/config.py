"""Settings of a transfer, its loss and its validation split.

The defaults are the paper's recipe for its Method 4 (arXiv 2504.05565) where that is known, or that of the method of the run.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from xclimb.errors import ConfigError
from xclimb.settings import Settings, merge


class LossSettings(Settings):
    """Weights and form of the masked losses; a weight of 0 leaves a label out."""

    energy: float = Field(default=3.0, ge=0, description="weight of the energy (eV/atom, without references); the paper's 3")
    force: float = Field(default=1.0, ge=0, description="weight of the force components (eV/Å); the paper's 1")
    stress: float = Field(default=0.1, ge=0, description="weight of the stress components (GPa); the paper's 0.1")
    magmom: float = Field(default=1.0, ge=0, description="weight of the magnetic moments (|µB|); the paper's 1")
    kind: Literal["huber", "conditional_huber", "mse", "mae"] = Field(
        default="huber",
        description="form of the loss; the paper's Huber; conditional_huber: huber_delta falls to 0.7, 0.4 and 0.1 of itself "
        "for atoms whose labelled force is above 100, 200 and 300 eV/Å",
    )
    huber_delta: float = Field(
        default=0.1,
        gt=0,
        description="error at which a Huber loss turns from squared to linear, in each label's unit; the paper's 0.1",
    )

    def model_post_init(self, context: Any, /) -> None:
        """A loss of nothing trains nothing."""
        if self.energy == self.force == self.stress == self.magmom == 0:
            raise ConfigError(
                "all loss weights are 0: give at least one of loss.energy, .force, .stress, .magmom a positive weight"
            )
        if self.kind in ("mse", "mae"):
            _refuse(self, ["huber_delta"], "loss.kind", self.kind, "huber", prefix="loss.")
        if self.kind == "conditional_huber" and not self.force:
            raise ConfigError("loss.kind 'conditional_huber' has no effect with loss.force 0: use loss.kind 'huber'")


class ValidationSettings(Settings):
    """Choice of validation frames where none are given."""

    by: Literal["material", "frame"] | None = Field(
        default=None,
        description="material: whole materials; frame: blocks of frames in the order of the data, with gaps between them; "
        "unset: by material, or by frame where materials are too few",
    )
    group: Literal["structure", "ids", "composition", "chemical-system"] = Field(
        default="structure",
        description="frames of one material; structure: of one material id, ids of the same crystal joined; ids, composition, "
        "chemical-system",
    )
    folds: int | None = Field(
        default=None,
        ge=1,
        description="parts of the materials for cross-fitting: a network for each, trained on the others and judged on it, "
        "their weights averaged; 1: one network, judged on a fraction put aside; unset: as the method says (l2sp: 4), up to "
        "1000 frames",
    )
    fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the frames to validate on")
    cover: bool = Field(default=True, description="keep materials with an element of their own for training")
    gap: int | None = Field(
        default=None,
        ge=0,
        description="frames left out between two blocks (by frame only); unset: as many as are correlated, by their energies",
    )

    def model_post_init(self, context: Any, /) -> None:
        """Several parts are all validated on: nothing else is put aside."""
        if self.folds is not None and self.folds > 1:
            _refuse(self, ["by", "fraction", "gap"], "validation.folds", str(self.folds), "1", prefix="validation.")


class ReplaySettings(Settings):
    """Training frames labelled by the source itself."""

    fraction: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the training frames of an epoch that are crystals labelled by the source itself, so that it is "
        "not forgotten; 0: none",
    )
    structures: str | None = Field(
        default=None,
        description="more crystals for replay, a file, folder or store; their labels are not read; unset: no others",
    )

    def model_post_init(self, context: Any, /) -> None:
        """Crystals without a share have no effect."""
        if self.structures is not None and not self.fraction:
            raise ConfigError("replay.structures has no effect with replay.fraction 0: give replay.fraction, such as 0.2")


class MethodSettings(Settings):
    """Settings of a method of transfer; a method with settings of its own has a class derived from this one."""

    name: str = Field(description="name of the method")


def _typed(values: Any) -> Any:
    """The settings of a method in its own class, by the registry, which stands above this module."""
    return import_module("xclimb.transfer.methods").settings_of(values)


class TransferConfig(Settings):
    """All settings of one transfer; the defaults are the recipe of the paper's Method 4, or that of their method."""

    source: str = Field(
        default="chgnet-0.3.0",
        description="zoo name or path of the pre-trained potential, or auto; for scratch: the architecture",
    )
    method: Annotated[SerializeAsAny[MethodSettings], BeforeValidator(_typed)] = Field(
        default="l2sp",
        validate_default=True,
        description="one of xclimb models --methods; its settings: method.NAME, or method={'name': 'lora', 'rank': 8}",
    )
    seed: int = Field(default=0, ge=0, description="of new weights, the order of the frames and the split that val=None makes")

    epochs: int = Field(
        default=50, ge=0, description="passes over the training set; the paper's 50; 0 only exchanges the references"
    )
    early_stopping: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a new best; unset: all epochs, as in the paper"
    )
    optimizer: Literal["adam", "adamw", "schedulefree"] = Field(
        default="adam",
        description="the paper's Adam; adamw: decoupled weight decay; schedulefree: AdamW that averages its own iterates "
        "instead of following a schedule (needs the package schedulefree)",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="first learning rate, after the warm-up; the paper's 1e-3")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled weight decay (adamw and schedulefree)")
    gradient_clip: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient of a step; unset: no limit, as in the paper"
    )
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        default="cosine",
        description="learning rate over the steps; the paper's cosine; plateau: lowered when validation no longer improves",
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="epochs (or a fraction of one) of linear rise to learning_rate; none, as in the paper"
    )
    final_lr_fraction: float = Field(
        default=0.01, ge=0, le=1, description="last learning rate as a fraction of the first (cosine, plateau); the paper's 1 %"
    )
    plateau_factor: float = Field(
        default=0.5, gt=0, lt=1, description="factor on the learning rate at a plateau (plateau only)"
    )
    plateau_patience: int = Field(default=5, ge=1, description="epochs without a new best that are a plateau (plateau only)")
    ema_decay: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay a step of an exponential moving average of the weights, which is then validated and kept; 0.999 "
        "smooths over about 1000 steps; unset: none, as in the paper",
    )

    batch_size: int = Field(
        default=16, ge=1, description="most frames in a batch; small, for small data sets: more steps an epoch"
    )
    batch_atoms: int = Field(
        default=2048, ge=1, description="most atoms in a batch, which bounds memory; a larger crystal is a batch alone"
    )
    batch_bonds: int | None = Field(
        default=None,
        ge=1,
        description="most bonds (edges within the cutoff, each once) in a batch; unset: as batch_atoms allows",
    )
    batch_angles: int | None = Field(
        default=None, ge=1, description="most angles (pairs of short edges) in a batch; unset: as batch_atoms allows"
    )
    accumulate: int = Field(
        default=1, ge=1, description="batches whose gradients make one step: larger steps in the same memory"
    )
    frame_weights: str | None = Field(
        default=None, description="extra column of the frames with a weight for each in the loss; unset: all alike"
    )
    loss: LossSettings = Field(default=LossSettings(), description="weights and form of the loss")
    replay: ReplaySettings = Field(
        default=ReplaySettings(), description="training frames labelled by the source itself; an option of every method"
    )
    validation: ValidationSettings = Field(
        default=ValidationSettings(), description="how validation frames are put aside where none are given"
    )

    device: str = Field(default="cpu", pattern=r"^(cpu|mps|cuda(:\d+)?)$", description="cpu, cuda, cuda:<n> or mps")
    devices: int = Field(
        default=1, ge=1, description="processes on a machine, which share every batch; the numbers stay those of one process"
    )
    nodes: int = Field(default=1, ge=1, description="machines, with as many processes each; started by torchrun or srun")
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="of weights and activations; energies add up in float64"
    )

    precision: Literal["full", "bf16"] = Field(
        default="full",
        description="of the products of matrices in training steps; full: as dtype; bf16: bfloat16, for accelerators, where "
        "activations fill the memory (weights, geometry, readout, sums and all validation stay float32; slower on a CPU)",
    )

    checkpoint_minutes: float = Field(
        default=10.0,
        ge=0,
        description="minutes between saved states to resume from, the most that a crash can cost; 0: each step",
    )
    nonfinite: Literal["stop", "skip"] = Field(
        default="stop",
        description="at a NaN or infinite loss or gradient: stop and name frames; or leave the step out and go on",
    )
    spike_factor: float = Field(
        default=10.0, gt=1, description="a loss so many times the median of the last 64 steps is noted with its frames"
    )
    guard: Literal["each", "sum"] = Field(
        default="each",
        description="weights handed over; each: the best where neither energy, forces, stress nor moments are worse than at "
        "step 0, among epochs and on the line from step 0 to these; sum: the epoch of the lowest validation loss",
    )
    audit_frames: int = Field(
        default=10000, ge=0, description="training frames whose labels are compared with step 0, the worst ten listed; 0: none"
    )
    log_steps: int = Field(default=50, ge=1, description="steps between lines of steps.jsonl")
    loggers: list[Literal["csv", "tensorboard", "wandb"]] = Field(
        default=[], description="where metrics go besides metrics.jsonl; tensorboard and wandb (offline) need their packages"
    )

    @model_validator(mode="before")
    @classmethod
    def upgrade(cls, values: Any) -> Any:
        """Settings as they are spelled now, over the recipe of their method."""
        if not isinstance(values, Mapping):
            return values
        given = respell(values)
        return merge(import_module("xclimb.transfer.methods").recipe_of(given), given)

    def model_post_init(self, context: Any, /) -> None:
        """Settings that have no effect beside the others are refused."""
        if self.schedule == "constant":
            _refuse(self, ["final_lr_fraction"], "schedule", "constant", "cosine")
        if self.schedule != "plateau":
            _refuse(self, ["plateau_factor", "plateau_patience"], "schedule", self.schedule, "plateau")
        if self.optimizer == "adam":
            _refuse(self, ["weight_decay"], "optimizer", "adam", "adamw")
        if self.optimizer == "schedulefree":
            if self.schedule != "constant":
                raise ConfigError("optimizer 'schedulefree' follows no schedule: add schedule='constant'")
            _refuse(self, ["ema_decay"], "optimizer", "schedulefree", "adam")
        if self.dtype == "float64":
            _refuse(self, ["precision"], "dtype", "float64", "float32")
        if self.warmup_epochs > self.epochs:
            raise ConfigError(
                f"warmup_epochs {self.warmup_epochs:g} is longer than the {self.epochs} epochs: shorten it, or train longer"
            )


def respell(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are spelled now: up to version 0.1 the only setting of a method, ``references_lr``, was beside it."""
    given = {name: value for name, value in values.items() if name != "references_lr"}
    rate = values.get("references_lr")
    return given if rate is None else merge(given, {"method": {"references_lr": rate}})


def _refuse(settings: Settings, names: list[str], where: str, value: str, way_out: str, prefix: str = "") -> None:
    """Refuse settings other than their default that have no effect where another setting is what it is."""
    for name in names:
        if getattr(settings, name) != type(settings).model_fields[name].default:
            raise ConfigError(
                f"{prefix}{name} has no effect with {where} {value!r}: leave it out, or use {where.split('.')[-1]} {way_out!r}"
            )
