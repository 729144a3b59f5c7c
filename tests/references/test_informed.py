"""Informed references: planted shifts are found again, with honest uncertainties; wrong energies lose their weight."""

import numpy as np
import pytest
from ase.data import chemical_symbols

from references.planted import FakePotential, frames_of
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import TheoryError
from xclimb.references import AtomRef, fit_references, prior_references
from xclimb.references.prior import N_ELEMENTS, prior_means

SOURCE = LevelOfTheory("GGA/GGA+U", corrections="MP2020", code="VASP")
ELEMENTS = ["H", "Li", "C", "N", "O", "F", "Na", "Mg", "Al", "Si", "S", "Cl", "K", "Ca", "Ti", "Fe", "Zn", "Zr", "Sn", "Ba"]
NOISE = 0.04  # eV/atom


def planted(shift, n: int, seed: int, wrong: float = 0.0):
    """Frames of ``n`` random compounds whose energies exceed a potential's by ``shift`` and noise; the potential; the truth."""
    rng = np.random.default_rng(seed)
    compositions = [
        {symbol: int(rng.integers(1, 4)) for symbol in rng.choice(ELEMENTS, rng.integers(2, 4), replace=False)}
        for _ in range(n)
    ]
    sizes = np.array([sum(c.values()) for c in compositions])
    clean = np.array([sum(shift[symbol] * count for symbol, count in c.items()) for c in compositions])
    errors = NOISE * rng.standard_normal(n)
    errors[rng.choice(n, round(wrong * n), replace=False)] += 3.0
    frames = frames_of(compositions, clean + errors * sizes)
    references = AtomRef.from_energies(dict.fromkeys(chemical_symbols[1 : N_ELEMENTS + 1], 0.0), theory=SOURCE)
    return frames, FakePotential(dict.fromkeys(frames.frame_id.tolist(), 0.0), references, SOURCE), clean / sizes


def smooth_shift(seed: int) -> dict[str, float]:
    """A shift that is no table: a curve in Z with deviations of 0.1 eV."""
    rng = np.random.default_rng(1000 + seed)
    return {s: -0.1 * chemical_symbols.index(s) - 2.0 + 0.1 * rng.standard_normal() for s in ELEMENTS}


def table_shift(seed: int) -> dict[str, float]:
    """The shipped table of elemental crystals with deviations of 0.1 eV."""
    table = next(one for one in prior_means(SOURCE, LevelOfTheory("r2SCAN")) if one.name == "elemental crystals")
    rng = np.random.default_rng(2000 + seed)
    return {s: float(table.values[chemical_symbols.index(s) - 1]) + 0.1 * rng.standard_normal() for s in ELEMENTS}


@pytest.mark.parametrize("shift_of", [smooth_shift, table_shift])
def test_few_compounds_predict_others_with_calibrated_uncertainty(shift_of):
    pulls, informed, residual = [], [], []
    for seed in range(8):
        shift = shift_of(seed)
        frames, potential, _ = planted(shift, 60, seed)
        refs = fit_references(frames[:16], potential, kind="informed")
        rest = frames[16:]
        errors = (rest.energy - refs.energy(rest)) / rest.n_atoms
        pulls.append(errors / np.hypot(refs.energy_std(rest) / rest.n_atoms, refs.posterior.noise))
        informed.append(np.abs(errors).mean())
        plain = fit_references(frames[:16], potential, kind="residual")
        residual.append(np.abs((rest.energy - plain.energy(rest)) / rest.n_atoms).mean())
    assert np.mean(informed) < 0.4 * np.mean(residual)
    assert 0.6 < np.sqrt(np.mean(np.concatenate(pulls) ** 2)) < 1.4


def test_the_level_of_one_material_is_its_elements_not_its_noise():
    """Frames of one composition cannot tell the two apart; a noise of 1 eV/atom is not what functionals leave."""
    frames = frames_of([{"Mg": 4, "O": 4}] * 30, np.full(30, -8 * 0.9)).replace(material_id=np.full(30, "MgO"))
    references = AtomRef.from_energies(dict.fromkeys(chemical_symbols[1 : N_ELEMENTS + 1], 0.0), theory=SOURCE)
    refs = fit_references(frames, FakePotential(dict.fromkeys(frames.frame_id.tolist(), 0.0), references, SOURCE))
    assert np.abs(frames.energy - refs.energy(frames)).max() / 8 < 0.1
    assert refs.posterior.noise < 0.5


def test_evidence_chooses_the_table_that_is_right():
    frames, potential, _ = planted(table_shift(0), 30, seed=0)
    tables = fit_references(frames, potential, kind="informed").posterior.tables
    assert sum(share for name, share in tables.items() if name.startswith("elemental crystals")) > 0.9
    frames, potential, _ = planted({symbol: 0.7 * chemical_symbols.index(symbol) for symbol in ELEMENTS}, 30, seed=0)
    assert fit_references(frames, potential, kind="informed").posterior.tables["no table"] > 0.9


def test_shifts_of_the_users_own_are_one_more_table():
    shift = {symbol: 5.0 * np.sin(chemical_symbols.index(symbol)) for symbol in ELEMENTS}  # nothing smooth
    frames, potential, _ = planted(shift, 12, seed=3)
    refs = fit_references(frames, potential, kind="informed", shifts=AtomRef.from_energies(shift))
    assert refs.posterior.tables["given"] > 0.9
    assert max(abs(refs.energies[symbol] - shift[symbol]) for symbol in ELEMENTS) < 0.2


def test_a_tenth_of_wrong_energies_changes_little():
    shift = smooth_shift(5)
    frames, potential, clean = planted(shift, 120, seed=5, wrong=0.1)
    refs = fit_references(frames, potential, kind="informed")
    errors = np.abs(refs.energy(frames) / frames.n_atoms - clean)
    assert errors.mean() < 0.03
    assert any("count less than a quarter" in note for note in refs.notes)


def test_much_data_overrule_the_prior():
    shift = {symbol: 3.0 * np.cos(chemical_symbols.index(symbol)) for symbol in ELEMENTS}
    frames, potential, _ = planted(shift, 3000, seed=1)
    refs, plain = (fit_references(frames, potential, kind=kind) for kind in ("informed", "residual"))
    assert max(abs(refs.energies[symbol] - plain.energies[symbol]) for symbol in ELEMENTS) < 0.01
    assert all(refs.posterior.prior_share[chemical_symbols.index(symbol)] < 0.01 for symbol in ELEMENTS)


def test_elements_without_data_are_named_with_their_uncertainty():
    frames, potential, _ = planted(smooth_shift(2), 40, seed=2)
    refs = fit_references(frames, potential, kind="informed")
    assert "Pb" in refs.uncovered
    assert "Fe" not in refs.uncovered
    assert refs.std["Pb"] > refs.std["K"] > 0.0
    assert refs.posterior.prior_share[82] > refs.posterior.prior_share[19]
    assert any("Pb" in note for note in refs.notes)


def test_no_frame_at_all_gives_the_prior():
    _, potential, _ = planted(smooth_shift(0), 2, seed=0)
    refs = prior_references(potential, SOURCE, LevelOfTheory("r2SCAN", code="VASP"))
    table = next(one for one in prior_means(SOURCE, LevelOfTheory("r2SCAN")) if one.name == "elemental crystals")
    assert refs.energies["Na"] == pytest.approx(table.values[10], abs=0.5)
    assert len(refs.std) == N_ELEMENTS
    assert not refs.covered.any()
    with pytest.raises(TheoryError, match="is at GGA/GGA"):
        prior_references(potential, LevelOfTheory("SCAN"), LevelOfTheory("r2SCAN"))


def test_saved_and_loaded_with_correlations(tmp_path):
    frames, potential, _ = planted(smooth_shift(2), 30, seed=2)
    refs = fit_references(frames, potential, kind="informed")
    refs.save(tmp_path / "refs.json")
    again = AtomRef.load(tmp_path / "refs.json")
    assert again.energies == refs.energies
    assert again.uncovered == refs.uncovered
    assert again.materials == refs.materials
    np.testing.assert_allclose(again.energy_std(frames), refs.energy_std(frames), rtol=1e-3)
    assert again.posterior.tables == refs.posterior.tables
