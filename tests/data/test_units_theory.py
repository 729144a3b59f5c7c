import numpy as np
import pytest
from ase import units as ase_units
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from xclimb import units
from xclimb.data.theory import LevelOfTheory, check_functional, functional_name, is_known_functional
from xclimb.errors import TheoryError


def test_conversions_agree_with_ase():
    assert units.ev_a3_to_gpa(1.0) == pytest.approx(1.0 / ase_units.GPa, rel=1e-7)
    assert units.gpa_to_ev_a3(units.ev_a3_to_gpa(0.3)) == pytest.approx(0.3, rel=1e-15)
    # VASP prints compression as positive kbar: 10 kbar of it are -1 GPa of stress
    assert units.vasp_kbar_to_ev_a3([10.0])[0] == pytest.approx(-ase_units.GPa, rel=1e-7)


def test_voigt_order_is_ases():
    voigt = np.arange(1.0, 7.0)
    np.testing.assert_array_equal(units.voigt_to_full(voigt), voigt_6_to_full_3x3_stress(voigt))
    full = np.random.default_rng(0).normal(size=(4, 3, 3))
    np.testing.assert_allclose(units.full_to_voigt(full)[0], full_3x3_to_voigt_6_stress(full[0]))
    np.testing.assert_array_equal(units.full_to_voigt(units.voigt_to_full(voigt)), voigt)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("R2SCAN", "r2SCAN"), (" pbe ", "PBE"), ("hse", "HSE06"), ("GGA_GGA+U", "GGA/GGA+U"), ("mine", "mine")],
)
def test_one_spelling_of_a_functional(spelling, name):
    assert functional_name(spelling) == name
    assert LevelOfTheory(spelling).functional == name
    assert is_known_functional(spelling) == (name != "mine")


@pytest.mark.parametrize("name", ["R2SCAN", "gga/gga+u", "PBE-D3(BJ)", "SCAN+rVV10", "beef-vdw", "other:mine"])
def test_functionals_that_a_user_may_name(name):
    check_functional(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("r2scna", "did you mean r2SCAN"), ("PBE-", "did you mean PBE"), ("mine", "usual ones are PBE, .*other:mine")],
)
def test_a_slip_in_a_functional_is_refused(name, hint):
    with pytest.raises(TheoryError, match=hint):
        check_functional(name)


def test_what_may_be_mixed():
    vasp = LevelOfTheory("PBE", code="VASP")
    vasp.require_same(LevelOfTheory("PBE"), "these")  # the other does not say by which code
    with pytest.raises(TheoryError, match=r"these are at different levels of theory \(code: VASP against GPAW\)"):
        vasp.require_same(LevelOfTheory("PBE", code="GPAW"), "these")
    with pytest.raises(TheoryError, match="hubbard_u"):
        vasp.require_same(LevelOfTheory("PBE", {"Fe": 5.3}), "these")
    with pytest.raises(TheoryError, match="functional: PBE against none"):
        vasp.require_same(LevelOfTheory(), "these")


def test_theory_to_dict_and_back():
    theory = LevelOfTheory("PBE+U", {"Fe": 5.3}, "D3(BJ)", code="VASP", corrections="MP2020")
    assert LevelOfTheory.from_dict(theory.to_dict()) == theory
    assert str(theory) == "PBE+U, U(Fe 5.3), D3(BJ), MP2020, VASP"
    with pytest.raises(TheoryError, match=r"unknown level-of-theory field\(s\) \['xc'\]"):
        LevelOfTheory.from_dict({"xc": "PBE"})
