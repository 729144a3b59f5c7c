import builtins
import json

import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, read_pairs
from comparison.planted import STEPS, plant
from comparison.test_stability import frames_of
from xclimb.comparison.corrections import inapplicable_reason, mp2020_corrections
from xclimb.comparison.elemental_references import resolve_elemental_references
from xclimb.comparison.importance import element_importance, explain_difference, sampled_shapley
from xclimb.comparison.pairing import pair_frames
from xclimb.comparison.shift import ShiftReport, shift
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory

ELEMENTS = np.array([3, 8, 12, 26, 30])


def mixtures(rng, n: int = 200) -> np.ndarray:
    """Fractions of two or three of five elements."""
    amounts = rng.integers(1, 5, (n, 5)) * (rng.random((n, 5)).argsort(1) < rng.integers(2, 4, (n, 1)))
    return amounts / amounts.sum(1, keepdims=True)


def test_shapley_values_add_up_to_the_prediction():
    rng = np.random.default_rng(0)
    rows, background = mixtures(rng, 12), mixtures(rng, 50)

    def predict(x):
        return np.sin(3 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2 - 2.0 * x[:, 4]

    shares, base = sampled_shapley(predict, rows, background, 7, rng)
    np.testing.assert_allclose(shares.sum(1) + base, predict(rows), atol=1e-12)
    assert (shares[:, 3] == 0.0).all()  # iron is not in the model


def test_shapley_values_of_a_linear_model_are_exact_on_average():
    rng = np.random.default_rng(1)
    weights = np.array([1.0, -2.0, 0.0, 0.5, 3.0])
    rows, background = mixtures(rng, 6), mixtures(rng, 40)
    shares, _ = sampled_shapley(lambda x: x @ weights, rows, background, 4000, rng)
    np.testing.assert_allclose(shares, (rows - background.mean(0)) * weights, atol=0.03)


def test_the_element_that_was_planted_is_found():
    rng = np.random.default_rng(2)
    fractions = mixtures(rng)
    target = 0.4 * fractions[:, 1] * fractions[:, 3] + rng.normal(0, 0.002, len(fractions))  # oxygen with iron
    found = explain_difference(ELEMENTS, fractions, target)
    assert found["held_out_r2"] > 0.8
    for ranking in (found["importance"], found["shapley"]):
        assert set(sorted(ranking, key=ranking.__getitem__)[-2:]) == {"O", "Fe"}
    assert sum(found["importance"].values()) == pytest.approx(1.0)
    assert found["agreement"] > 0.5
    assert found["n_compounds"] == 200
    noise = explain_difference(ELEMENTS, fractions, rng.normal(0, 1.0, len(fractions)))
    assert noise["held_out_r2"] < 0.2


def test_formation_energies_take_end_points_where_there_are_enough():
    low, high = plant(np.random.default_rng(3), n_materials=60, frames_each=1)
    pairs = pair_frames(low, high)
    fitted = element_importance(pairs, resolve_elemental_references(low, high))
    assert fitted["target"] == "difference of energies after least-squares references"
    names = ("H", "Li", "O", "Cl", "Fe", "Zn")
    steps = dict(zip(names, STEPS, strict=True))
    found = element_importance(pairs, resolve_elemental_references(low, high, dict.fromkeys(names, 0.0), steps | {"H": 5.0}))
    assert found["target"] == "difference of formation energies"
    for ranking in ("importance", "shapley"):  # H is 5 eV off, the rest is noise
        shares = found["plain"][ranking]
        assert shares["H"] > 0.5 * sum(shares.values())


def test_corrections_are_those_of_the_scheme():
    def crystal(name: str, functional: str, hubbard_u=None) -> Frames:
        frames = frames_of({name: -1.0})
        positions = 2.5 * np.arange(3 * frames.total_atoms).reshape(-1, 3)
        theory = LevelOfTheory(functional, hubbard_u=hubbard_u or {})
        return frames.replace(positions=positions, cells=frames.cells * 20, theory=theory)

    assert mp2020_corrections(crystal("MgO", "PBE"))[0] == pytest.approx(-0.687 / 2)
    assert mp2020_corrections(crystal("NaCl", "GGA/GGA+U"))[0] == pytest.approx(-0.614 / 2)
    assert mp2020_corrections(crystal("Fe", "GGA/GGA+U"))[0] == 0.0
    assert mp2020_corrections(crystal("FeO", "GGA/GGA+U"))[0] == pytest.approx((-0.687 - 2.256) / 2)
    assert mp2020_corrections(crystal("FeO", "PBE+U", {"Fe": 5.3}))[0] == pytest.approx((-0.687 - 2.256) / 2)
    for wrong in (crystal("FeO", "PBE"), crystal("FeO", "PBE+U", {"Fe": 4.0})):
        assert np.isnan(mp2020_corrections(wrong)[0])


def test_levels_of_theory_without_corrections_say_so():
    assert inapplicable_reason(LevelOfTheory("PBE")) is None
    assert inapplicable_reason(LevelOfTheory("GGA/GGA+U", corrections="MP2020")) is None
    assert "low side is r2SCAN" in inapplicable_reason(LevelOfTheory("r2SCAN"))
    assert "unknown functional" in inapplicable_reason(LevelOfTheory())
    assert "other corrections (pymatgen)" in inapplicable_reason(LevelOfTheory("PBE", corrections="pymatgen"))
    assert "U values are not known" in inapplicable_reason(LevelOfTheory("PBE+U"))


def test_corrections_that_the_energies_contain_are_taken_off():
    low, high = read_pairs(DFT_PAIRS)
    low = low.with_theory(LevelOfTheory("GGA/GGA+U"))
    _, first = np.unique(low.frame_id, return_index=True)
    corrected = low.replace(
        energy=low.energy + low.n_atoms * mp2020_corrections(low),
        theory=LevelOfTheory("GGA/GGA+U", corrections="MP2020"),
    )
    assert len(first) == len(low)
    for mine, theirs in ((low, corrected), (corrected, low)):
        pairs, other = pair_frames(mine, high), pair_frames(theirs, high)
        ends = resolve_elemental_references(mine, high)
        found, again = element_importance(pairs, ends), element_importance(other, ends)
        for name in ("plain", "corrected"):
            assert found[name]["n_compounds"] == 139
            assert found[name]["held_out_mae"] == pytest.approx(again[name]["held_out_mae"], rel=0.02)


def test_what_cannot_be_told_says_why(monkeypatch):
    low, high = plant(np.random.default_rng(4), n_materials=20, frames_each=1)
    few = element_importance(pair_frames(low, high), resolve_elemental_references(low, high))
    assert "needs 30 compounds; the pairs hold 20" in few["absent"]
    low, high = plant(np.random.default_rng(4), n_materials=40, frames_each=1)
    other = element_importance(
        pair_frames(low.with_theory(LevelOfTheory("SCAN")), high), resolve_elemental_references(low, high)
    )
    assert "low side is SCAN" in other["corrected"]["absent"]
    assert other["plain"]["n_compounds"] > 30
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "xclimb[analysis]" in element_importance(pair_frames(low, high), resolve_elemental_references(low, high))["absent"]


def test_importance_is_part_of_a_shift():
    found = shift(*read_pairs(DFT_PAIRS))
    assert found.importance["plain"]["n_compounds"] == 139
    assert found.importance["corrected"]["n_refused"] == 4  # FeO, MnO, NiO, VO2: MP2020 expects +U
    again = ShiftReport.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again.importance == found.importance
