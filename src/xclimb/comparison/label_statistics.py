"""Sums over pairs of forces, stress, magnetic moments and volumes, and the numbers that follow from them."""

from collections.abc import Mapping

import numpy as np

from xclimb.comparison.paired_statistics import Sums, moments, pearson, ranks
from xclimb.comparison.pairing import Pairs
from xclimb.data.frames import Frames
from xclimb.references.linear import blocks
from xclimb.units import ev_a3_to_gpa

STILL = 0.05  # eV/Å: the direction of a smaller force says little
ANGLE_BINS = 36
RANKED = ("force_norm", "stress", "pressure", "magmom", "volume")
_Values = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # low, high, frame


def label_statistics(pairs: Pairs) -> tuple[Sums, np.ndarray]:
    """Statistics of forces (eV/Å), stress (GPa), magnetic moments (µB) and volumes (Å^3 an atom) of each pair.

    Computed in blocks of frames. Forces and stress count for pairs of the same structure only.

    Returns:
        The sums ``[P]``, and how many atoms have which angle between their two forces, in steps of 5 degrees ``[36]``.
    """
    count, sums, values = len(pairs.low), [], []
    angles = np.zeros(ANGLE_BINS, dtype=np.int64)
    for rows in blocks(count):
        whole = rows.stop - rows.start == count
        low, high = (side if whole else side[rows] for side in (pairs.low, pairs.high))
        same = pairs.same_structure[rows]
        forces, lengths, counted = _forces(low, high, same)
        angles += counted
        sums.append(forces | _stress(low, high, same) | _magmoms(low, high, same) | _volumes(low, high))
        result = {"force_norm": lengths} | _tensors(low, high, same) | _sizes(low, high, same)
        values.append({name: (u, v, rows.start + frame) for name, (u, v, frame) in result.items()})
    joined = {name: np.concatenate([part[name] for part in sums]) for name in sums[0]}
    for name in RANKED:
        u, v, frame = (np.concatenate([part[name][k] for part in values]) for k in range(3))
        joined |= _by_frame(moments(name, u, v) | moments(f"{name}_rank", ranks(u), ranks(v)), frame, count)
    return joined, angles


def _by_frame(columns: Sums, frame: np.ndarray, count: int) -> Sums:
    return {name: np.bincount(frame, values, count).astype(np.float64) for name, values in columns.items()}


def _chosen(low: Frames, high: Frames, same: np.ndarray) -> tuple[Frames, Frames, np.ndarray]:
    """The pairs of the same structure, and the pair that each of their atoms belongs to."""
    rows = np.flatnonzero(same)
    left, right = (low, high) if same.all() else (low[rows], high[rows])
    return left, right, rows[left.system]


def _forces(low: Frames, high: Frames, same: np.ndarray) -> tuple[Sums, tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    left, right, system = _chosen(low, high, same)
    labelled = np.isfinite(left.forces).all(axis=1) & np.isfinite(right.forces).all(axis=1)
    f, g, system = left.forces[labelled], right.forces[labelled], system[labelled]
    by_atom = {
        "n": np.full(len(f), 3.0), "u": f.sum(1), "v": g.sum(1),
        "uu": np.einsum("ai,ai->a", f, f), "vv": np.einsum("ai,ai->a", g, g), "uv": np.einsum("ai,ai->a", f, g),
        "abs_u": np.abs(f).sum(1), "abs_v": np.abs(g).sum(1), "abs_d": np.abs(g - f).sum(1),
    }  # fmt: skip
    norms = np.sqrt(by_atom["uu"]), np.sqrt(by_atom["vv"])
    pulled = (norms[0] > STILL) & (norms[1] > STILL)
    cosine = np.divide(by_atom["uv"], norms[0] * norms[1], out=np.ones(len(f)), where=pulled)
    angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    by_atom |= {"norm_u": norms[0], "norm_v": norms[1], "norm_d": np.linalg.norm(g - f, axis=1)}
    columns = {f"forces.{name}": values for name, values in by_atom.items()}
    columns |= {"angle.n": pulled.astype(np.float64), "angle.sum": np.where(pulled, angle, 0.0)}
    counted, _ = np.histogram(angle[pulled], ANGLE_BINS, (0.0, 180.0))
    return _by_frame(columns, system, len(low)), (*norms, system), counted


def _stressed(low: Frames, high: Frames, same: np.ndarray) -> np.ndarray:
    return same & np.isfinite(low.stress).all(axis=(1, 2)) & np.isfinite(high.stress).all(axis=(1, 2))


def _stress(low: Frames, high: Frames, same: np.ndarray) -> Sums:
    labelled = _stressed(low, high, same)
    change = np.where(labelled[:, None, None], ev_a3_to_gpa(high.stress - low.stress), 0.0)
    pressure = -np.trace(change, axis1=1, axis2=2) / 3.0
    return {
        "stress.abs_d": np.abs(change).sum((1, 2)),
        "pressure.d": pressure,
        "pressure.abs_d": np.abs(pressure),
    }


def _tensors(low: Frames, high: Frames, same: np.ndarray) -> _Values:
    frame = np.flatnonzero(_stressed(low, high, same))
    f, g = (ev_a3_to_gpa(side.stress[frame]) for side in (low, high))
    pressures = (-np.trace(side, axis1=1, axis2=2) / 3.0 for side in (f, g))
    return {"stress": (f.ravel(), g.ravel(), np.repeat(frame, 9)), "pressure": (*pressures, frame)}


def _sizes(low: Frames, high: Frames, same: np.ndarray) -> _Values:
    """Absolute magnetic moments, and volumes per atom."""
    left, right, system = _chosen(low, high, same)
    labelled = np.isfinite(left.magmoms) & np.isfinite(right.magmoms)
    magmoms = np.abs(left.magmoms[labelled]), np.abs(right.magmoms[labelled]), system[labelled]
    before, after = low.volumes / low.n_atoms, high.volumes / high.n_atoms
    solid = np.flatnonzero((before > 0.0) & (after > 0.0))
    return {"magmom": magmoms, "volume": (before[solid], after[solid], solid)}


def _magmoms(low: Frames, high: Frames, same: np.ndarray) -> Sums:
    u, v, system = _sizes(low, high, same)["magmom"]
    return {"magmom.abs_d": np.bincount(system, np.abs(v - u), len(low)).astype(np.float64)}


def _volumes(low: Frames, high: Frames) -> Sums:
    """Relative change of the volume per atom; molecules have none."""
    u, v, frame = _sizes(low, high, np.zeros(len(low), dtype=bool))["volume"]
    return _by_frame({"volume.d": v / u - 1.0, "volume.abs_d": np.abs(v / u - 1.0)}, frame, len(low))


# -- numbers out of sums --------------------------------------------------------------------------


def measure_labels(sums: Mapping[str, np.ndarray]) -> Sums:
    """The numbers of forces, stress, moments and volumes out of summed columns of any shape; NaN where there are none.

    Args:
        sums: totals of what :func:`label_statistics` names.
    """
    components, vectors = sums["forces.n"], sums["forces.n"] / 3.0
    uu, vv, uv = (sums[f"forces.{name}"] for name in ("uu", "vv", "uv"))
    nonzero = (uu > 0.0) & (vv > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = {
            "forces_low": sums["forces.abs_u"] / components,
            "forces_high": sums["forces.abs_v"] / components,
            "forces_mae": sums["forces.abs_d"] / components,
            "force_norm_low": sums["forces.norm_u"] / vectors,
            "force_norm_high": sums["forces.norm_v"] / vectors,
            "force_norm_difference": sums["forces.norm_d"] / vectors,
            "forces_pearson": pearson(sums, "forces"),
            "forces_cosine": np.where(nonzero, uv / np.sqrt(uu * vv), np.nan),
            "forces_slope": np.where(nonzero, uv / uu, np.nan),
            "force_angle": sums["angle.sum"] / sums["angle.n"],
            "stress_mae": sums["stress.abs_d"] / sums["stress.n"],
            "pressure_mae": sums["pressure.abs_d"] / sums["pressure.n"],
            "pressure_mean": sums["pressure.d"] / sums["pressure.n"],
            "magmom_mae": sums["magmom.abs_d"] / sums["magmom.n"],
            "volume_change": sums["volume.d"] / sums["volume.n"],
            "volume_mae": sums["volume.abs_d"] / sums["volume.n"],
        }
    result |= {f"{name}_pearson": pearson(sums, name) for name in RANKED}
    return result | {f"{name}_spearman": pearson(sums, f"{name}_rank") for name in RANKED}
