"""Leverage of each material on each element of a linear model of composition, and jackknife intervals."""

from dataclasses import dataclass

import numpy as np

from xclimb.references.linear import Design, FractionFit, blocks

_TOUCHED = 1e-9
_FEW = 5.0  # effective materials below which a spread measured on them says little


@dataclass(frozen=True, eq=False)
class Influence:
    """Leverage and intervals of the elements of a least-squares fit.

    Args:
        effective: effective number of materials behind each element, (sum g^2)^2 / sum g^4 of the materials' weights g ``[K]``.
        largest_share: share of the most influential material in sum g^2, 0 to 1 ``[K]``.
        largest_material: its index ``[K]``.
        std: standard deviation by leaving out one material after the other (jackknife), eV ``[K]``; NaN where that cannot be.
        low: lower end of the 95 % interval, eV ``[K]``; -inf where undetermined, NaN where no uncertainty can be stated.
        high: upper end ``[K]``.
    """

    effective: np.ndarray
    largest_share: np.ndarray
    largest_material: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


def influence(design: Design, fit: FractionFit) -> Influence:
    """Leverage and 95 % intervals of a least-squares fit, by material.

    Leaving out material m moves the values by -(X^T X)^+ X_m^T r_m, r_m its held-out residuals: the jackknife over materials
    in closed form, valid also where materials differ in noise. Its quantiles are those of Student's t at the effective
    number of materials. Where these are fewer than five, the larger of this and the fit's pooled standard deviation is taken,
    with the quantile of the whole fit: there, materials are assumed to scatter alike.
    """
    _, inverse = design.determined
    material = design.material[design.row]
    count, size = design.n_materials, len(design.elements)
    by_row = np.bincount(design.row, np.nan_to_num(fit.held_out), len(design.fractions))
    stuck = np.bincount(material, np.isnan(fit.held_out), count) > 0
    second, fourth, moved = np.zeros(size), np.zeros(size), np.zeros(size)
    largest, owner, blocked = np.zeros(size), np.zeros(size, dtype=np.int64), np.zeros(size, dtype=bool)
    for part in blocks(count):
        gain = (design.material_sums[part] @ inverse) ** 2  # [m, K]
        second, fourth = second + gain.sum(0), fourth + (gain**2).sum(0)
        peak = gain.argmax(0)
        bigger = gain.max(0) > largest
        owner[bigger], largest = peak[bigger] + part.start, np.maximum(largest, gain.max(0))
        blocked |= (gain[stuck[part]] > _TOUCHED * np.diag(inverse) ** 2).any(0)
    for part in blocks(len(by_row)):
        if len(by_row) == count:
            moved += (((by_row[part, None] * design.fractions[part]) @ inverse) ** 2).sum(0)
    if len(by_row) != count:  # a material at several compositions: its rows move the values together
        pulls = [np.bincount(design.material, by_row * column, count) for column in design.fractions.T]
        moved = ((np.stack(pulls, axis=1) @ inverse) ** 2).sum(0)
    safe = np.where(second > 0.0, second, 1.0)
    effective = np.where(second > 0.0, second**2 / np.where(fourth > 0.0, fourth, 1.0), 0.0)
    std = np.where(blocked, np.nan, np.sqrt(moved * max(count - 1, 0) / count))
    half = _half_width(std, fit, effective)
    return Influence(effective, largest / safe, owner, std, fit.values - half, fit.values + half)


def _half_width(std: np.ndarray, fit: FractionFit, effective: np.ndarray) -> np.ndarray:
    pooled_t = student(np.full(len(std), max(fit.dof, 1.0)))
    own = std * student(np.maximum(effective - 1.0, 1.0))
    few = np.fmax(std, fit.stds) * pooled_t
    half = np.where((effective < _FEW) | np.isnan(own), few, own)
    return np.where(np.isinf(fit.stds), np.inf, half)


def student(dof: np.ndarray | float | int) -> np.ndarray:
    """97.5 % quantiles of Student's t at any degrees of freedom, infinity included."""
    from scipy.special import stdtrit  # here: importing xclimb loads no scipy

    return np.asarray(stdtrit(np.asarray(dof, dtype=np.float64), 0.975))
