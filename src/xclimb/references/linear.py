"""Linear models of composition: least squares and Huber fits on element fractions, with material-level uncertainty.

The numerics behind the reference fits and the per-element part of :mod:`xclimb.comparison.shift`. Everything works on
NumPy arrays. Frames of one material share one row of fractions, so a fit costs as much as there are materials.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xclimb.data.frames import Frames

HUBER_TUNING = 1.345  # 95 % efficiency on normal errors (Huber, Robust Statistics, 1981)
_MAD_TO_SIGMA = 1.4826
_RANK_TOLERANCE = 1e-10
_NULL_TOLERANCE = 1e-6
_LEVERAGE_LIMIT = 1e-8
_SCALE_FLOOR = 1e-7  # eV/atom: exact data have no spread to measure residuals by
_BLOCK = 32768  # rows worked on at a time, so that temporary arrays stay small


@dataclass(frozen=True, eq=False)
class Design:
    """The fractions of a set of frames, equal rows of one material merged.

    Args:
        elements: atomic numbers that occur ``[K]``.
        fractions: composition fractions of each row ``[R, K]``.
        row: the row of each frame ``[N]``.
        material: the material of each row ``[R]``.
    """

    elements: np.ndarray
    fractions: np.ndarray
    row: np.ndarray
    material: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Frames of each row ``[R]``."""
        return np.bincount(self.row, minlength=len(self.fractions)).astype(np.float64)

    @property
    def n_materials(self) -> int:
        """Number of different materials, M."""
        return int(self.material.max()) + 1

    @cached_property
    def determined(self) -> tuple[np.ndarray, np.ndarray]:
        """Directions that the data determine ``[K, rank]``, and (X^T X)^+ of the matrix with a row a frame ``[K, K]``."""
        # the triangle of a QR decomposition has the singular values of the tall matrix
        triangle = np.linalg.qr(np.sqrt(self.counts)[:, None] * self.fractions, mode="r")
        _, singular, rows = np.linalg.svd(triangle, full_matrices=False)
        kept = singular > _RANK_TOLERANCE * singular[0]
        span = rows[kept].T
        return span, (span / singular[kept] ** 2) @ span.T

    @cached_property
    def material_sums(self) -> np.ndarray:
        """Fractions summed over the frames of each material ``[M, K]``."""
        if self.n_materials == len(self.fractions):  # a row a material, in order
            return self.counts[:, None] * self.fractions
        weighted = [np.bincount(self.material, self.counts * column, self.n_materials) for column in self.fractions.T]
        return np.stack(weighted, axis=1)

    def materials_with(self) -> np.ndarray:
        """Number of materials that contain each element ``[K]``."""
        present = np.zeros((self.n_materials, len(self.elements)), dtype=bool)
        np.logical_or.at(present, self.material, self.fractions > 0)
        return present.sum(0)

    def frames_with(self) -> np.ndarray:
        """Number of frames that contain each element ``[K]``."""
        return (self.counts @ (self.fractions > 0)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class FractionFit:
    """A linear model of composition, fitted.

    Args:
        elements: atomic numbers ``[K]``.
        values: fitted energies, eV ``[K]``.
        stds: standard deviations, eV ``[K]``; inf where undetermined, NaN without a degree of freedom.
        undetermined: groups of atomic numbers of which only combinations are determined.
        residuals: target minus fit, eV/atom ``[N]``.
        held_out: the same with the frame's material left out of the fit ``[N]``; NaN where it cannot be spared.
        unshrunk: residuals with the spread that they had before the fit drew its values towards them ``[N]``: the mean of a
            material over sqrt(1 - leverage), so that their mean square is that of the errors; NaN as ``held_out``.
        weights: weight of each frame in the last iteration ``[N]``; 1 for least squares.
        dof: degrees of freedom of the residuals, in materials.
    """

    elements: np.ndarray
    values: np.ndarray
    stds: np.ndarray
    undetermined: tuple[tuple[int, ...], ...]
    residuals: np.ndarray
    held_out: np.ndarray
    unshrunk: np.ndarray
    weights: np.ndarray
    dof: float


def build_design(composition: np.ndarray, material_id: np.ndarray) -> Design:
    """Element counts ``[N, 119]`` and material names ``[N]`` -> :class:`Design`."""
    elements = np.flatnonzero(composition.any(axis=0))
    return _merge_rows(elements, composition[:, elements] / composition.sum(axis=1, keepdims=True), material_id)


def design_of(frames: Frames) -> Design:
    """The :class:`Design` of frames, every one with an atom at least; in blocks, for sets of any size."""
    elements = frames.elements
    place = np.zeros(int(elements[-1]) + 1, dtype=np.int64)
    place[elements] = np.arange(len(elements))
    fractions = np.empty((len(frames), len(elements)))
    for rows in blocks(len(frames)):
        offsets = frames.offsets[rows.start : rows.stop + 1]
        sizes = np.diff(offsets)
        cell = np.repeat(np.arange(len(sizes)) * len(elements), sizes) + place[frames.numbers[offsets[0] : offsets[-1]]]
        counts = np.bincount(cell, minlength=len(sizes) * len(elements)).reshape(len(sizes), -1)
        fractions[rows] = counts / sizes[:, None]
    return _merge_rows(elements, fractions, frames.material_id)


def blocks(n: int) -> Iterator[slice]:
    """Consecutive slices of n rows."""
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))


def _merge_rows(elements: np.ndarray, fractions: np.ndarray, material_id: np.ndarray) -> Design:
    _, first, material = np.unique(material_id, return_index=True, return_inverse=True)
    one_each = len(first) == len(fractions)
    if one_each or all(np.array_equal(fractions[first[material[rows]]], fractions[rows]) for rows in blocks(len(material))):
        return Design(elements, fractions[first], material, np.arange(len(first)))
    # one material at several compositions (vacancies, alloys): a row for each of them
    keyed = np.column_stack([material, fractions])
    rows, row = np.unique(keyed, axis=0, return_inverse=True)
    return Design(elements, rows[:, 1:], row.reshape(-1), rows[:, 0].astype(np.int64))


def fit_fractions(design: Design, target: np.ndarray, robust: bool = False) -> FractionFit:
    """Fit energies per element to energies per atom: ``target = fractions @ values``, no intercept.

    Every frame counts once, as in Huang et al., arXiv 2504.05565. Where fractions are rank deficient the solution of minimum
    norm is taken. Standard deviations come from a model with one error a material, shared by its frames, and one a frame
    (see :func:`_deviations`), since the frames of a material are no independent evidence.

    Args:
        design: fractions of the frames.
        target: eV/atom ``[N]``.
        robust: Huber's loss (tuning constant 1.345, scale from the median absolute deviation) in place of squares.
    """
    span, inverse = design.determined
    weights = np.ones(len(target))
    values, residuals = least_squares(design, target)
    errors = residuals
    held_out = unshrunk = np.full(len(target), np.nan)
    if robust:
        values, weights, errors = _huber(design, span, target, values)
        residuals = target - (design.fractions @ values)[design.row]
    else:
        held_out, unshrunk = _leave_material_out(design, inverse, residuals)
    stds, dof = _deviations(design, inverse, errors)
    groups = _undetermined_groups(span)
    for group in groups:
        stds[list(group)] = np.inf
    named = tuple(tuple(int(z) for z in design.elements[list(group)]) for group in groups)
    return FractionFit(design.elements, values, stds, named, residuals, held_out, unshrunk, weights, dof)


def least_squares(design: Design, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies per element, eV ``[K]``, of minimum norm, and the residuals of the target, eV/atom ``[N]``."""
    _, inverse = design.determined
    values, residuals = np.zeros(len(design.elements)), target
    for _ in range(2):  # the second round takes away the rounding of the normal equations
        values = values + inverse @ (design.fractions.T @ np.bincount(design.row, residuals, len(design.fractions)))
        residuals = target - (design.fractions @ values)[design.row]
    return values, residuals


def _weighted_solution(design: Design, span: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted least squares inside the determined directions, minimum norm ``[K]``."""
    size = len(design.fractions)
    total = np.bincount(design.row, weights, size)
    mean = np.bincount(design.row, weights * target, size) / total
    root = np.sqrt(total)
    reduced = design.fractions @ span  # [R, rank]
    return span @ np.linalg.lstsq(root[:, None] * reduced, root * mean, rcond=None)[0]


def _huber(
    design: Design, span: np.ndarray, target: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Huber's M-estimate by iteratively reweighted least squares: values ``[K]``, weights ``[N]``, pseudo-errors ``[N]``.

    The scale is taken once, from least absolute deviations: a scale that follows a least-squares start would be inflated by
    the very outliers it should find. The pseudo-errors psi(r) / mean(psi')
    stand for residuals in the variance (Huber, Robust Statistics, 1981, section 7.6).
    """

    def residual(values: np.ndarray) -> np.ndarray:
        return target - (design.fractions @ values)[design.row]

    def iterate(values: np.ndarray, weight_of, steps: int) -> np.ndarray:
        for _ in range(steps):
            previous, values = values, _weighted_solution(design, span, target, weight_of(residual(values)))
            if np.abs(values - previous).max() < 1e-9 * max(1.0, np.abs(values).max()):
                break
        return values

    floor = max(_SCALE_FLOOR, 1e-3 * float(np.median(np.abs(residual(start)))))
    values = iterate(start, lambda r: 1.0 / np.maximum(np.abs(r), floor), 100)
    scale = _scale(residual(values), span.shape[1])
    cut = HUBER_TUNING * scale
    values = iterate(values, lambda r: cut / np.maximum(np.abs(r), cut), 200)
    final = residual(values)
    inside = np.abs(final) <= cut
    share = max(float(inside.mean()), 1e-3)
    # finite-sample factor of the variance: 1 + rank / N * var(psi') / mean(psi')^2
    factor = 1.0 + span.shape[1] / len(target) * (1.0 - share) / share
    return values, cut / np.maximum(np.abs(final), cut), factor * np.clip(final, -cut, cut) / share


def _scale(residuals: np.ndarray, rank: int) -> float:
    """Spread by the median absolute deviation; the ``rank`` smallest are left out, as the fit made them small."""
    size = np.sort(np.abs(residuals))
    return max(_SCALE_FLOOR, _MAD_TO_SIGMA * float(np.median(size[min(rank, len(size) - 1) :])))


def _deviations(design: Design, inverse: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard deviations of the fitted values ``[K]`` and the degrees of freedom they rest on.

    Model: error of a frame = u(material) + v(frame). The variance of v comes from the spread inside materials, that of u from
    the material means of the residuals with the exact trace of what the fit leaves of it (method of moments). With a frame a
    material, or equally many, this is s^2 (X^T X)^-1 of the material-level least squares.
    """
    material = design.material[design.row]
    frames = np.bincount(material).astype(np.float64)  # [M]
    sums = design.material_sums
    hat = quadratic(sums, inverse) / frames
    gram = inverse @ (sums.T @ (sums / frames[:, None] ** 2)) @ inverse

    def left_by_fit(variances: np.ndarray) -> float:
        """Expected sum of squared material residuals if the material errors have these variances ``[M]``."""
        return float(variances @ (1.0 - 2.0 * hat) + np.sum(gram * spread(variances)))

    def spread(variances: np.ndarray) -> np.ndarray:
        """Variances of the material errors, carried to sums over frames ``[K, K]``."""
        return sum((sums[rows].T @ (variances[rows, None] * sums[rows]) for rows in blocks(len(sums))), np.zeros_like(inverse))

    dof = left_by_fit(np.ones(len(frames)))
    if dof < 0.5:
        return np.full(len(design.elements), np.nan), 0.0
    average = np.bincount(material, errors) / frames
    inside_dof = len(errors) - len(frames)
    inside = float(np.sum((errors - average[material]) ** 2) / inside_dof) if inside_dof else 0.0
    between = max(0.0, (float(average @ average) - inside * left_by_fit(1.0 / frames)) / dof)
    covariance = inverse @ spread(between + inside / frames) @ inverse
    return np.sqrt(np.maximum(np.diag(covariance), 0.0)), dof


def _leave_material_out(design: Design, inverse: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Residuals with the material left out, and unshrunk, each ``[N]``, from the grouped hat matrix, without refitting.

    r_out = (I - H_mm)^-1 r_m for the block of a material; its frames share a row, so the block shrinks to its distinct rows.
    Unshrunk: between that and r_m, their geometric mean, which for a single row is r_m / sqrt(1 - h).
    """
    counts = design.counts
    average = np.bincount(design.row, residuals, len(counts)) / counts
    spared = 1.0 - counts * quadratic(design.fractions, inverse)
    out = np.full(len(counts), np.nan)
    possible = spared > _LEVERAGE_LIMIT
    out[possible] = average[possible] / spared[possible]
    rows_of = np.bincount(design.material)
    for m in np.flatnonzero(rows_of > 1):
        rows = np.flatnonzero(design.material == m)
        fractions = design.fractions[rows]
        block = np.eye(len(rows)) - (fractions @ inverse @ fractions.T) * counts[rows]
        regular = np.linalg.svd(block, compute_uv=False)[-1] > _LEVERAGE_LIMIT
        out[rows] = np.linalg.solve(block, average[rows]) if regular else np.nan
    between = np.sign(out) * np.sqrt(np.maximum(out * average, 0.0))
    inside = residuals - average[design.row]
    return inside + out[design.row], inside + between[design.row]


def quadratic(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """x^T A x of every row x ``[R, K]`` for one matrix A ``[K, K]``: ``[R]``."""
    out = np.empty(len(rows))
    for part in blocks(len(rows)):
        out[part] = np.einsum("rk,rk->r", rows[part] @ matrix, rows[part])
    return out


def _undetermined_groups(span: np.ndarray) -> list[tuple[int, ...]]:
    """Columns that the null space of the fractions mixes, as connected groups of column indices."""
    from scipy.sparse.csgraph import connected_components

    null = np.eye(len(span)) - span @ span.T
    linked = np.abs(null) > _NULL_TOLERANCE
    mixed = np.flatnonzero(np.diag(linked))
    if not len(mixed):
        return []
    _, label = connected_components(linked[np.ix_(mixed, mixed)], directed=False)
    return sorted(tuple(mixed[label == group].tolist()) for group in np.unique(label))
