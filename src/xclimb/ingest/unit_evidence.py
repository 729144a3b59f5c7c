"""Evidence that labels are in another unit, of the other sign, or energies per atom: labels against predictions.

Forces and stress of any two functionals agree to some tens of percent, so a slope of labels on predictions far from one tells
the unit. Energies of two functionals differ by elemental references (Huang et al., arXiv 2504.05565), which are fitted away
before anything is concluded: the residual of the potential is small in the right unit only.
"""

from dataclasses import dataclass

import numpy as np

from xclimb.data.frames import Frames
from xclimb.references.linear import Design, design_of, fit_fractions, least_squares
from xclimb.units import LABEL_UNITS, full_to_voigt

_OWN = {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3"}
_FLOOR = {"forces": 0.05, "stress": 0.003}  # eV/Å, eV/Å^3 (0.5 GPa): below, predictions are noise
_CORRELATED = 0.75  # rank correlation; noise alone flattens a slope to its square
_HONEST = 3.0  # slopes between a third and this need no other unit
_NAMED = 1.6  # a slope within this factor of a unit's has its name
_AGREE = 2.0  # slopes with and without an offset differ by less
_ENTRIES, _FRAMES = 30, 5
_BETTER = 3.0  # times that another unit must leave less of the energies
_SPARE = 10  # frames more than elements
_OFF, _SURE, _FEWEST = 0.5, 5.0, 3  # of a few frames: eV/atom, times that another reading must be nearer, frames
_LONE = 0.1  # eV/atom: a smaller spread hides no wrong energy of a few frames
MANY = 16  # frames from which outliers are searched for by robust statistics
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Suspect:
    """A label that is probably in another unit than the one it was read in.

    Args:
        label: ``"energy"``, ``"forces"`` or ``"stress"``.
        factor: what labels are too large by, -1 for the other sign.
        per_atom: energies per atom, read as total ones.
        evidence: the observation, with its numbers, and what it suggests.
    """

    label: str
    factor: float
    per_atom: bool
    evidence: str


def suspects(frames: Frames, predicted: Frames, interaction: np.ndarray, name: str) -> list[Suspect]:
    """The labels of some frames that cannot be in the unit they were read in.

    Args:
        frames: labelled frames.
        predicted: the same, labelled by a potential.
        interaction: the part of the predicted energies without references, eV ``[S]``.
        name: the potential, for the text.
    """
    suspected = [_of_slope("forces", frames.forces, predicted.forces, frames.system, name)]
    whole = np.where(np.all(frames.pbc, axis=1, keepdims=True), full_to_voigt(frames.stress), np.nan)
    strained = full_to_voigt(predicted.stress)
    if not _moves_alike(whole, strained, np.unique(frames.material_id, return_inverse=True)[1]):
        suspected.append(_of_slope("stress", whole, strained, np.arange(len(frames)), name))
    suspected.append(
        _of_energy(frames, interaction, name) if _enough(frames, interaction) else few(frames, predicted, interaction, name)
    )
    return [one for one in suspected if one is not None]


# -- forces and stress ----------------------------------------------------------------------------------------------------


def _of_slope(label: str, labels: np.ndarray, predictions: np.ndarray, frame: np.ndarray, name: str) -> Suspect | None:
    from scipy.stats import rankdata

    used = np.isfinite(labels) & np.isfinite(predictions) & (np.abs(predictions) > _FLOOR[label])
    frames = len(np.unique(np.broadcast_to(frame[:, None], used.shape)[used]))
    x, y = predictions[used], labels[used]
    if len(x) < _ENTRIES or frames < _FRAMES:
        return None
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:  # nothing to correlate
        return None
    correlation = float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    slope, centred = _slope(x, y), _slope(x - np.median(x), y - np.median(y))
    if not abs(correlation) >= _CORRELATED or not 1 / _AGREE < centred / slope < _AGREE or slope * correlation < 0:
        return None
    if 1 / _HONEST < slope < _HONEST:
        return None
    factor, unit = _named(label, slope)
    evidence = (
        f"{label} are {slope:.3g} times what {name} predicts (rank correlation {correlation:.2f} over {len(x)} components of "
        f"{frames} frames): {unit}"
    )
    return Suspect(label, factor, False, evidence if label == "forces" else evidence.replace("stress are", "stress is", 1))


def _moves_alike(labels: np.ndarray, predictions: np.ndarray, material: np.ndarray) -> bool:
    """Whether stresses change from frame to frame of their materials as predicted, in the unit they were read in.

    In a trajectory at the equilibrium volume of one functional the other sees a constant pressure, many times the label's:
    a slope over all components would then be that of two averages.

    Args:
        labels: in Voigt's order ``[S, 6]``.
        predictions: the same.
        material: number of each frame's material ``[S]``.
    """
    known = np.isfinite(labels) & np.isfinite(predictions)
    counts = np.maximum([np.bincount(material, row) for row in known.T], 1).T  # [M, 6]
    x, y = (
        values - (np.stack([np.bincount(material, row) for row in values.T], axis=1) / counts)[material]
        for values in (np.where(known, predictions, 0.0), np.where(known, labels, 0.0))
    )
    used = known & (np.abs(x) > _FLOOR["stress"])
    return bool(used.sum() >= _ENTRIES and 1 / _HONEST < _slope(x[used], y[used]) < _HONEST)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope through the origin of least absolute deviations: the median of y / x, weighted by abs(x)."""
    moved = x != 0
    ratio, weight = y[moved] / x[moved], np.abs(x[moved])
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(total, 0.5 * total[-1])])


def _named(label: str, slope: float) -> tuple[float, str]:
    """The factor that a slope stands for, and in words."""
    names, size = _factors(label), abs(slope)
    sign = "of the wrong sign" if slope < 0 else ""
    near = min(names, key=lambda factor: abs(np.log(size / factor)))
    if abs(np.log(size / near)) > np.log(_NAMED):
        return slope, " and ".join(word for word in ("in an unknown unit", sign) if word)
    return float(np.copysign(near, slope)), " and ".join(word for word in (names[near], sign) if word)


def _factors(label: str) -> dict[float, str]:
    """Factor that a label is too large by -> its cause in words; none for 1."""
    sizes = {unit: size for unit, size in LABEL_UNITS[label].items() if size != 1.0}
    names = {1.0: ""} | {1.0 / size: f"{unit} read as {_OWN[label]}" for unit, size in sizes.items()}
    if label == "stress":  # some formats have kbar as a rule
        names |= {size: f"{_OWN[label]} read as {unit}" for unit, size in sizes.items() if unit in ("GPa", "kbar")}
        names |= {10.0: "kbar read as GPa", 0.1: "GPa read as kbar"}
    return names


# -- energies -------------------------------------------------------------------------------------------------------------


def _known(frames: Frames, interaction: np.ndarray) -> np.ndarray:
    return np.isfinite(frames.energy) & np.isfinite(interaction) & (frames.n_atoms > 0)


def _enough(frames: Frames, interaction: np.ndarray) -> bool:
    """Whether references can be fitted to the energies by a robust fit."""
    known = _known(frames, interaction)
    return bool(known.sum() >= _SPARE + max(1, len(frames[known].elements)))


def _of_energy(frames: Frames, interaction: np.ndarray, name: str) -> Suspect | None:
    known = _known(frames, interaction)
    some, network = frames[known], interaction[known]
    design, size = design_of(some), some.n_atoms
    left = {  # (factor, per atom) -> residual after references and potential, eV/atom
        (factor, per_atom): _residual_spread(design, (some.energy / factor * (size if per_atom else 1) - network) / size)
        for factor in _factors("energy")
        for per_atom in ((False, True) if (size > 1).any() else (False,))
    }
    best, given = min(left, key=lambda one: left[one]), left[1.0, False]
    nothing = _residual_spread(design, -network / size)  # of labels without information
    if best == (1.0, False) or left[best] * _BETTER > min(given, nothing):
        return None
    factor, per_atom = best
    reading = " and ".join(word for word in (_factors("energy")[factor], "energies per atom given as total" * per_atom) if word)
    evidence = (
        f"energies differ from {name} by {given:.3g} eV/atom once elemental references are fitted, but by {left[best]:.3g} if "
        f"they are taken for {reading} ({len(some)} frames)"
    )
    return Suspect("energy", factor, per_atom, evidence)


def _residual_spread(design: Design, target: np.ndarray) -> float:
    """Robust spread of energies per atom after elemental references, eV/atom; as many residuals as these fit are left out."""
    size = np.sort(np.abs(fit_fractions(design, target, robust=True).residuals))
    return _MAD_TO_SIGMA * float(np.median(size[min(len(design.elements), len(size) - 1) :]))


# -- energies of a few frames ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Few:
    """Energies per atom of a few frames read as given, as energies per atom, or in another unit, against a potential.

    Args:
        readings: (factor, per atom) -> energies, eV/atom ``[S]``.
        network: the part of the predicted energies without references, eV/atom ``[S]``.
        predicted: eV/atom, references of the potential included ``[S]``.
        design: fractions of the frames.
    """

    readings: dict[tuple[float, bool], np.ndarray]
    network: np.ndarray
    predicted: np.ndarray
    design: Design

    @property
    def spare(self) -> int:
        """Frames more than directions of composition."""
        return len(self.network) - self.design.determined[0].shape[1]

    def off(self, reading: tuple[float, bool]) -> float:
        """Median distance from the potential, eV/atom."""
        return float(np.nanmedian(np.abs(self.readings[reading] - self.predicted)))

    def left(self, reading: tuple[float, bool]) -> float:
        """Spread of residuals of free elemental references, eV/atom; NaN where they fit whatever the energies are."""
        residuals = least_squares(self.design, self.readings[reading] - self.network)[1]
        return float(np.sqrt((residuals**2).sum() / self.spare)) if self.spare else float("nan")


def _few(frames: Frames, predicted: Frames, interaction: np.ndarray) -> _Few | None:
    known = _known(frames, interaction)
    if not known.any():
        return None
    some, size = frames[known], frames.n_atoms[known]
    factors = [factor for factor in _factors("energy") if factor <= 1]  # energies of other codes are larger, not smaller
    taken = {(factor, atom): some.energy / factor / (1 if atom else size) for factor in factors for atom in (False, True)}
    return _Few(taken, interaction[known] / size, predicted.energy[known] / size, design_of(some))


def few(frames: Frames, predicted: Frames, interaction: np.ndarray, name: str) -> Suspect | None:
    """Energies of too few frames for a robust fit that are probably energies per atom, or like another unit.

    Two readings are compared: by residuals of free references, where there are more frames than directions of composition
    (energies of one compound in two cells decide already), and by the distance from the potential itself.
    """
    energies, given, per_atom = _few(frames, predicted, interaction), (1.0, False), (1.0, True)
    if energies is None:
        return None
    one = None
    if energies.left(per_atom) * _SURE < energies.left(given) and energies.left(given) > _OFF:
        one, was, now, how = per_atom, energies.left(given), energies.left(per_atom), "once elemental references are fitted"
    elif len(energies.network) >= _FEWEST and energies.off(given) > 2 * _OFF:
        best = min(energies.readings, key=energies.off)
        if energies.off(best) < min(_OFF, energies.off(given) / _SURE):
            one, was, now, how = best, energies.off(given), energies.off(best), "in the median"
    if one is None or one == given:
        return None
    reading = " and ".join(word for word in (_factors("energy")[one[0]], "energies per atom given as total" * one[1]) if word)
    evidence = (
        f"energies differ from {name} by {was:.3g} eV/atom {how}, but by {now:.3g} if they are taken for {reading} "
        f"({len(energies.network)} frames)"
    )
    return Suspect("energy", one[0], one[1], evidence)


def undecided(frames: Frames, predicted: Frames, interaction: np.ndarray, name: str) -> str:
    """A sentence about energies of too few frames to decide whether they are total energies in eV; else empty."""
    energies = None if _enough(frames, interaction) else _few(frames, predicted, interaction)
    if energies is None or few(frames, predicted, interaction, name) is not None:
        return ""
    off, left = energies.off((1.0, False)), energies.left((1.0, False))
    if not off > _OFF or (energies.spare > 1 and left * _BETTER < energies.left((1.0, True))):
        return ""
    count = len(energies.network)
    return (
        f"energies of {count} frame{'' if count == 1 else 's'} are {off:.2g} eV/atom from what {name} says: too few to tell "
        "another level of theory from another unit, or from energies per atom given as total"
    )


def misfit(frames: Frames, interaction: np.ndarray, name: str) -> str:
    """A sentence about the one energy that does not fit the others of a set too small for a search of outliers; else empty.

    Each frame is left out in turn: the others then agree much better with the potential, elemental references fitted.
    """
    some, target = _few_targets(frames, interaction)
    spread, spare = _free_residual(some, target)
    if spare <= _FEWEST or not spread > _LONE:
        return ""
    without = [_free_residual(some[rest], target[rest])[0] for rest in ~np.eye(len(some), dtype=bool)]
    row = int(np.argmin(without))
    if not without[row] * _SURE < spread:
        return ""
    return (
        f"the energy of frame {some.frame_id[row]} does not fit the other {len(some) - 1}: they differ from {name} by "
        f"{without[row]:.2g} eV/atom without it, by {spread:.2g} with it, elemental references fitted; too few to be sure, so "
        "it is kept: is it an energy per atom given as total?"
    )


def incomparable(frames: Frames, interaction: np.ndarray) -> str:
    """A sentence about energies of a set too small for a search of outliers that cannot be compared with each other either."""
    some, target = _few_targets(frames, interaction)
    spread, spare = _free_residual(some, target)
    if len(some) < 2 or spare > _FEWEST or spread <= _LONE:
        return ""
    return f"{len(some)} energies are too few for their compositions to judge each by the others: a wrong one stays unseen"


def _few_targets(frames: Frames, interaction: np.ndarray) -> tuple[Frames, np.ndarray]:
    """Frames with energies and these without the interaction, eV/atom; none where there are enough for robust statistics."""
    known = _known(frames, interaction)
    known &= known.sum() < MANY
    some = frames[known]
    return some, (some.energy - interaction[known]) / some.n_atoms


def _free_residual(frames: Frames, target: np.ndarray) -> tuple[float, int]:
    """Spread of residuals of free elemental references, eV/atom, and the number of frames more than directions."""
    if not len(frames):
        return float("nan"), 0
    design = design_of(frames)
    spare = len(frames) - design.determined[0].shape[1]
    residuals = least_squares(design, target)[1]
    return (float(np.sqrt((residuals**2).sum() / spare)) if spare > 0 else float("nan")), spare
