import numpy as np
import pytest

from references.planted import TRUTH, FakePotential, frames_of, planted
from xclimb.errors import ConfigError, ReferencesError
from xclimb.references import AtomRef, fit_references
from xclimb.references.linear import build_design, fit_fractions


def potential_for(frames, table, seed=0):
    """A network with random energies; frames get those, plus what the planted references already gave."""
    rng = np.random.default_rng(seed)
    inner = rng.normal(-3.0, 2.0, len(frames)) * frames.n_atoms
    fake = FakePotential(dict(zip(frames.frame_id.tolist(), inner.tolist(), strict=True)), AtomRef.from_energies(table))
    return fake, frames.replace(energy=frames.energy + inner)


def spread(values):
    return np.array([values[symbol] for symbol in TRUTH])


def test_raw_finds_planted_references(rng):
    refs = fit_references(planted(rng, between=0.0, within=0.0))
    assert refs.kind == "raw"
    assert refs.theory.functional == "r2SCAN"
    assert list(refs.energies) == sorted(TRUTH, key=list(TRUTH).index)
    np.testing.assert_allclose(spread(refs.energies), list(TRUTH.values()), atol=1e-9)
    assert refs.fit_mae < 1e-6
    assert refs.held_out_mae < 1e-6
    assert refs.undetermined == ()


def test_raw_is_the_least_squares_of_the_paper(rng):
    frames = planted(rng, frames_each=(1, 7))
    fractions = frames.composition() / frames.n_atoms[:, None]
    expected = np.linalg.lstsq(fractions, frames.energy_per_atom, rcond=None)[0]
    refs = fit_references(frames)
    np.testing.assert_allclose(refs.values[refs.covered], expected[refs.covered], atol=1e-9)
    assert refs.fit_mae == pytest.approx(1e3 * np.abs(fractions @ expected - frames.energy_per_atom).mean())


@pytest.mark.parametrize("kind", ["residual", "robust"])
def test_what_the_network_leaves_over(rng, kind):
    table = {symbol: value + 3.0 for symbol, value in TRUTH.items()} | {"Po": -1.5}
    fake, frames = potential_for(planted(rng, between=0.0, within=0.0), table)
    refs = fit_references(frames, fake, kind)
    np.testing.assert_allclose(spread(refs.energies), list(TRUTH.values()), atol=1e-6)
    np.testing.assert_allclose(fake.interaction_energy(frames) + refs.energy(frames), frames.energy, atol=1e-4)


def test_the_kind_left_out_is_informed_with_a_potential_and_raw_with_a_note_without(rng):
    fake, frames = potential_for(planted(rng), TRUTH)
    refs = fit_references(frames, potential=fake)
    assert (refs.kind, refs.notes) == ("informed", fit_references(frames, fake, "informed").notes)
    alone = fit_references(frames)
    assert alone.kind == "raw"
    assert "no potential was given" in alone.notes[-1]
    assert alone.notes[:-1] == fit_references(frames, kind="raw").notes


def test_raw_does_not_ask_the_network(rng):
    class Never(FakePotential):
        def interaction_energy(self, frames):
            raise AssertionError

    refs = fit_references(planted(rng), Never({}, AtomRef.from_energies({"Po": -1.5})), "raw")
    assert refs.energies["Po"] == -1.5


def test_elements_without_data_keep_the_source_value_and_are_named(rng):
    fake, frames = potential_for(planted(rng), dict.fromkeys(TRUTH, -1.0) | {"Po": -1.5, "U": -11.0})
    refs = fit_references(frames, fake, "residual")
    assert refs.energies["Po"] == -1.5
    assert refs.energies["U"] == -11.0
    assert {"Po", "U"} <= set(refs.uncovered)
    assert not set(TRUTH) & set(refs.uncovered)
    assert set(refs.std) == set(refs.materials) == set(refs.frames) == set(TRUTH)


def test_without_a_potential_other_elements_are_unknown(rng):
    refs = fit_references(planted(rng))
    assert set(refs.energies) == set(TRUTH)
    assert "Po" in refs.uncovered
    assert len(refs.uncovered) == 94 - len(TRUTH)


def test_frames_without_energy_are_left_out_and_counted(rng):
    frames = planted(rng, between=0.0)
    energy = frames.energy.copy()
    energy[[1, 5]] = np.nan
    refs = fit_references(frames.replace(energy=energy))
    assert (refs.n_ignored, refs.n_frames, refs.n_materials) == (2, len(frames) - 2, 40)
    assert "2 of 160 frames carry no energy" in refs.notes[0]


def test_counts_behind_each_element():
    frames = frames_of([{"Na": 1, "Cl": 1}] * 3 + [{"Na": 2}, {"Cl": 2}], [-5, -5, -5, -2, -6], ["a", "a", "b", "c", "d"])
    refs = fit_references(frames)
    assert refs.materials == {"Na": 3, "Cl": 3}
    assert refs.frames == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [("residual", ReferencesError, "give potential="), ("best", ConfigError, "choose one of informed, raw, residual, robust")],
)
def test_refusals(rng, kind, error, told):
    with pytest.raises(error, match=told):
        fit_references(planted(rng), None, kind)


def test_no_energies_at_all(rng):
    frames = planted(rng)
    with pytest.raises(ReferencesError, match="none of the 160 frames has an energy"):
        fit_references(frames.replace(energy=np.full(len(frames), np.nan)))
    with pytest.raises(ReferencesError, match="none of the 0 frames"):
        fit_references(frames[:0])


def test_a_network_that_gives_nan_is_named(rng):
    fake, frames = potential_for(planted(rng), TRUTH)
    fake.interaction["f3"] = np.nan
    with pytest.raises(ReferencesError, match="first f3"):
        fit_references(frames, fake, "residual")


# -- rank deficiency ---------------------------------------------------------------------------------


PAIR = [{"Na": 1, "Cl": 1}, {"Na": 2, "Cl": 2}, {"Na": 1, "Cl": 1}, {"Al": 1}, {"Al": 2, "O": 3}, {"Al": 1, "O": 1}]
PAIR_ENERGIES = [-7.0, -14.0, -7.2, -4.2, -33.6, -12.6]


def test_a_pair_seen_in_one_ratio_is_said_to_be_undetermined():
    refs = fit_references(frames_of(PAIR, PAIR_ENERGIES))
    assert refs.undetermined == (("Na", "Cl"),)
    assert refs.std["Na"] == refs.std["Cl"] == np.inf
    assert np.isfinite(refs.std["Al"])
    assert np.isfinite(refs.std["O"])
    assert refs.energies["Na"] == pytest.approx(refs.energies["Cl"])  # minimum norm
    assert not {"Na", "Cl"} & set(refs.uncovered)
    assert any("Na, Cl occur only in fixed proportions" in note for note in refs.notes)


def test_two_separate_groups():
    frames = frames_of([{"Na": 1, "Cl": 1}, {"Zn": 1, "O": 1}, {"Zn": 2, "O": 2}, {"H": 1}], [-7, -11, -22, -1])
    assert fit_references(frames).undetermined == (("O", "Zn"), ("Na", "Cl"))


def test_a_determined_combination_keeps_its_elements_together():
    # Na:Cl always 1:1, but O varies freely: only Na and Cl are mixed
    frames = frames_of(
        [{"Na": 1, "Cl": 1}, {"Na": 1, "Cl": 1, "O": 4}, {"O": 2}, {"Na": 2, "Cl": 2, "O": 1}], [-7, -30, -9, -18]
    )
    assert fit_references(frames).undetermined == (("Na", "Cl"),)


def test_undetermined_directions_stay_at_the_source():
    table = {"Na": -1.0, "Cl": -5.0, "Al": 0.0, "O": 0.0}
    fake = FakePotential({f"f{s}": 0.0 for s in range(6)}, AtomRef.from_energies(table))
    refs = fit_references(frames_of(PAIR, PAIR_ENERGIES), fake, "residual")
    assert refs.energies["Cl"] - refs.energies["Na"] == pytest.approx(-4.0)
    assert refs.energies["Cl"] + refs.energies["Na"] == pytest.approx(np.mean([-7.0, -7.0, -7.2]))


def test_one_material_states_no_uncertainty():
    refs = fit_references(frames_of([{"Fe": 1}] * 3, [-9.0, -9.1, -9.2], ["bcc"] * 3))
    assert refs.energies == {"Fe": pytest.approx(-9.1)}
    assert np.isnan(refs.std["Fe"])
    assert np.isnan(refs.held_out_mae)
    assert any("no uncertainty can be stated" in note for note in refs.notes)
    assert "Resting on a single material: Fe." in refs.notes


# -- uncertainty -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "between", "within", "frames_each"),
    [
        ("raw", 0.05, 0.01, (4, 5)),
        ("raw", 0.05, 0.02, (1, 9)),  # unbalanced, correlated
        ("raw", 0.0, 0.05, (1, 9)),  # frames are independent after all
        ("robust", 0.05, 0.01, (4, 5)),
    ],
)
def test_stated_deviations_cover_the_truth(kind, between, within, frames_each):
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(200 if kind == "raw" else 100):
        refs = fit_references(planted(rng, 40, frames_each, between, within), kind=kind)
        hits.append(np.abs(spread(refs.energies) - list(TRUTH.values())) < spread(refs.std))
    cover = np.mean(hits)
    assert 0.60 < cover < 0.78, cover
    each = np.mean(hits, axis=0)
    assert each.min() > 0.5, each


def test_frames_of_one_material_are_no_independent_evidence(rng):
    frames = planted(rng, 40, (1, 2), 0.05, 0.0)
    copies = frames[np.repeat(np.arange(len(frames)), 10)]
    one, ten = fit_references(frames), fit_references(copies)
    np.testing.assert_allclose(spread(ten.std), spread(one.std), rtol=1e-9)
    np.testing.assert_allclose(spread(ten.energies), spread(one.energies), rtol=1e-9)


def test_balanced_deviation_is_the_textbook_formula(rng):
    frames = planted(rng, 40, (1, 2), 0.05, 0.0)
    fractions = frames.composition()[:, list(range(119))] / frames.n_atoms[:, None]
    fractions = fractions[:, fractions.any(axis=0)]
    values, _, rank, _ = np.linalg.lstsq(fractions, frames.energy_per_atom, rcond=None)
    left = frames.energy_per_atom - fractions @ values
    expected = np.sqrt(left @ left / (len(frames) - rank) * np.diag(np.linalg.inv(fractions.T @ fractions)))
    np.testing.assert_allclose(spread(fit_references(frames).std), expected, rtol=1e-9)


# -- held out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixed", [False, True])
def test_held_out_error_equals_refitting_without_each_material(rng, mixed):
    frames = planted(rng, 25, (1, 5))
    if mixed:  # materials of several compositions
        frames = frames.replace(material_id=np.array([f"m{int(name[1:]) // 2}" for name in frames.material_id]))
    fractions = frames.composition() / frames.n_atoms[:, None]
    errors = []
    for name in np.unique(frames.material_id):
        out = frames.material_id == name
        kept = np.linalg.lstsq(fractions[~out], frames.energy_per_atom[~out], rcond=None)
        assert kept[2] == len(TRUTH)
        errors.append(np.abs(frames.energy_per_atom[out] - fractions[out] @ kept[0]))
    assert fit_references(frames).held_out_mae == pytest.approx(1e3 * np.concatenate(errors).mean())


def test_a_material_that_alone_holds_an_element_is_not_held_out():
    compositions = [{"Na": 1}, {"Na": 2}, {"Na": 1, "Cl": 1}]
    design = build_design(frames_of(compositions, [0, 0, 0]).composition(), np.array(["a", "b", "c"]))
    fit = fit_fractions(design, np.array([-1.0, -1.2, -3.5]))
    assert np.isnan(fit.held_out).tolist() == [False, False, True]


# -- robust ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("with_potential", [False, True])
def test_robust_survives_gross_outliers(share, with_potential):
    rng = np.random.default_rng(5)
    fake, clean = potential_for(planted(rng, 60, (3, 6), 0.02, 0.005), TRUTH)
    if not with_potential:
        clean = planted(rng, 60, (3, 6), 0.02, 0.005)
    wrong = rng.random(len(clean)) < share
    dirty = clean.replace(energy=clean.energy + wrong * clean.n_atoms * rng.uniform(2.0, 50.0, len(clean)))
    pot = fake if with_potential else None
    kind = "residual" if with_potential else "raw"
    error = {
        name: np.abs(spread(fit_references(dirty, pot, name).energies) - list(TRUTH.values())).max()
        for name in (kind, "robust")
    }
    assert error["robust"] < 0.06
    assert error[kind] > 1.0
    notes = fit_references(dirty, pot, "robust").notes
    assert any(f"of {len(dirty)} frames lie so far off" in note for note in notes)


def test_robust_agrees_with_raw_on_clean_data(rng):
    frames = planted(rng, 60)
    raw, robust = fit_references(frames), fit_references(frames, kind="robust")
    assert np.abs(spread(raw.energies) - spread(robust.energies)).max() < 1.5 * spread(raw.std).max()
    assert np.isnan(robust.held_out_mae)


def test_order_of_frames_does_not_matter(rng):
    frames = planted(rng)
    mixed = frames[rng.permutation(len(frames))]
    for kind in ("raw", "robust"):
        one, other = fit_references(frames, kind=kind), fit_references(mixed, kind=kind)
        np.testing.assert_allclose(spread(one.energies), spread(other.energies), atol=1e-7)
        np.testing.assert_allclose(spread(one.std), spread(other.std), rtol=1e-5)
