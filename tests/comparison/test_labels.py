"""Numbers of forces, stress, moments and volumes, against NumPy and SciPy on the arrays themselves."""

import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, read_pairs
from xclimb.comparison.label_statistics import STILL
from xclimb.comparison.pairing import pair_frames
from xclimb.comparison.shift import measure_pairs
from xclimb.units import ev_a3_to_gpa

stats = pytest.importorskip("scipy.stats")


def found_of(low, high):
    return measure_pairs(pair_frames(low, high))


def both(name, u, v, found):
    assert getattr(found, f"{name}_pearson") == pytest.approx(np.corrcoef(u, v)[0, 1], abs=1e-9)
    assert getattr(found, f"{name}_spearman") == pytest.approx(stats.spearmanr(u, v).statistic, abs=1e-9)


def test_correlations_are_those_of_scipy():
    low, high = read_pairs(DFT_PAIRS)
    found = found_of(low, high)
    stress = [ev_a3_to_gpa(side.stress) for side in (low, high)]
    pressure = [-np.trace(side, axis1=1, axis2=2) / 3 for side in stress]
    both("force_norm", *(np.linalg.norm(side.forces, axis=1) for side in (low, high)), found)
    both("stress", *(side.ravel() for side in stress), found)
    both("pressure", *pressure, found)
    both("magmom", *(np.abs(side.magmoms) for side in (low, high)), found)
    assert found.stress_mae == pytest.approx(np.abs(stress[1] - stress[0]).mean())
    assert found.pressure_mae == pytest.approx(np.abs(pressure[1] - pressure[0]).mean())
    assert found.pressure_mean == pytest.approx((pressure[1] - pressure[0]).mean())


def test_angles_of_forces():
    low, high = read_pairs(DFT_PAIRS)
    found = found_of(low, high)
    norms = [np.linalg.norm(side.forces, axis=1) for side in (low, high)]
    pulled = (norms[0] > STILL) & (norms[1] > STILL)
    cosine = (low.forces * high.forces).sum(1)[pulled] / (norms[0] * norms[1])[pulled]
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    assert found.force_angle == pytest.approx(angle.mean())
    assert found.force_angles == np.histogram(angle, 36, (0, 180))[0].tolist()
    turned = low.forces @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # a quarter turn about z
    flat = low.replace(forces=low.forces * [1.0, 1.0, 0.0])
    quarter = found_of(flat, high.replace(forces=turned * [1.0, 1.0, 0.0]))
    assert quarter.force_angle == pytest.approx(90.0)
    assert sum(quarter.force_angles) == sum(quarter.force_angles[17:19])


def test_volumes_of_materials_relaxed_separately():
    low, high = read_pairs(DFT_PAIRS)
    scale = 1.0 + 0.02 * np.random.default_rng(0).random(len(high))
    grown = high.replace(
        cells=high.cells * scale[:, None, None], positions=high.positions * scale[high.system][:, None],
    )  # fmt: skip
    found = found_of(low, grown)
    change = scale**3 - 1.0
    assert found.volume_change == pytest.approx(change.mean())
    assert found.volume_mae == pytest.approx(change.mean())
    both("volume", low.volumes / low.n_atoms, grown.volumes / grown.n_atoms, found)
    assert found.n_forces < 385


def test_labels_in_blocks_are_those_in_one(monkeypatch):
    import xclimb.references.linear as linear

    whole = found_of(*read_pairs(DFT_PAIRS))
    monkeypatch.setattr(linear, "_BLOCK", 50)
    parts = found_of(*read_pairs(DFT_PAIRS))
    assert parts.force_angles == whole.force_angles
    for name in ("force_norm_spearman", "stress_spearman", "pressure_mae", "magmom_pearson", "volume_pearson", "forces_slope"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))


def test_no_labels_no_numbers():
    low, high = read_pairs(DFT_PAIRS)
    blank = {"forces": np.full(low.forces.shape, np.nan), "stress": np.full(low.stress.shape, np.nan)}
    found = found_of(low.replace(**blank), high)
    for name in ("force_angle", "force_norm_pearson", "stress_spearman", "pressure_mean"):
        assert np.isnan(getattr(found, name))
    assert sum(found.force_angles) == 0
