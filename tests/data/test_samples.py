import numpy as np
import pytest

from xclimb.data.samples import load_sample, load_sample_split, sample_card, sample_names
from xclimb.data.splits import split_frames
from xclimb.errors import DataError, TheoryError
from xclimb.ingest.audit import audit


def test_counts_of_the_card():
    frames = load_sample("dft_pairs")
    assert (len(frames), len(np.unique(frames.material_id)), frames.total_atoms, len(frames.elements)) == (385, 177, 1097, 59)
    assert all(frames.has(label) for label in ("energy", "forces", "stress", "magmoms"))
    for told in ("385 frames", "177 crystals", "1,097 atoms", "CC-BY 4.0"):
        assert told in sample_card("dft_pairs")


def test_figures_of_the_card():
    low, high = load_sample(functional="PBE"), load_sample(functional="r2SCAN")
    assert low.frame_id.tolist() == high.frame_id.tolist()
    shift = (high.energy - low.energy) / high.n_atoms
    assert shift.mean() == pytest.approx(-4.117, abs=5e-4)
    assert shift.std() == pytest.approx(3.327, abs=5e-4)
    assert np.corrcoef(low.energy_per_atom, high.energy_per_atom)[0, 1] == pytest.approx(0.530, abs=5e-4)
    share = high.composition()[:, high.elements] / high.n_atoms[:, None]

    def left_over(values):
        return values - share @ np.linalg.lstsq(share, values, rcond=None)[0]

    r = np.corrcoef(left_over(low.energy_per_atom), left_over(high.energy_per_atom))[0, 1]
    assert r == pytest.approx(0.9957, abs=5e-5)
    assert np.abs(left_over(shift)).mean() == pytest.approx(0.0375, abs=5e-5)
    assert np.abs(high.forces).mean() == pytest.approx(0.644, abs=5e-4)
    assert np.abs(high.forces - low.forces).mean() == pytest.approx(0.0280, abs=5e-5)


def test_every_frame_passes_the_audit():
    for functional in ("PBE", "r2SCAN"):
        frames = load_sample(functional=functional)
        assert audit(frames) == []
        assert frames.theory.functional == functional
        assert frames.theory.code == "GPAW"


def test_the_stored_split_has_no_leak_and_all_elements_in_train():
    frames = load_sample()
    parts = [frames[np.flatnonzero(np.isin(frames.frame_id, ids))] for ids in load_sample_split()]
    assert [len(part) for part in parts] == [270, 36, 79]
    assert sum(map(len, parts)) == len(frames)
    materials = [set(part.material_id) for part in parts]
    assert [len(names) for names in materials] == [121, 19, 37]
    assert not materials[0] & materials[1] | materials[0] & materials[2] | materials[1] & materials[2]
    assert parts[0].elements.tolist() == frames.elements.tolist()
    assert all(np.abs(part.magmoms).max() > 0.5 for part in parts)


def test_the_stored_split_is_the_one_its_card_tells():
    frames = load_sample()
    split = split_frames(frames, (0.7, 0.1, 0.2), seed=1)
    assert tuple(tuple(frames.frame_id[part].tolist()) for part in (split.train, split.val, split.test)) == load_sample_split()


def test_names_and_errors():
    assert sample_names() == ("dft_pairs",)
    with pytest.raises(DataError, match="no sample 'mptrj'; the samples are dft_pairs"):
        load_sample("mptrj")
    with pytest.raises(DataError, match="no sample"):
        sample_card("x")
    with pytest.raises(TheoryError, match="no labels of HSE06"):
        load_sample("dft_pairs", "HSE")
    with pytest.raises(DataError, match="PBE"):
        load_sample("dft_pairs", None)
