import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from comparison.planted import plant
from xclimb.comparison import advice
from xclimb.comparison.pairing import pair_frames
from xclimb.comparison.shift import ShiftReport, measure_pairs, shift
from xclimb.data.theory import LevelOfTheory


@cache
def base() -> ShiftReport:
    return shift(*plant(np.random.default_rng(0), n_materials=120))


def depth(**errors):
    return {"errors": {"raw": 500.0, "residual": 50.0, "robust": 50.0, "quadratic": 50.0} | errors, "quadratic_gain": 0.0}


def test_advice_is_in_the_report_with_its_numbers():
    found = base()
    assert [one["topic"] for one in found.advice][:2] == ["alignment", "references"]
    assert all(set(one) == {"topic", "sentence", "numbers"} for one in found.advice)
    assert all(one["sentence"].endswith(".") for one in found.advice)
    json.dumps(found.to_dict()["advice"], allow_nan=False)
    assert ShiftReport.from_dict(found.to_dict()).to_dict() == found.to_dict()


@pytest.mark.parametrize("left_over", [1e-9, 1e-15])
def test_a_shift_that_references_describe_exactly_has_no_ratio(left_over):
    advised = advice.alignment(replace(base(), mean=0.85, std=0.0, left_over_mae=left_over))
    assert advised["numbers"]["ratio"] is None
    assert "describe it exactly" in advised["sentence"]
    assert "times less" not in advised["sentence"]


def test_theory():
    assert advice.theory(base()) is None
    found = advice.theory(replace(base(), theory_low=LevelOfTheory("PBE", corrections="MP2020", hubbard_u={"Fe": 5.3})))
    assert "corrections MP2020 against none" in found["sentence"]
    assert set(found["numbers"]) == {"corrections", "hubbard_u"}


@pytest.mark.parametrize(("robust", "kind"), [(50.0, "residual"), (46.0, "residual"), (40.0, "robust")])
def test_references(robust, kind):
    found = advice.references(replace(base(), reference_depth=depth(robust=robust)))
    assert f"pairs {kind} leaves" in found["sentence"]
    assert found["numbers"]["robust"] == robust
    assert ("within a tenth" in found["sentence"]) == (robust == 46.0)
    assert advice.references(replace(base(), reference_depth={})) is None


def test_references_under_a_network():
    found = advice.references(replace(base(), reference_depth=depth(refit=330.0)))
    assert "raw references under the same network leave 330" in found["sentence"]


def test_alignment():
    assert "Align references before any training" in advice.alignment(base())["sentence"]
    small = replace(base(), mean=0.01, std=0.05, left_over_mae=40.0)
    assert "change little" in advice.alignment(small)["sentence"]
    assert advice.alignment(replace(base(), left_over_mae=0.0)) is None


def test_composition():
    enough = advice.composition(replace(base(), reference_depth=depth()))
    assert "are enough" in enough["sentence"]
    bent = replace(base(), reference_depth=depth(quadratic=20.0) | {"quadratic_gain": 0.6})
    assert "20 meV/atom held out, linear references 50" in advice.composition(bent)["sentence"]
    assert "not all that composition can say" in advice.composition(bent)["sentence"]


def test_forces():
    assert "stiffer" in advice.forces(base())["sentence"]  # planted slope 1.1
    assert "Forces agree (" in advice.forces(replace(base(), forces_slope=1.01))["sentence"]
    assert "softer" in advice.forces(replace(base(), forces_slope=0.9))["sentence"]
    assert "poorly" in advice.forces(replace(base(), forces_pearson=0.6))["sentence"]
    assert advice.forces(replace(base(), n_forces=0)) is None


@pytest.mark.parametrize(("r", "words"), [(0.98, "are comparable"), (0.8, "only in part"), (-0.9, "not comparable")])
def test_stress(r, words):
    found = advice.stress(replace(base(), n_stress=100, stress_pearson=r, stress_mae=0.8))
    assert words in found["sentence"]
    assert found["numbers"]["pearson"] == r


def test_pressure_says_what_volumes_will_do():
    shifted = replace(base(), n_stress=100, stress_pearson=0.98, pressure_mean=-2.8, bulk_modulus=140.0, n_bulk=7)
    found = advice.pressure(replace(shifted, intervals={"pressure_mean": (-3.3, -2.2)}))
    assert "-2.80 GPa (95 % -3.30 to -2.20)" in found["sentence"]
    assert "change by -2.0 %" in found["sentence"]  # -2.8 / 140
    assert "median of 7 materials" in found["sentence"]
    assert "systematic" in advice.stress(replace(shifted, intervals={"pressure_mean": (-3.3, -2.2)}))["sentence"]
    typical = advice.pressure(replace(shifted, bulk_modulus=float("nan"), n_bulk=0, intervals={"pressure_mean": (-3.3, -2.2)}))
    assert "100 GPa (a typical value)" in typical["sentence"]
    none = advice.pressure(replace(shifted, intervals={"pressure_mean": (-0.3, 0.2)}))
    assert "No systematic difference" in none["sentence"]
    assert advice.pressure(replace(base(), n_stress=0)) is None


def test_stress_and_moments_that_are_missing():
    assert "cannot be compared" in advice.stress(replace(base(), n_stress=0))["sentence"]
    assert "loss.magmom=0" in advice.magmoms(replace(base(), n_magmoms=0))["sentence"]


def test_magmoms():
    assert "comparable (mean" in advice.magmoms(replace(base(), n_magmoms=50, magmom_mae=0.02))["sentence"]
    assert "do not mix" in advice.magmoms(replace(base(), n_magmoms=50, magmom_mae=1.2))["sentence"]


def test_undetermined():
    assert advice.undetermined(base()) is None
    found = advice.undetermined(replace(base(), undetermined=(("Na", "Cl"),)))
    assert "Na with Cl" in found["sentence"]


def test_elements():
    assert advice.elements(base()) is None
    few = base().element_data | {"Fe": base().element_data["Fe"] | {"materials": 2, "effective_materials": 1.8}}
    ruled = base().element_data | {"Zn": base().element_data["Zn"] | {"largest_share": 0.8}}
    wide = base().element_intervals | {"O": (-2.0, 0.2)}
    assert "Fe (2 materials, ±" in advice.elements(replace(base(), element_data=few))["sentence"]
    assert list(advice.elements(replace(base(), element_data=ruled))["numbers"]["elements"]) == ["Zn"]
    assert "O (" in advice.elements(replace(base(), element_intervals=wide))["sentence"]
    grouped = replace(base(), element_data=few, undetermined=(("H", "Fe"),))
    assert advice.elements(grouped) is None  # said by another rule


def test_amount():
    assert "materials enough" in advice.amount(replace(base(), left_over_rmse=20.0))["sentence"]
    short = advice.amount(replace(base(), n_materials=20, left_over_rmse=100.0))
    spread = 100.0 * np.sqrt(20 / 14)
    assert short["numbers"]["needed"] == np.ceil(6 * (spread / 10.0) ** 2)
    assert short["numbers"]["cost"] == pytest.approx(spread * np.sqrt(6 / 20))
    assert "cannot determine 6 elements" in advice.amount(replace(base(), n_materials=5))["sentence"]


def test_what_the_references_cost_is_true():
    """Against the errors of the fitted values in planted data, drawn many times."""
    costs, told = [], []
    for seed in range(40):
        low, high = plant(np.random.default_rng(seed), n_materials=60, within=0.0)
        found = measure_pairs(pair_frames(low, high))
        noise = found.shift_per_atom - 1e-3 * found.left_over  # the fit
        truth = np.bincount(low.system, np.interp(low.numbers, [1, 3, 8, 17, 26, 30], [-0.1, -0.2, -0.9, -2.1, -6.0, -7.0])) / 6
        costs.append(np.mean((noise - truth) ** 2))
        told.append(advice.amount(found)["numbers"]["cost"])
    assert np.mean(told) == pytest.approx(1e3 * np.sqrt(np.mean(costs)), rel=0.15)


def test_relaxed():
    assert advice.relaxed(base()) is None
    assert "+2.0 %" in advice.relaxed(replace(base(), volume_change=0.02))["sentence"]
