"""Sums over pairs from which every number of a shift's energies follows: by frame, material, family, or bootstrap draw."""

from collections.abc import Mapping

import numpy as np

from xclimb.references.linear import FractionFit
from xclimb.units import MEV_PER_EV

Sums = dict[str, np.ndarray]
_FLAT = 1e-12  # a variance below this share of the mean square is rounding


def moments(name: str, u: np.ndarray, v: np.ndarray) -> Sums:
    """Count, first and second moments of two columns ``[P]``."""
    return {
        f"{name}.n": np.ones(len(u)),
        f"{name}.u": u,
        f"{name}.v": v,
        f"{name}.uu": u * u,
        f"{name}.vv": v * v,
        f"{name}.uv": u * v,
    }


def energy_statistics(x: np.ndarray, y: np.ndarray, inner: tuple[np.ndarray, np.ndarray], fit: FractionFit) -> Sums:
    """Statistics of the energies of each pair.

    Args:
        x: low energies, eV/atom ``[P]``.
        y: high energies, eV/atom ``[P]``.
        inner: both without their per-element fits, eV/atom.
        fit: of the shift per element.
    """
    spared = np.isfinite(fit.held_out)
    scatter = np.where(spared, fit.unshrunk, 0.0)
    sums = moments("energy", x - x.mean(), y - y.mean()) | moments("referenced", *inner)
    sums |= moments("rank", ranks(x), ranks(y)) | moments("inner_rank", ranks(inner[0]), ranks(inner[1]))
    sums |= {"left.abs": np.abs(inner[1] - inner[0]), "held.n": spared.astype(np.float64)}
    sums |= {"held.abs": np.where(spared, np.abs(fit.held_out), 0.0)}
    return sums | {"scatter.abs": np.abs(scatter), "scatter.sq": scatter**2}


# -- numbers out of sums --------------------------------------------------------------------------


def measure(sums: Mapping[str, np.ndarray], offset: float) -> Sums:
    """The numbers of a shift's energies out of summed columns of any shape; NaN where there is nothing to divide by.

    Args:
        sums: totals of what :func:`energy_statistics` names.
        offset: difference of the mean energies that :func:`energy_statistics` took off, eV/atom.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n, off = sums["energy.n"], (sums["energy.v"] - sums["energy.u"]) / sums["energy.n"]
        square = (sums["energy.uu"] + sums["energy.vv"] - 2.0 * sums["energy.uv"]) / n
        varied = np.maximum(square - off**2, 0.0)
        left = np.maximum(sums["referenced.uu"] + sums["referenced.vv"] - 2.0 * sums["referenced.uv"], 0.0) / n
        result = {"mean": off + offset, "std": np.sqrt(varied)}
        result |= {"pearson_raw": pearson(sums, "energy"), "pearson_referenced": pearson(sums, "referenced")}
        result |= {"spearman_raw": pearson(sums, "rank"), "spearman_referenced": pearson(sums, "inner_rank")}
        result |= {"left_over_mae": MEV_PER_EV * sums["left.abs"] / n, "left_over_rmse": MEV_PER_EV * np.sqrt(left)}
        result |= {"held_out_mae": MEV_PER_EV * sums["held.abs"] / sums["held.n"]}
        scatter = sums["scatter.sq"] / sums["held.n"]
        result |= {
            "scatter_mae": MEV_PER_EV * sums["scatter.abs"] / sums["held.n"],
            "scatter_rmse": MEV_PER_EV * np.sqrt(scatter),
        }
        return result | {"explained": np.where(varied > 0.0, 1.0 - left / varied, np.nan)}


def pearson(sums: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Pearson correlation out of moments; NaN where there are fewer than two values, or none that vary."""
    n, u, v, uu, vv, uv = (sums[f"{name}.{part}"] for part in ("n", "u", "v", "uu", "vv", "uv"))
    with np.errstate(divide="ignore", invalid="ignore"):
        varied_u, varied_v = uu - u * u / n, vv - v * v / n
        real = (n > 1) & (varied_u > _FLAT * uu) & (varied_v > _FLAT * vv)
        return np.where(real, (uv - u * v / n) / np.sqrt(np.where(real, varied_u * varied_v, 1.0)), np.nan)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks centred on 0 and divided by their number, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return (rankdata(values) - 0.5 * (len(values) + 1)) / max(len(values), 1)
