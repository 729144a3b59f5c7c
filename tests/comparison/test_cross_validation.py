import numpy as np
import pytest

from comparison.planted import ELEMENTS, STEPS, plant
from xclimb.comparison.cross_validation import held_out_errors, quadratic_ridge, z_trend
from xclimb.references.linear import build_design, least_squares


def planted(seed=0, **settings):
    low, high = plant(np.random.default_rng(seed), **settings)
    return build_design(low.composition(), low.material_id), low.energy_per_atom, high.energy_per_atom, low


def test_errors_on_held_out_materials_stand_beside_each_other():
    design, x, y, _ = planted(n_materials=120)
    found = held_out_errors(design, x, y)
    errors = found["errors"]
    assert set(errors) == {"mean", "raw", "residual", "robust", "quadratic"}
    noise = 1e3 * np.sqrt(2 / np.pi) * 0.051
    assert noise * 0.8 < errors["residual"] < 1.4 * noise
    assert errors["mean"] > 10 * errors["residual"]
    assert errors["raw"] > 5 * errors["residual"]  # the low energies, 1 eV/atom of scatter, are not composition
    assert (found["n_materials"], found["n_frames"], found["n_skipped"]) == (120, 360, 0)
    assert held_out_errors(design, x, y) == found


def test_held_out_residual_is_that_of_refits():
    """One material out of many: against a fit without its fold, by hand."""
    design, x, y, low = planted(n_materials=50)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(50)
    fold = np.empty(50, dtype=int)
    fold[drawn] = np.arange(50) % 5
    errors = []
    for f in range(5):
        kept = (fold != f)[design.material[design.row]]
        sub = build_design(low.composition()[kept], low.material_id[kept])
        values, _ = least_squares(sub, (y - x)[kept])
        errors.append((y - x)[~kept] - (design.fractions @ values)[design.row][~kept])
    expected = 1e3 * np.abs(np.concatenate(errors)).mean()
    assert held_out_errors(design, x, y)["errors"]["residual"] == pytest.approx(expected)


def test_wrong_energies_are_left_to_the_robust_fit():
    design, x, y, _ = planted(n_materials=120)
    broken = np.random.default_rng(5).choice(120, 12, replace=False)
    wrong = y + 3.0 * np.isin(design.material[design.row], broken)
    errors = held_out_errors(design, x, wrong)["errors"]
    assert errors["robust"] < 0.9 * errors["residual"]


def test_the_quadratic_control_finds_what_is_quadratic():
    design, x, y, _ = planted(n_materials=150, between=0.01)
    linear = held_out_errors(design, x, y)
    assert linear["quadratic_gain"] < 0.2
    bent = y + 1.5 * (design.fractions[:, 2] * design.fractions[:, 4])[design.row]
    assert held_out_errors(design, x, bent)["quadratic_gain"] > 0.3


def test_ridge_of_noise_predicts_next_to_nothing():
    rng = np.random.default_rng(0)
    fractions = rng.dirichlet(np.ones(5), 80)
    found = quadratic_ridge(fractions, rng.normal(0, 1, 80), fractions[:10])
    assert np.abs(found).max() < 0.7


def test_materials_that_nothing_determines_are_counted():
    _, x, y, low = planted(n_materials=40)
    numbers = low.numbers.copy()
    numbers[:6] = 92  # one frame of pure uranium, of a material of its own
    names = low.material_id.copy()
    names[0] = "alone"
    lone = build_design(low.replace(numbers=numbers).composition(), names)
    found = held_out_errors(lone, x, y)
    assert found["n_skipped"] == 1
    assert found["n_frames"] == len(low) - 1


def test_too_few_materials_are_not_split():
    design, x, y, _ = planted(n_materials=8)
    assert held_out_errors(design, x, y) == {}


def test_trend_with_atomic_number():
    assert z_trend(ELEMENTS, -0.01 * ELEMENTS.astype(float) ** 2, np.ones(6, dtype=bool)) == pytest.approx(-1.0)
    assert np.isnan(z_trend(ELEMENTS, STEPS, np.arange(6) < 2))
