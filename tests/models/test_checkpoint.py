"""Saved potentials: what comes back, what is refused, and that nothing is lost on the way."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from ase.build import bulk
from safetensors.torch import load_file, save_file

from xclimb.errors import CheckpointError
from xclimb.models.chgnet import CHGNet, CHGNetConfig
from xclimb.models.potential import Potential
from xclimb.models.zoo import fresh, load, model_names
from xclimb.references import AtomRef
from xclimb.testing import tiny_crystals

SALT = tiny_crystals()["NaCl"]


@pytest.fixture(scope="module")
def source() -> Potential:
    return load("chgnet-0.3.0")


@pytest.fixture(scope="module")
def small(source) -> Potential:
    """A network small enough to be written often."""
    network = CHGNet(CHGNetConfig(width=8, n_blocks=3, n_radial=5, n_angular=5))
    return Potential(network, source.references, source.theory, "small")


@pytest.fixture
def saved(small, tmp_path):
    return small.save(tmp_path / "potential")


def same(one, other) -> bool:
    labels = ("forces", "stress", "magmoms", "site_energies")
    return one.energy == other.energy and all(np.array_equal(getattr(one, label), getattr(other, label)) for label in labels)


def rewrite_card(folder, **changes):
    path = folder / "potential.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -- there and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chgnet-0.2.0", "chgnet-r2scan"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_come_back_bit_by_bit(name, dtype, tmp_path):
    before = load(name, dtype=dtype)
    folder = before.save(tmp_path / "deep" / "er")
    after = load(folder, dtype=dtype)
    assert same(before.predict(SALT), after.predict(SALT))
    assert after.theory == before.theory
    assert after.name == before.name
    assert after.references.to_dict() == before.references.to_dict()
    assert sorted(path.name for path in folder.iterdir()) == ["potential.json", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["er"], "nothing left beside it"


def test_float64_weights_are_not_rounded_by_saving(small, tmp_path):
    fine = small.to(dtype="float64")
    fine.model.magmom.bias.fill_(1 / 3)
    after = Potential.load(fine.save(tmp_path / "fine"), dtype="float64")
    assert after.model.magmom.bias.item() == 1 / 3


def test_a_run_folder_gives_its_best(small, tmp_path):
    small.save(tmp_path / "run" / "checkpoints" / "best")
    assert same(load(tmp_path / "run").predict(SALT), small.predict(SALT))
    with pytest.raises(CheckpointError, match="holds no potential"):
        load(tmp_path)


def test_saving_again_replaces_the_whole(small, saved):
    (saved / "stray.txt").write_text("of the old one")
    other = fresh(small, seed=5)
    other.save(saved)
    assert same(load(saved).predict(SALT), other.predict(SALT))
    assert not same(load(saved).predict(SALT), small.predict(SALT))
    assert sorted(path.name for path in saved.iterdir()) == ["potential.json", "weights.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["potential"]


def test_a_folder_of_something_else_is_not_touched(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="exists and is not a potential: choose another folder"):
        small.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("step", ["os.fsync", "xclimb.files.exchange"])
def test_a_failed_save_leaves_the_old_one(small, saved, monkeypatch, step):
    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(step, full)
        with pytest.raises(OSError, match="disk full"):
            fresh(small, seed=5).save(saved)
    assert same(load(saved).predict(SALT), small.predict(SALT))
    assert [path.name for path in saved.parent.iterdir()] == ["potential"]


# -- damage -------------------------------------------------------------------------------------------


def cut(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))


def resign(folder):
    content = (folder / "weights.safetensors").read_bytes()
    rewrite_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def drop_a_tensor(folder):
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    del tensors["magmom.bias"]
    save_file(tensors, path)
    resign(folder)


def pickled(folder):
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Bomb()))
    resign(folder)


def torch_saved(folder):
    torch.save({"x": Bomb()}, folder / "weights.safetensors")
    resign(folder)


def cut_and_signed(folder):
    cut(folder)
    resign(folder)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("the pickle was run",)


DAMAGE = {
    "truncated weights": (cut, "weights.safetensors is damaged"),
    "an altered byte": (flip, "weights.safetensors is damaged"),
    "no weights": (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors cannot be read"),
    "truncated and signed": (cut_and_signed, "does not describe a potential"),
    "a tensor is missing": (drop_a_tensor, "does not describe a potential"),
    "a pickle for weights": (pickled, "does not describe a potential"),
    "torch.save for weights": (torch_saved, "does not describe a potential"),
    "not JSON": (lambda folder: (folder / "potential.json").write_text("{"), "is not valid JSON"),
    "not UTF-8": (lambda folder: (folder / "potential.json").write_bytes(b"\xff\xfe\x00"), "is not valid JSON"),
    "JSON of a list": (lambda folder: (folder / "potential.json").write_text("[1, 2]"), "does not describe a potential"),
    "a newer format": (lambda folder: rewrite_card(folder, format=99), "written by a newer xclimb"),
    "another network": (
        lambda folder: rewrite_card(folder, network={"kind": "mace"}),
        "a network .mace., this xclimb knows chgnet",
    ),
    "a setting of the future": (
        lambda folder: rewrite_card(folder, network={"kind": "chgnet", "flux": 1}),
        "does not describe a potential",
    ),
    "sizes that no weights have": (
        lambda folder: rewrite_card(folder, network={"kind": "chgnet", "width": 10**9}),
        "width cannot be 1000000000 with",
    ),
    "no references": (lambda folder: rewrite_card(folder, references={}), "potential.json"),
    "no theory": (lambda folder: rewrite_card(folder, theory={"functionl": "PBE"}), "potential.json"),
    "theory is text": (lambda folder: rewrite_card(folder, theory="PBE"), "potential.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_one_sentence_that_names_the_file(saved, name):
    harm, told = DAMAGE[name]
    harm(saved)
    with pytest.raises(CheckpointError, match=told) as caught:
        Potential.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be read .* is not a saved potential"):
        Potential.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="is not a saved potential"):
        Potential.load(tmp_path)


# -- names --------------------------------------------------------------------------------------------


def test_names_of_the_zoo():
    assert list(model_names()) == ["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan"]
    with pytest.raises(CheckpointError, match=r"no potential 'chgnet-r2scn': did you mean 'chgnet-r2scan'\? known names are"):
        load("chgnet-r2scn")
    with pytest.raises(CheckpointError, match="no potential 'xyz': known names are"):
        load("xyz")


def test_levels_of_theory_of_the_zoo():
    assert load("chgnet-0.3.0").theory.functional == "GGA/GGA+U"
    assert load("chgnet-r2scan").theory.functional == "r2SCAN"
    assert "Yb" in load("chgnet-r2scan").references.uncovered
    assert "Yb" not in load("chgnet-0.3.0").references.uncovered


def test_loading_twice_gives_two_potentials(source):
    other = load("chgnet-0.3.0")
    other.model.magmom.bias.fill_(7.0)
    assert source.model.magmom.bias.item() != 7.0
    assert load("chgnet-0.3.0").model.magmom.bias.item() != 7.0


# -- new potentials from old ones ---------------------------------------------------------------------


def test_new_references_leave_the_old_potential_untouched(source):
    before, refs = source.predict(SALT), AtomRef.from_energies({"Na": -1.0, "Cl": -2.0})
    table = source.references
    new = source.with_references(refs)
    assert same(source.predict(SALT), before)
    assert source.references is table
    after = new.predict(SALT)
    assert np.array_equal(after.forces, before.forces)
    interaction = before.energy - source.references.energies["Na"] - source.references.energies["Cl"]
    assert after.energy == pytest.approx(interaction - 3.0, abs=1e-9)
    assert "Fe" in new.references.uncovered
    assert new.references.energies["Fe"] == source.references.energies["Fe"]
    new.model.magmom.bias.fill_(7.0)
    assert source.model.magmom.bias.item() != 7.0


def test_fresh_weights_are_seeded_and_leave_the_generator_alone(source):
    state = torch.get_rng_state()
    one, same_seed, other = fresh(source, 1), fresh(source, 1), fresh(source, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(one.predict(SALT), same_seed.predict(SALT))
    assert not np.allclose(one.predict(SALT).forces, other.predict(SALT).forces)
    assert not np.allclose(one.predict(SALT).forces, source.predict(SALT).forces)
    assert one.references is source.references
    assert one.theory == source.theory
    assert one.model.config == source.model.config


def test_other_precision_is_a_copy(source):
    fine = source.to(dtype="float64")
    assert (fine.dtype, source.dtype) == (torch.float64, torch.float32)
    assert fine.to(dtype="float32").predict(bulk("Si")).energy == source.predict(bulk("Si")).energy
    assert source.to("cpu") is not source


def test_a_copy_is_independent(source):
    twin = source.copy()
    twin.model.magmom.bias.fill_(7.0)
    assert source.model.magmom.bias.item() != 7.0
    assert not any(parameter.requires_grad for parameter in twin.model.parameters())


def test_description(source):
    told = source.describe()
    json.dumps(told)
    assert (told["name"], told["dtype"], told["cutoff"]) == ("chgnet-0.3.0", "float32", 6.0)
    # chgnet's, without its references and its third angle update, which nothing reads
    assert told["parameters"] == 412_525 - 94 - 33_152
