import numpy as np
import pytest

import xclimb
from training.tiny import rock_salts
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import CheckpointError, ConfigError, DataError, TheoryError, XclimbWarning
from xclimb.transfer.checks import check_data

TRAIN, VAL = rock_salts(6, seed=0), rock_salts(3, seed=1)


def changed(frames, label, row, value):
    values = getattr(frames, label).copy()
    values[row] = value
    return frames.replace(**{label: values})


def all_missing(frames, label):
    return frames.replace(**{label: np.full_like(getattr(frames, label), np.nan)})


@pytest.mark.parametrize(
    ("train", "val", "kind", "told"),
    [
        (TRAIN[:0], VAL, DataError, "no training frames"),
        (TRAIN, VAL[:0], DataError, "the validation set is empty"),
        (all_missing(TRAIN, "energy"), VAL, DataError, "no training frame has an energy"),
        (TRAIN, all_missing(VAL, "energy"), DataError, "no validation frame has an energy"),
        (changed(TRAIN, "energy", 2, np.inf), VAL, DataError, "training frame f0-2: energy is infinite"),
        (changed(TRAIN, "forces", 9, np.inf), VAL, DataError, "training frame f0-4: forces is infinite"),
        (TRAIN, changed(VAL, "stress", 1, -np.inf), DataError, "validation frame f1-1: stress is infinite"),
        (changed(TRAIN, "numbers", 4, 95), VAL, DataError, r"training frame f0-2 contains atomic number 95 \(Am\)"),
        (changed(TRAIN, "numbers", 4, 0), VAL, DataError, "atomic number 0"),
        (rock_salts(functional=None), VAL, TheoryError, "functional='r2SCAN'"),
        (TRAIN, VAL.with_theory(LevelOfTheory("PBE")), TheoryError, "different levels of theory"),
        (TRAIN, TRAIN[2:4], DataError, r"2 frames in the training set and in the validation set as well \(f0-2, f0-3\)"),
    ],
)
def test_data_that_cannot_be_trained_on(tmp_path, train, val, kind, told):
    with pytest.raises(kind, match=told) as error:
        xclimb.transfer(train=train, val=val, out=tmp_path / "x", progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "x").exists()  # nothing is left of a run that never began


@pytest.mark.parametrize(
    ("settings", "kind", "told"),
    [
        ({"method": "refitt"}, ConfigError, "unknown method 'refitt': did you mean 'refit'.* trainable"),
        (
            {"method": "frozen", "references_lr": 0.1},
            ConfigError,
            "method.references_lr has no effect with method 'frozen'.*'trainable'",
        ),
        ({"epoch": 3}, ConfigError, "did you mean 'epochs'"),
        ({"source": "chgnet-0.3"}, CheckpointError, "chgnet-0.3.0"),
        ({"device": "cuda:77"}, ConfigError, "device"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, settings, kind, told):
    with pytest.raises(kind, match=told):
        xclimb.transfer(train=TRAIN, val=VAL, out=tmp_path / "x", progress=False, **settings)
    assert not (tmp_path / "x").exists()


def test_equal_ids_of_other_structures_are_no_leak():
    check_data(TRAIN, VAL.replace(frame_id=TRAIN.frame_id[: len(VAL)].copy()))


def test_ids_that_were_only_counted_are_no_leak():
    theory = LevelOfTheory("r2SCAN")
    bare = [frames.replace(frame_id=None) for frames in (TRAIN, VAL)]
    assert bare[0].frame_id[0] == bare[1].frame_id[0] == "frame-0"
    check_data(bare[0], bare[1])
    with pytest.raises(DataError, match="frame-0"):
        check_data(bare[0], bare[0][:2].with_theory(theory))


def test_materials_in_both_sets_are_told():
    (note,) = check_data(TRAIN, VAL)
    assert "3 materials in the training and the validation set" in note


def test_elements_without_training_frames_are_named(tmp_path):
    train = TRAIN[np.isin(TRAIN.material_id, ["m0", "m1"])]
    with pytest.warns(XclimbWarning, match="Li, F"):
        run = xclimb.transfer(train=train, val=VAL, out=tmp_path / "x", epochs=0, progress=False)
    assert any("No training frame contains Li, F" in note for note in run.notes)


# -- labels that are not computed, or in another unit: data that come without an ingest ----------------------------------


def test_zeros_that_nobody_computed_are_not_trained_on(tmp_path):
    potential = xclimb.load("chgnet-0.3.0")
    train, val = (potential.label(frames).with_theory(LevelOfTheory("r2SCAN")) for frames in (TRAIN, VAL))
    zero = train.replace(forces=np.zeros_like(train.forces), stress=np.zeros_like(train.stress))
    run = xclimb.transfer(potential, train=zero, val=val, out=tmp_path / "run", epochs=0, progress=False)
    told = " ".join(run.notes)
    assert "In the training set the forces of 6 frames are exactly zero, where chgnet-0.3.0 predicts up to" in told
    assert "No training frame has forces" in told
    assert "validation set the" not in told
    asked = xclimb.transfer(potential, train=zero, val=val, out=tmp_path / "as", epochs=0, progress=False, audit_frames=0)
    assert not any("exactly zero" in note for note in asked.notes)


def test_energies_per_atom_are_named_at_the_start(tmp_path):
    potential = xclimb.load("chgnet-0.3.0")
    train, val = (potential.label(frames).with_theory(LevelOfTheory("PBE")) for frames in (TRAIN, VAL))
    train, val = (frames.replace(energy=frames.energy / frames.n_atoms) for frames in (train, val))
    run = xclimb.transfer(potential, train=train, val=val, out=tmp_path / "run", epochs=0, progress=False)
    assert any("energies per atom given as total" in note and "energy_unit=" in note for note in run.notes)
