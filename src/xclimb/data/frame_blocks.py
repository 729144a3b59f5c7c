"""Splits of a trajectory: contiguous blocks in the order of the frames, with a gap between them.

Neighbouring frames of a trajectory are nearly the same, so a random split would validate on what was trained on. Here each
material's frames, in the order of the data, are cut into train, validation and test, in this order; the frames of the gap
between two blocks are in no part.
"""

import numpy as np

LEFT_OUT = -1
_LONGEST = 20  # a gap that the data choose is at most one part in so many of the frames


def cut_blocks(
    energies: np.ndarray, group: np.ndarray, shares: tuple[float, float, float], gap: int | None
) -> tuple[np.ndarray, int]:
    """Part of each frame: 0 train, 1 validation, 2 test, -1 in a gap, and the number of frames of the longest series.

    A series too short for a frame in each part is train as a whole; of the longest, each part gets a frame at least. If even
    that is not possible, all frames are train.

    Args:
        energies: energy per atom of each frame, for the gap ``[S]``.
        group: the series that each frame belongs to ``[S]``.
        shares: of train, validation and test.
        gap: frames between two blocks; None: as many as :func:`correlated_frames`.
    """
    part = np.zeros(len(group), dtype=np.int64)
    if not len(group):
        return part, 0
    sizes = np.bincount(group)
    longest = int(sizes.max())
    for series in np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1]):
        between = correlated_frames(energies[series]) if gap is None else gap
        blocks = _block_sizes(len(series), shares, between, len(series) == longest)
        if blocks is not None:
            part[series] = np.repeat([k for k, _ in blocks], [size for _, size in blocks])
    return part, longest


def correlated_frames(energies: np.ndarray) -> int:
    """Number of frames until the autocorrelation of the energy falls below 1/e; from 1 to a twentieth of the frames."""
    most = max(1, len(energies) // _LONGEST)
    centred = energies - np.mean(energies)
    if not np.isfinite(centred).all() or not centred.any():
        return most
    power = np.abs(np.fft.rfft(centred, 2 * len(centred))) ** 2
    correlation = np.fft.irfft(power)[: len(centred)]
    below = np.flatnonzero(correlation < correlation[0] / np.e)
    return int(np.clip(below[0] if len(below) else most, 1, most))


def _block_sizes(n: int, shares: tuple[float, float, float], gap: int, needed: bool) -> list[tuple[int, int]] | None:
    """(part, frames) of each block and gap in turn; None where there are too few frames."""
    wanted = [k for k in range(3) if shares[k] > 0]
    usable = n - gap * (len(wanted) - 1)
    if usable < len(wanted):
        return None
    bounds = np.round(np.cumsum([0.0, *shares]) * usable).astype(np.int64)
    sizes = np.diff(bounds)
    if (sizes[wanted] == 0).any():
        if not needed:
            return None
        sizes[wanted] = np.maximum(sizes[wanted], 1)
        sizes[np.argmax(sizes)] -= sizes.sum() - usable
    blocks: list[tuple[int, int]] = []
    for k in wanted:
        blocks += [(LEFT_OUT, gap)] if blocks else []
        blocks.append((k, int(sizes[k])))
    return blocks
