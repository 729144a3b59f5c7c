"""Choice of the source of a transfer: pre-trained potentials judged on the user's own frames, materials left out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xclimb.comparison.intervals import paired_difference
from xclimb.data.convert import FramesLike, labelled_frames
from xclimb.data.frames import MAX_Z, Frames
from xclimb.data.isolated import is_isolated_atom
from xclimb.errors import DataError, XclimbError
from xclimb.evaluation.absolute_errors import UNITS, absolute_errors, errors_by_frame, mean_error
from xclimb.models.potential import Potential
from xclimb.models.zoo import load, model_names
from xclimb.references import AtomRef
from xclimb.references.informed import informed_references
from xclimb.references.linear import design_of

AUTO = "auto"  # as the source of a transfer: the best of the zoo by these frames
USUAL = "chgnet-0.3.0"  # kept, where no other is better beyond the intervals
JUDGED = ("energy", "forces", "stress")  # moments of potentials of one zoo hardly differ, and most crystals have none
_FOLDS = 10


@dataclass(frozen=True)
class SourceErrors:
    """Errors of one potential before any training, on materials that its references did not see.

    Args:
        name: of the potential.
        errors: mean absolute error by quantity, in :data:`~xclimb.evaluation.absolute_errors.UNITS`; NaN without labels.
        intervals: 95 % interval of the change of that error from the chosen potential to this one, over materials.
        by_frame: mean absolute error of each frame and the number of components behind it, by quantity.
    """

    name: str
    errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    by_frame: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)

    @property
    def score(self) -> float:
        """Mean logarithm of the errors of :data:`JUDGED`: its differences are ratios, free of units."""
        return float(np.mean([math.log(max(self.errors[name], 1e-12)) for name in JUDGED if math.isfinite(self.errors[name])]))


@dataclass(frozen=True)
class SourceRanking:
    """Potentials, the chosen one first and the others in the order of their scores, with the reason in a sentence.

    Args:
        sources: best first.
        n_materials: materials that were left out, in folds.
        refused: potentials that cannot be used for these frames, each with its reason.
    """

    sources: tuple[SourceErrors, ...]
    n_materials: int
    refused: tuple[str, ...] = ()

    @property
    def chosen(self) -> str:
        """Name of the best potential."""
        return self.sources[0].name

    @property
    def reason(self) -> str:
        """The comparison with the second best, quantity by quantity, with what the intervals support."""
        best = self.sources[0]
        if len(self.sources) == 1:
            return f"source {best.name}: the only one that can be used"
        second, parts = self.sources[1], []
        for name in JUDGED:
            if not math.isfinite(best.errors[name]):
                continue
            low, high = second.intervals[name]
            clear = "" if low > 0 or high < 0 else ", not significant"
            parts.append(f"{name} {best.errors[name]:.3g} against {second.errors[name]:.3g} {UNITS[name]}{clear}")
        return (
            f"source {best.name} rather than {second.name}, by errors before training on {self.n_materials} materials, each "
            f"left out of the fit of its references: {'; '.join(parts)}"
        )

    def __repr__(self) -> str:
        return f"SourceRanking({', '.join(source.name for source in self.sources)}; {self.n_materials} materials)"


def rank_sources(
    frames: FramesLike, sources: Sequence[str | Potential] | None = None, seed: int = 0, device: str = "cpu"
) -> SourceRanking:
    """Pre-trained potentials with informed references, judged on materials left out (ten folds).

    Forces, stress and moments do not depend on references; energies are compared with references fitted to the other folds.
    The order is that of the geometric mean of the errors of energy, forces and stress, relative to each other; but
    :data:`USUAL` stays the first where the 95 % interval of no quantity speaks for another.

    Args:
        frames: labelled frames at the level of theory to transfer to.
        sources: names or potentials; None: all that :func:`xclimb.load` knows by name.
        seed: of the folds.
        device: where predictions are made.

    Raises:
        DataError: if no frame has a label, or no potential can be used for them.
    """
    frames = labelled_frames(frames, "frames")
    frames = frames[~is_isolated_atom(frames)]
    if not len(frames) or not any(frames.has(name) for name in ("energy", "forces", "stress")):
        raise DataError("no labelled frames to judge sources on: give frames with energies, forces or stresses")
    materials = np.unique(frames.material_id, return_inverse=True)[1]
    judged: list[SourceErrors] = []
    refused: list[str] = []
    for source in sources if sources is not None else list(model_names()):
        name = source.name if isinstance(source, Potential) else source
        try:
            judged.append(_judge(name, load(source, device), frames, materials, seed))
        except XclimbError as error:
            refused.append(f"{name}: {error}")
    if not judged:
        raise DataError(f"no potential can be used for these frames: {'; '.join(refused)}")
    judged.sort(key=lambda one: one.score)
    usual = next((one for one in judged if one.name == USUAL), judged[0])
    if not _is_better(judged[0], usual, materials):  # what chance could have done is no reason to leave the usual one
        judged.sort(key=lambda one: one is not usual)  # stable: the others keep their order
    ranked = tuple(_compared(judged[0], one, materials) for one in judged)
    return SourceRanking(ranked, int(materials.max()) + 1, tuple(refused))


def _is_better(one: SourceErrors, usual: SourceErrors, materials: np.ndarray) -> bool:
    """Whether one of the judged errors is smaller than the usual potential's, beyond the 95 % interval."""
    intervals = _compared(usual, one, materials).intervals
    return any(intervals[name][1] < 0 for name in JUDGED)


def _judge(name: str, potential: Potential, frames: Frames, materials: np.ndarray, seed: int) -> SourceErrors:
    """Errors of a potential whose references are fitted without the material that is predicted."""
    none = AtomRef.from_table(np.zeros(MAX_Z), np.ones(MAX_Z, dtype=bool))
    predicted = potential.with_references(none).label(frames)  # energies of the network alone: one pass for all labels
    references = _held_out_references(potential, frames, predicted.energy, materials, seed)
    by_frame = errors_by_frame(absolute_errors(predicted.replace(energy=predicted.energy + references), frames), frames)
    return SourceErrors(name, {quantity: mean_error(*each) for quantity, each in by_frame.items()}, {}, by_frame)


def _held_out_references(
    potential: Potential, frames: Frames, interaction: np.ndarray, materials: np.ndarray, seed: int
) -> np.ndarray:
    """Sum of informed references of each frame, eV ``[S]``, fitted to the other folds of materials."""
    labelled = np.isfinite(frames.energy)
    base = _sum_over_atoms(np.nan_to_num(potential.references.values), frames)  # [S]; elements without data: 0, as in the fit
    target = (frames.energy - interaction - base) / frames.n_atoms  # [S]
    count = int(materials.max()) + 1
    fold = np.random.default_rng(seed).permutation(count)[materials] % min(_FOLDS, count)  # [S]
    total = np.full(len(frames), np.nan)
    for number in np.unique(fold):
        held, rest = fold == number, np.flatnonzero((fold != number) & labelled)
        if not len(rest):
            continue
        references = informed_references(design_of(frames[rest]), target[rest], potential.references, frames.theory)
        total[held] = _sum_over_atoms(references.values, frames)[held]
    return total


def _sum_over_atoms(values: np.ndarray, frames: Frames) -> np.ndarray:
    """Sum of values by atomic number over the atoms of each frame ``[S]``; NaN where one is not known."""
    return np.bincount(frames.system, values[frames.numbers], len(frames))


def _compared(best: SourceErrors, other: SourceErrors, materials: np.ndarray) -> SourceErrors:
    """The errors of a potential with the intervals of their difference to the best one's."""
    intervals = {
        name: paired_difference(best.by_frame[name][0], values, counts.astype(float), materials)
        if other is not best
        else (0.0, 0.0)
        for name, (values, counts) in other.by_frame.items()
    }
    return SourceErrors(other.name, other.errors, intervals, other.by_frame)
