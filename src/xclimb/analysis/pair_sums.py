"""Sums over pairs from which every number of a shift follows: by frame, by material, by family, or by bootstrap draw."""

from collections.abc import Mapping

import numpy as np

from xclimb.analysis.pairing import Pairs
from xclimb.data.frames import Frames
from xclimb.references.linear import blocks
from xclimb.units import MEV_PER_EV, ev_a3_to_gpa

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


def energy_sums(x: np.ndarray, y: np.ndarray, inner: tuple[np.ndarray, np.ndarray], held_out: np.ndarray) -> Sums:
    """What the energies of each pair add.

    Args:
        x: low energies, eV/atom ``[P]``.
        y: high energies, eV/atom ``[P]``.
        inner: both without their per-element fits, eV/atom.
        held_out: left-over with the material left out of the fit, eV/atom ``[P]``, NaN where it cannot be spared.
    """
    spared = np.isfinite(held_out)
    sums = moments("energy", x - x.mean(), y - y.mean()) | moments("referenced", *inner)
    sums |= moments("rank", ranks(x), ranks(y)) | moments("inner_rank", ranks(inner[0]), ranks(inner[1]))
    sums |= {"left.abs": np.abs(inner[1] - inner[0]), "held.n": spared.astype(np.float64)}
    return sums | {"held.abs": np.where(spared, np.abs(held_out), 0.0)}


def label_sums(pairs: Pairs) -> Sums:
    """What forces (eV/Å), stress (GPa), magnetic moments (µB) and volumes of each pair add ``[P]``; in blocks of frames.

    Forces and stress count for pairs of the same structure only.
    """
    parts = []
    for rows in blocks(len(pairs.low)):
        low, high = (side if rows.stop - rows.start == len(side) else side[rows] for side in (pairs.low, pairs.high))
        same = pairs.same_structure[rows]
        parts.append(_forces(low, high, same) | _stress(low, high, same) | _magmoms(low, high, same) | _volumes(low, high))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _forces(low: Frames, high: Frames, same: np.ndarray) -> Sums:
    system, chosen = low.system, np.flatnonzero(same)
    left, right = (low, high) if same.all() else (low[chosen], high[chosen])
    labelled = np.isfinite(left.forces).all(axis=1) & np.isfinite(right.forces).all(axis=1)
    f, g = left.forces[labelled], right.forces[labelled]
    system = chosen[left.system[labelled]]
    by_atom = {
        "n": np.full(len(f), 3.0), "u": f.sum(1), "v": g.sum(1),
        "uu": np.einsum("ai,ai->a", f, f), "vv": np.einsum("ai,ai->a", g, g), "uv": np.einsum("ai,ai->a", f, g),
        "abs_u": np.abs(f).sum(1), "abs_v": np.abs(g).sum(1), "abs_d": np.abs(g - f).sum(1),
    }  # fmt: skip
    by_atom |= {"norm_u": np.sqrt(by_atom["uu"]), "norm_v": np.sqrt(by_atom["vv"]), "norm_d": np.linalg.norm(g - f, axis=1)}
    return {f"forces.{name}": np.bincount(system, values, len(low)).astype(np.float64) for name, values in by_atom.items()}


def _stress(low: Frames, high: Frames, same: np.ndarray) -> Sums:
    labelled = same & np.isfinite(low.stress).all(axis=(1, 2)) & np.isfinite(high.stress).all(axis=(1, 2))
    f, g = (np.where(labelled[:, None, None], ev_a3_to_gpa(side.stress), 0.0) for side in (low, high))
    sums = {"n": 9.0 * labelled, "u": f.sum((1, 2)), "v": g.sum((1, 2)), "abs_d": np.abs(g - f).sum((1, 2))}
    sums |= {"uu": (f * f).sum((1, 2)), "vv": (g * g).sum((1, 2)), "uv": (f * g).sum((1, 2))}
    return {f"stress.{name}": values for name, values in sums.items()}


def _magmoms(low: Frames, high: Frames, same: np.ndarray) -> Sums:
    chosen = np.flatnonzero(same)
    left, right = (low, high) if same.all() else (low[chosen], high[chosen])
    labelled = np.isfinite(left.magmoms) & np.isfinite(right.magmoms)
    change = np.abs(np.abs(right.magmoms[labelled]) - np.abs(left.magmoms[labelled]))
    system = chosen[left.system[labelled]]
    return {
        "magmom.n": np.bincount(system, minlength=len(low)).astype(np.float64),
        "magmom.abs_d": np.bincount(system, change, len(low)).astype(np.float64),
    }


def _volumes(low: Frames, high: Frames) -> Sums:
    """Relative change of the volume per atom; molecules have none."""
    before, after = low.volumes / low.n_atoms, high.volumes / high.n_atoms
    solid = (before > 0.0) & (after > 0.0)
    ratio = np.divide(after, before, out=np.ones(len(before)), where=solid)
    return {"volume.n": solid.astype(np.float64), "volume.d": np.where(solid, ratio - 1.0, 0.0)}


# -- numbers out of sums --------------------------------------------------------------------------


def measure(sums: Mapping[str, np.ndarray], offset: float) -> Sums:
    """The numbers of a shift out of summed columns of any shape; NaN where there is nothing to divide by.

    Args:
        sums: totals of what :func:`energy_sums` and, where wanted, :func:`label_sums` name.
        offset: difference of the mean energies that :func:`energy_sums` took off, eV/atom.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n, off = sums["energy.n"], (sums["energy.v"] - sums["energy.u"]) / sums["energy.n"]
        square = (sums["energy.uu"] + sums["energy.vv"] - 2.0 * sums["energy.uv"]) / n
        varied = np.maximum(square - off**2, 0.0)
        left = np.maximum(sums["referenced.uu"] + sums["referenced.vv"] - 2.0 * sums["referenced.uv"], 0.0) / n
        found = {"mean": off + offset, "std": np.sqrt(varied)}
        found |= {"pearson_raw": pearson(sums, "energy"), "pearson_referenced": pearson(sums, "referenced")}
        found |= {"spearman_raw": pearson(sums, "rank"), "spearman_referenced": pearson(sums, "inner_rank")}
        found |= {"left_over_mae": MEV_PER_EV * sums["left.abs"] / n, "left_over_rmse": MEV_PER_EV * np.sqrt(left)}
        found |= {"held_out_mae": MEV_PER_EV * sums["held.abs"] / sums["held.n"]}
        found |= {"explained": np.where(varied > 0.0, 1.0 - left / varied, np.nan)}
        return found | (_derivatives(sums) if "forces.n" in sums else {})


def _derivatives(sums: Mapping[str, np.ndarray]) -> Sums:
    components, vectors = sums["forces.n"], sums["forces.n"] / 3.0
    uu, vv, uv = (sums[f"forces.{name}"] for name in ("uu", "vv", "uv"))
    nonzero = (uu > 0.0) & (vv > 0.0)
    return {
        "forces_low": sums["forces.abs_u"] / components,
        "forces_high": sums["forces.abs_v"] / components,
        "forces_mae": sums["forces.abs_d"] / components,
        "force_norm_low": sums["forces.norm_u"] / vectors,
        "force_norm_high": sums["forces.norm_v"] / vectors,
        "force_norm_difference": sums["forces.norm_d"] / vectors,
        "forces_pearson": pearson(sums, "forces"),
        "forces_cosine": np.where(nonzero, uv / np.sqrt(uu * vv), np.nan),
        "forces_slope": np.where(nonzero, uv / uu, np.nan),
        "stress_mae": sums["stress.abs_d"] / sums["stress.n"],
        "stress_pearson": pearson(sums, "stress"),
        "magmom_mae": sums["magmom.abs_d"] / sums["magmom.n"],
        "volume_change": sums["volume.d"] / sums["volume.n"],
    }


def pearson(sums: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Pearson correlation out of moments; NaN where there are fewer than two values, or none that vary."""
    n, u, v, uu, vv, uv = (sums[f"{name}.{part}"] for part in ("n", "u", "v", "uu", "vv", "uv"))
    with np.errstate(divide="ignore", invalid="ignore"):
        varied_u, varied_v = uu - u * u / n, vv - v * v / n
        real = (n > 1) & (varied_u > _FLAT * uu) & (varied_v > _FLAT * vv)
        return np.where(real, (uv - u * v / n) / np.sqrt(np.where(real, varied_u * varied_v, 1.0)), np.nan)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks centred on 0 and divided by their number, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    placed = (np.cumsum(counts) - 0.5 * (counts + 1))[inverse]
    return (placed - placed.mean()) / len(values)
