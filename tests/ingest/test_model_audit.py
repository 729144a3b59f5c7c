"""Labels against CHGNet: real DFT data pass at either functional, copies made wrong do not."""

import numpy as np
import pytest
from ase.build import bulk

from training.tiny import rock_salts
from xclimb.data.frames import Frames
from xclimb.data.parquet import to_parquet
from xclimb.data.samples import load_sample
from xclimb.data.store import open_store
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError, XclimbWarning
from xclimb.ingest import ingest, read
from xclimb.ingest.unit_evidence import incomparable, suspects, undecided
from xclimb.models.zoo import load


@pytest.fixture(scope="module")
def predicted():
    """The sample labelled by CHGNet, and its interaction energies: structures are the same at both functionals."""
    potential = load("chgnet-0.3.0")
    frames = potential.label(load_sample("dft_pairs", "PBE"))
    return frames, frames.energy - potential.references.energy(frames)


def told(frames, predicted, rows=slice(None)):
    prediction, interaction = predicted
    return suspects(frames[rows], prediction[rows], interaction[rows], "CHGNet")


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
def test_honest_data_pass_in_samples_of_any_size(predicted, functional):
    frames = load_sample("dft_pairs", functional)
    shift = np.random.default_rng(0).normal(0, 1e3, 119)  # another code's energies of the elements
    moved = frames.replace(energy=frames.energy + np.bincount(frames.system, shift[frames.numbers]))
    for size in (120, 50, 30, 12):
        rows = np.sort(np.random.default_rng(size).permutation(len(frames))[:size])
        assert told(frames, predicted, rows) == []
        assert told(moved, predicted, rows) == []


FAR = "CsSnCl3-per/1"  # a frame of the sample whose energy is 1.3 eV/atom above what the potential says

MADE = [
    ("stress", lambda f: 10 * f.stress, 10, "kbar read as GPa"),
    ("stress", lambda f: -f.stress, -1, "of the wrong sign"),
    ("stress", lambda f: 160.21766208 * f.stress, 160.2, "GPa read as eV/Å^3"),
    ("stress", lambda f: -f.stress / 1602.1766, -1 / 1602, "eV/Å^3 read as kbar and of the wrong sign"),
    ("forces", lambda f: -f.forces, -1, "of the wrong sign"),
    ("forces", lambda f: f.forces / 51.42, 1 / 51.42, "Ha/Bohr read as eV/Å"),
    ("forces", lambda f: f.forces / 25.71, 1 / 25.71, "Ry/Bohr read as eV/Å"),
    ("forces", lambda f: 96.485 * f.forces, 96.485, "kJ/mol/A read as eV/Å"),
    ("energy", lambda f: f.energy / 27.2114, 1 / 27.2114, "Ha read as eV"),
    ("energy", lambda f: f.energy / 13.6057, 1 / 13.6057, "Ry read as eV"),
    ("energy", lambda f: f.energy * 96.485, 96.485, "kJ/mol read as eV"),
    ("energy", lambda f: f.energy / f.n_atoms, 1, "energies per atom given as total"),
    ("energy", lambda f: f.energy / f.n_atoms / 27.2114, 1 / 27.2114, "Ha read as eV and energies per atom given as total"),
]


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
@pytest.mark.parametrize(("label", "wrong", "factor", "words"), MADE)
def test_wrong_units_and_signs_are_named(predicted, functional, label, wrong, factor, words):
    frames = load_sample("dft_pairs", functional)
    made = frames.replace(**{label: wrong(frames)})
    [one] = told(made, predicted, np.sort(np.random.default_rng(0).permutation(len(frames))[:80]))
    assert (one.label, one.per_atom) == (label, "per atom" in words)
    assert one.factor == pytest.approx(factor, rel=1e-2)
    assert words in one.evidence


def test_stress_of_a_few_frames_or_noise_tell_nothing(predicted):
    frames = load_sample("dft_pairs", "PBE")
    assert told(frames.replace(stress=-frames.stress), predicted, slice(0, 4)) == []
    noise = np.random.default_rng(0).normal(size=frames.forces.shape)
    assert told(frames.replace(forces=noise), predicted) == []
    offset = frames.replace(stress=frames.stress - 0.3 * np.eye(3))  # another cutoff: a constant, no unit
    assert told(offset, predicted) == []


def test_a_trajectory_under_another_pressure_passes(predicted):
    """Frames at the volume of one functional, where the other sees a constant pressure, ten times the label's."""
    frames = load_sample("dft_pairs", "PBE")[:60]
    frames = frames.replace(material_id=np.full(60, "MgO"))
    prediction, interaction = predicted[0][:60], predicted[1][:60]
    moves = np.random.default_rng(0).normal(scale=0.004, size=(60, 3, 3))
    moves = moves + moves.swapaxes(1, 2) + 0.004 * (1 - np.eye(3))  # a sheared cell too
    made, seen = frames.replace(stress=moves - 0.004 * np.eye(3)), prediction.replace(stress=moves - 0.045 * np.eye(3))
    assert told(made, (seen, interaction)) == []
    [one] = told(made.replace(stress=10 * seen.stress), (seen, interaction))
    assert "kbar read as GPa" in one.evidence


def few_frames(functional: str, seed: int, size: int):
    frames = load_sample("dft_pairs", functional)
    large = np.flatnonzero(frames.n_atoms > 1)
    return frames, np.sort(np.random.default_rng(seed).permutation(large)[:size])


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 10])
def test_honest_sets_of_a_few_frames_pass(predicted, functional, size):
    for seed in range(20):
        frames, rows = few_frames(functional, seed, size)
        assert told(frames, predicted, rows) == []


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
def test_energies_per_atom_of_six_frames_do_not_pass_in_silence(predicted, functional):
    prediction, interaction = predicted
    for seed in range(20):
        frames, rows = few_frames(functional, seed, 6)
        made = frames.replace(energy=frames.energy / frames.n_atoms)
        found = told(made, predicted, rows)
        if not found:
            assert "too few to tell" in undecided(made[rows], prediction[rows], interaction[rows], "CHGNet")
        assert all(one.per_atom and one.factor == 1 for one in found)


def test_one_compound_in_two_cells_tells_energies_per_atom(predicted):
    frames = load_sample("dft_pairs", "PBE")[:1]
    prediction, interaction = predicted[0][:1], predicted[1][:1]
    size = int(frames.n_atoms[0])
    big = Frames.from_ase([frames.to_ase()[0] * (2, 1, 1)]).with_theory(LevelOfTheory())
    both = Frames.concatenate([frames.with_theory(LevelOfTheory()), big])
    labels = Frames.concatenate([prediction.with_theory(LevelOfTheory()), big]).replace(
        energy=np.array([prediction.energy[0], 2 * prediction.energy[0]])
    )
    network = np.array([interaction[0], 2 * interaction[0]])
    energy = (frames.energy[0] + 50.0 * size) * np.array([1.0, 2.0])  # another zero of the energy
    honest, per_atom = both.replace(energy=energy), both.replace(energy=np.full(2, energy[0] / size))
    assert suspects(honest, labels, network, "CHGNet") == []
    [one] = suspects(per_atom, labels, network, "CHGNet")
    assert (one.label, one.per_atom, one.factor) == ("energy", True, 1.0)


def test_six_frames_of_energies_per_atom_end_the_ingest(tmp_path):
    frames = load_sample("dft_pairs", "PBE")[:6]
    to_parquet(frames.replace(energy=frames.energy / frames.n_atoms), tmp_path / "six.parquet")
    with pytest.raises(DataError, match=r"six.parquet: energies .* energies per atom given as total .* energy_unit='eV/atom'"):
        ingest(tmp_path / "six.parquet", tmp_path / "store", potential="chgnet-0.3.0")


def moved(functional: str = "PBE"):
    """Frames with forces that symmetry does not forbid, and labels of both kinds that were not computed for some."""
    frames = load_sample("dft_pairs", functional)
    strong = np.zeros(len(frames))
    np.maximum.at(strong, frames.system, np.abs(frames.forces).max(axis=1))
    return frames[np.flatnonzero((strong > 0.5) & (frames.n_atoms <= 8))[:20]]


@pytest.mark.parametrize("action", ["reject", "warn", "off"])
def test_zeros_that_nobody_computed_are_no_labels(tmp_path, action):
    frames = moved()
    forces, stress = frames.forces.copy(), frames.stress.copy()
    forces[frames.system < 12], stress[:] = 0.0, 0.0
    to_parquet(frames.replace(forces=forces, stress=stress), tmp_path / "a.parquet")
    checks = {"zero-force": action, "zero-stress": action, "outlier": "off"}
    summary = ingest(tmp_path / "a.parquet", tmp_path / "store", checks=checks, potential="chgnet-0.3.0")
    assert (summary.n_out, summary.n_rejected) == (20, 0)
    stored = open_store(summary.path, verify=True)
    what = {"reject": "taken as missing", "warn": "taken as they are"}
    if action != "off":
        assert summary.warned == {
            f"forces exactly zero, {what[action]}": 12,
            f"stress exactly zero, {what[action]}": 20,
        }
        table = (summary.path / "warnings.csv").read_text()
        assert f'a.parquet,{frames.frame_id[3]},-1,"forces exactly zero, ' in table
        assert "the forces of 12 frames are exactly zero, where chgnet-0.3.0 predicts up to" in table
    missing = np.isnan(stored.forces).all(axis=1)
    assert missing.tolist() == ((stored.system < 12) & (action == "reject")).tolist()
    assert np.isnan(stored.stress).all() == (action == "reject")
    np.testing.assert_array_equal(stored.energy, frames.energy)


def test_zeros_that_symmetry_demands_are_labels(tmp_path):
    perfect = [bulk("NaCl", "rocksalt", a=a) for a in (5.5, 5.6, 5.7)]
    frames = load("chgnet-0.3.0").label(Frames.from_ase(perfect))
    to_parquet(frames.replace(forces=np.zeros_like(frames.forces)), tmp_path / "a.parquet")
    summary = ingest(tmp_path / "a.parquet", tmp_path / "store", potential="chgnet-0.3.0")
    assert summary.warned == {}
    np.testing.assert_array_equal(open_store(summary.path).forces, 0.0)


def test_ingest_refuses_with_the_way_out_and_takes_it(tmp_path):
    frames = load_sample("dft_pairs", "r2SCAN")
    frames = frames[frames.frame_id != FAR]
    to_parquet(frames, tmp_path / "good.parquet")
    to_parquet(frames.replace(stress=-1602.1766208 * frames.stress, frame_id=None), tmp_path / "kbar.parquet")
    paths, wide = [tmp_path / "good.parquet", tmp_path / "kbar.parquet"], {"stress": "off", "duplicate": "off"}
    with pytest.raises(DataError, match=r"kbar.parquet: stress is -1\.\d+e\+03 times .* give stress_unit='-kbar' if"):
        ingest(paths, tmp_path / "store", checks=wide, potential="chgnet-0.3.0")
    assert not (tmp_path / "store").exists()
    with pytest.warns(XclimbWarning, match="kbar read as eV"):
        summary = ingest(paths, tmp_path / "store", checks={**wide, "stress-unit": "warn"}, potential="chgnet-0.3.0")
    assert summary.warned == {"stress in another unit": 1}
    mended = ingest(paths[1], tmp_path / "mended", stress_unit="-kbar", potential="chgnet-0.3.0")
    assert mended.warned == {}
    np.testing.assert_allclose(open_store(mended.path).stress, frames.stress, rtol=1e-12)


@pytest.mark.parametrize("action", ["warn", "reject", "off"])
def test_an_energy_far_from_all_others(tmp_path, action):
    frames = load_sample("dft_pairs", "PBE")
    frames = frames[frames.frame_id != FAR]
    energy = frames.energy.copy()
    energy[77] += 5.0 * frames.n_atoms[77]
    to_parquet(frames.replace(energy=energy), tmp_path / "a.parquet")
    summary = ingest(tmp_path / "a.parquet", tmp_path / "store", checks={"outlier": action}, potential="chgnet-0.3.0")
    assert summary.n_in == 384 == summary.n_out + summary.n_rejected
    counts = {"warn": ({}, {"energy is an outlier": 1}), "reject": ({"energy is an outlier": 1}, {}), "off": ({}, {})}[action]
    assert (summary.reasons, summary.warned) == counts
    stored = open_store(summary.path, verify=True)
    assert (frames.frame_id[77] in stored.frame_id.tolist()) == (action != "reject")
    if action != "off":
        table = (summary.path / ("warnings.csv" if action == "warn" else "rejects.csv")).read_text()
        assert f'a.parquet,{frames.frame_id[77]},-1,energy is an outlier,"5.01 eV/atom above what chgnet-0.3.0' in table


def test_units_of_files_that_do_not_state_them(tmp_path):
    frames = load_sample("dft_pairs", "PBE")[:5]
    to_parquet(
        frames.replace(energy=frames.energy / frames.n_atoms / 27.211386, forces=-frames.forces / 51.42208),
        tmp_path / "a.parquet",
    )
    back = read(tmp_path / "a.parquet", energy_unit="Ha/atom", force_unit="-Ha/Bohr")
    np.testing.assert_allclose(back.energy, frames.energy, rtol=1e-6)
    np.testing.assert_allclose(back.forces, frames.forces, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
def test_one_wrong_energy_among_nine_is_named(tmp_path, functional):
    frames = load_sample("dft_pairs", functional)
    few = frames[np.flatnonzero(np.isin(frames.material_id, ["MgO-rs", "MnO-afm", "Na-bcc"]))[:9]]
    energy = few.energy.copy()
    energy[1] /= few.n_atoms[1]
    for name, made in (("good", few), ("bad", few.replace(energy=energy))):
        to_parquet(made, tmp_path / f"{name}.parquet")
        summary = ingest(tmp_path / f"{name}.parquet", tmp_path / name, potential="chgnet-0.3.0")
        assert summary.warned == ({} if name == "good" else {"too few frames to judge the energies": 1})
    assert f"the energy of frame {few.frame_id[1]} does not fit the other 8" in (tmp_path / "bad" / "warnings.csv").read_text()


def test_energies_that_nothing_can_be_compared_with():
    one_each = rock_salts(3)
    assert "3 energies are too few for their compositions" in incomparable(one_each, np.zeros(3))
    assert incomparable(one_each[:1], np.zeros(1)) == ""
    assert incomparable(rock_salts(30), np.zeros(30)) == ""  # outliers are searched for
