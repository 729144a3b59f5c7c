"""Functionals and levels of theory, as they are named on the command line."""

import pytest

import xclimb
from data.made import crystals
from xclimb.data.export import export
from xclimb.errors import TheoryError
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
