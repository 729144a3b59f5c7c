import json
from functools import cache

import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, TEACHER_PAIRS, read_pairs
from xclimb.comparison.shift import ShiftReport, shift
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import ConfigError, DataError, TheoryError


@cache
def pairs():
    return read_pairs(DFT_PAIRS)


@cache
def report() -> ShiftReport:
    return shift(*pairs())


def test_figures_of_the_dft_pairs():
    found = report()
    assert (found.paired_by, found.n_pairs, found.n_materials) == ("frame_id", 385, 177)
    assert round(found.mean, 3) == -4.117
    assert round(found.std, 3) == 3.327
    assert round(found.pearson_raw, 3) == 0.530
    assert round(found.pearson_referenced, 4) == 0.9957
    assert round(found.left_over_mae, 1) == 37.5
    assert "385 pairs: -4.117 ± 3.327 eV/atom, 37.5 meV/atom left over" in repr(found)
    assert len(repr(found)) < 200
    assert round(found.forces_high, 3) == 0.644  # mean absolute component, r2SCAN
    assert round(found.forces_mae, 4) == 0.0280  # mean absolute difference of components
    assert found.held_out_mae > found.left_over_mae
    assert found.explained > 0.99
    assert (found.n_forces, found.n_stress, found.n_magmoms) == (385, 385, 1097)
    assert len(found.elements) == len(found.element_std) == 59
    assert found.volume_change == 0.0
    assert found.notes == ()


@pytest.mark.skipif(not TEACHER_PAIRS.exists(), reason="the shared data are not here")
def test_figures_of_the_teacher_pairs():
    found = shift(*read_pairs(TEACHER_PAIRS))
    assert (found.n_pairs, found.n_materials) == (10155, 2562)
    assert round(found.mean, 2) == -16.49
    assert round(found.std, 2) == 10.67
    assert found.pearson_raw == pytest.approx(0.2206, abs=5e-5)
    assert round(found.pearson_referenced, 3) == 0.981
    assert round(found.left_over_mae) == 64
    assert round(found.forces_pearson, 3) == 0.978
    assert found.n_magmoms == 0
    assert np.isnan(found.magmom_mae)


def test_the_arrays_belong_together():
    found, (low, high) = report(), pairs()
    np.testing.assert_array_equal(found.frame_id, low.frame_id)
    np.testing.assert_allclose(found.shift_per_atom, high.energy_per_atom - low.energy_per_atom)
    np.testing.assert_allclose(found.shift_per_atom.mean(), found.mean)
    # residuals are linear: what is left of the shift is the difference of what is left on the sides
    np.testing.assert_allclose(found.left_over, 1e3 * (found.high_referenced - found.low_referenced), atol=1e-6)
    worst = int(np.argmax(np.abs(found.left_over)))
    assert found.outliers[0] == {
        "frame_id": low.frame_id[worst],
        "formula": found.formula[worst],
        "left_over": found.left_over[worst],
    }
    sizes = [abs(one["left_over"]) for one in found.outliers]
    assert len(sizes) == 10
    assert sizes == sorted(sizes, reverse=True)


def test_spearman_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    found = report()
    expected = stats.spearmanr(found.low_energy_per_atom, found.high_energy_per_atom).statistic
    assert found.spearman_raw == pytest.approx(expected)
    assert found.spearman_referenced == pytest.approx(stats.spearmanr(found.low_referenced, found.high_referenced).statistic)


def test_a_planted_shift_is_found():
    low, _ = pairs()
    per_element = -0.1 * np.arange(119.0)
    energy = low.energy + low.composition() @ per_element
    found = shift(low, low.replace(energy=energy, forces=2.0 * low.forces).with_theory(LevelOfTheory("r2SCAN")))
    assert found.elements["Fe"] == pytest.approx(-2.6)
    assert found.left_over_mae < 1e-6
    assert found.explained == pytest.approx(1.0)
    assert found.forces_cosine == pytest.approx(1.0)
    assert found.forces_slope == pytest.approx(2.0)
    assert found.forces_mae == pytest.approx(found.forces_low)
    assert found.force_norm_difference == pytest.approx(found.force_norm_low)


def test_pairs_are_found_in_any_order_and_partners_counted():
    low, high = pairs()
    mixed = high[np.random.default_rng(0).permutation(len(high))[:200]]
    found = shift(low, mixed)
    assert found.n_pairs == 200
    assert "185 ids (frame_id) of the first set have no partner." in found.notes
    energies = dict(zip(high.frame_id.tolist(), high.energy_per_atom.tolist(), strict=True))
    np.testing.assert_array_equal(found.high_energy_per_atom, [energies[name] for name in found.frame_id])


def test_by_material_the_most_stable_frame_stands_for_it():
    low, high = pairs()
    cells = high.cells * 1.02
    renamed = high.replace(frame_id=np.char.add("r2scan-", high.frame_id), cells=cells, positions=1.02 * high.positions)
    found = shift(low, renamed)
    assert (found.paired_by, found.n_pairs, found.n_materials) == ("material_id", 177, 177)
    lowest = min(low.energy_per_atom[low.material_id == "Al-fcc"])
    assert found.low_energy_per_atom[found.material_id == "Al-fcc"] == lowest
    assert 0.03 < found.volume_change < 0.09  # 1.02^3, and other strained frames for a few
    assert found.n_forces == 0
    assert np.isnan(found.forces_mae)
    assert any("177 of 177 pairs differ in cell or positions" in note for note in found.notes)


def test_wrapped_positions_are_the_same_structure():
    low, high = pairs()
    moved = high.positions + high.cells[high.system, 0] - 2 * high.cells[high.system, 2]
    assert shift(low, high.replace(positions=moved)).n_forces == 385
    rattled = high.positions.copy()
    rattled[high.offsets[4]] += 0.3
    assert shift(low, high.replace(positions=rattled)).n_forces == 384


def test_ids_that_name_other_compounds_are_not_paired():
    low, high = pairs()
    default = {"frame_id": np.array([f"frame-{s}" for s in range(100)])}
    found = shift(low[:100].replace(**default), high[2:102].replace(**default))
    assert found.n_pairs < 100
    assert any("differ in composition and were left out" in note for note in found.notes)


def test_frames_without_energy_are_told():
    low, high = pairs()
    energy = high.energy.copy()
    energy[:3] = np.nan
    found = shift(low, high.replace(energy=energy))
    assert found.n_pairs == 382
    assert "3 of 385 frames of the second set carry no energy and were left out." in found.notes


def test_json_returns_the_same():
    low, high = pairs()
    for found in (report(), shift(low[:3], high[:3])):
        fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        again = ShiftReport.from_dict(fields)
        assert again.to_dict() == found.to_dict()
        np.testing.assert_array_equal(again.left_over, found.left_over)
        assert again.theory_high == found.theory_high


def test_one_compound_is_said_to_prove_nothing():
    low, high = pairs()
    chosen = low.material_id == "Al2O3-cor"
    found = shift(low[chosen], high[chosen])
    assert found.undetermined == (("O", "Al"),)
    assert found.element_std == {"O": np.inf, "Al": np.inf}
    assert any("proves nothing" in note for note in found.notes)
    assert ShiftReport.from_dict(found.to_dict()).element_std == found.element_std


def test_summary_names_figures_with_units():
    text = "\n".join(report().summary())
    assert "r2SCAN minus PBE, 385 pairs (177 materials) by frame_id" in text
    assert "energy shift -4.117 eV/atom, spread 3.327" in text
    assert "37.5 meV/atom" in text


def test_refusals():
    low, high = pairs()
    with pytest.raises(TheoryError, match="both sets are at PBE"):
        shift(low, high.with_theory(LevelOfTheory("PBE")))
    with pytest.raises(ConfigError, match="choose frame, material or structure"):
        shift(low, high, by="formula")
    with pytest.raises(DataError, match="no ids agree"):
        shift(low[:2], high[-2:])
    with pytest.raises(DataError, match="no ids agree"):
        shift(low[:0], high)
    other = low[-2:].replace(frame_id=high.frame_id[:2])
    with pytest.raises(DataError, match="the 2 pairs differ in composition"):
        shift(other, high[:2])
    shift(low.with_theory(LevelOfTheory()), high.with_theory(LevelOfTheory()))  # unknown levels may be compared
