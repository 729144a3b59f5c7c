"""Functionals and levels of theory, as they are named on the command line."""

from dataclasses import replace

import pytest

import xclimb
from data.made import crystals
from training.tiny import rock_salts, toy
from xclimb.data.export import export
from xclimb.data.store_writer import write_store
from xclimb.errors import DataError, TheoryError
from xclimb.ingest import tasks
from xclimb.training import trainer
from xclimb.transfer import fit


@pytest.fixture
def nothing_is_computed(monkeypatch):
    """Fail at the first audit, split, choice of a source or training."""

    def fail(*_, **__):
        raise AssertionError("something was computed")

    for module, name in ((tasks, "audit"), (fit, "rank_sources"), (fit, "split_off_validation"), (trainer, "Trainer")):
        monkeypatch.setattr(module, name, fail)


@pytest.mark.parametrize(
    ("functional", "told"),
    [
        ("r2SCNA", "no functional called 'r2SCNA' is known: did you mean r2SCAN"),
        ("nosuch", "no functional called 'nosuch' is known: usual ones are PBE, PBE+U, GGA/GGA+U, r2SCAN, "),
        ("HSE06", "data.extxyz states PBE but HSE06 was given"),
    ],
)
def test_a_transfer_refuses_a_functional_before_anything_is_computed(
    xclimb_cli, tmp_path, nothing_is_computed, functional, told
):
    export(crystals(functional="PBE"), tmp_path / "data.extxyz")
    for words in (("-f", functional), ("-f", functional, "--source", "auto")):
        said = xclimb_cli("transfer", "data.extxyz", *words, "--epochs", 0, "--out", "run", status=2).err
        assert said.count("\n") == 1
        assert told in said
    with pytest.raises(TheoryError, match=told.partition(":")[0]):
        xclimb.transfer(train=xclimb.read("data.extxyz", functional=functional), epochs=0, out="run")
    assert {path.name for path in tmp_path.iterdir()} == {"data.extxyz"}


def test_levels_of_the_sets_are_compared_before_anything_is_computed(tmp_path, nothing_is_computed):
    low, high = crystals(functional="PBE"), crystals()
    with pytest.raises(TheoryError, match=r"training and test frames .*functional: PBE against r2SCAN"):
        xclimb.transfer("auto", train=low, test=high, out=tmp_path / "run")
    with pytest.raises(TheoryError, match="the functional of the training frames is not known"):
        xclimb.transfer("auto", train=crystals(functional=None), out=tmp_path / "run")


def test_an_unknown_functional_can_be_meant(xclimb_cli, tmp_path):
    export(crystals(functional=None), tmp_path / "data.extxyz")
    xclimb_cli("ingest", "data.extxyz", "-f", "other:lak25", "--out", "store", "--potential", "none")
    assert xclimb.open(tmp_path / "store").theory.functional == "lak25"
    assert "store: lak25" in xclimb_cli("inspect", "store", "-f", "lak25").out
    assert "states lak25 but PBE was given" in xclimb_cli("inspect", "store", "-f", "PBE", status=2).err


@pytest.fixture
def mixed(tmp_path):
    """A folder at two levels of theory, a pre-trained potential, and a store at one of them."""
    toy().save(tmp_path / "toy")
    high = rock_salts(12)
    low = high.with_theory(replace(high.theory, functional="PBE")).replace(energy=high.energy - 2.0 * high.n_atoms)
    (tmp_path / "flow").mkdir()
    for name, frames in (("low", low), ("high", high)):
        export(frames, tmp_path / "flow" / f"{name}.extxyz")
    write_store(high, tmp_path / "store")
    return tmp_path


COMMANDS = (
    ("inspect", "flow"),
    ("export", "flow", "out.extxyz"),
    ("split", "flow", "--no-cover"),
    ("references", "fit", "flow"),
    ("evaluate", "toy", "flow"),
    ("sources", "flow", "-p", "toy"),
    ("predict", "toy", "flow"),
    ("transfer", "flow", "-s", "toy", "--epochs", 0, "--out", "run", "--set", "audit_frames=0"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_one_level_of_a_folder_is_read_by_every_command(xclimb_cli, mixed, words):
    hint = "flow holds several levels of theory: r2SCAN 1 file, PBE 1; read one with --only r2SCAN, or make a store of each"
    if words[0] != "predict":  # structures have no level
        assert hint in xclimb_cli(*words, status=2).err
    said = xclimb_cli(*words, "--only", "r2SCAN")
    if words[0] == "split":
        assert "transfer flow --only r2SCAN --split flow.split.json" in said.out
    if words[0] == "transfer":
        assert xclimb.load("run").theory.functional == "r2SCAN"


def test_two_levels_of_a_folder_are_compared(xclimb_cli, mixed):
    told = "mean shift of the energy, r2SCAN - PBE +2.000"
    assert told in xclimb_cli("shift", "flow", "--low", "PBE", "--high", "r2SCAN").flat
    assert told in xclimb_cli("shift", "flow", "store", "--only", "pbe,R2SCAN").flat
    said = xclimb_cli("shift", "flow", "store", "--only", "HSE06", status=2).err
    assert "no frames that can be used at HSE06: there are r2SCAN 1 file, PBE 1" in said
    assert (
        "store has no frames at PBE: all are at r2SCAN" in xclimb_cli("shift", "flow", "store", "--only", "PBE", status=2).err
    )
    hint = "none of the 3 compounds has the end points of all its elements"  # both levels were read
    assert hint in xclimb_cli("stability", "flow", "--low", "PBE", "--high", "r2SCAN", status=2).err


def test_a_store_is_at_one_level(xclimb_cli, mixed):
    for words in (("inspect", "store"), ("split", "store"), ("transfer", "store")):
        assert "store has no frames at PBE: all are at r2SCAN" in xclimb_cli(*words, "--only", "PBE", status=2).err
    xclimb_cli("split", "store", "--only", "r2SCAN", "--no-cover")
    assert len(xclimb.read("store:train", only="r2SCAN")) > 0
    with pytest.raises(DataError, match="store:train has no frames at PBE: all are at r2SCAN"):
        xclimb.read("store:train", only="PBE")
    assert "r2SCAN" in xclimb_cli("inspect", "sample:dft_pairs", "--only", "r2SCAN").out
