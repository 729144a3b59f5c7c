import pytest

from xclimb.runs.progress import EpochBar
from xclimb.study.progress import GridBar

LINE = {"epoch": 1, "val": {"loss": 0.1, "energy_mae": 34.56, "forces_mae": 123.4, "stress_mae": None, "magmom_mae": 0.01}}


@pytest.fixture(params=[True, False])
def terminal(request, monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    if request.param:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "160")
    return request.param


def test_one_training(terminal, capsys):
    with EpochBar("residual", 5) as bar:
        bar.say("note: careful")
        bar.show(LINE, best_epoch=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("val 34.6 meV/atom 123.4 meV/Å · best epoch 1" in shown.err) == terminal
    assert ("careful" in shown.err) == terminal
    assert bool(shown.err) == terminal  # silent where the output is no terminal


def test_a_grid(terminal, capsys):
    with GridBar({"refit-0": 2, "residual-0": 2}) as bar:
        bar.finish("refit-0")
        bar.show("residual-0", LINE)
    shown = capsys.readouterr()
    assert ("val 34.6 meV/atom 123.4 meV/Å" in shown.err) == terminal
    assert ("3/4" in shown.err) == terminal
    assert bool(shown.err) == terminal


def test_progress_can_be_switched_off(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with EpochBar("residual", 5, show=False) as bar, GridBar({"a": 1}, show=False) as grid:
        bar.show(LINE, best_epoch=0)
        grid.show("a", LINE)
        grid.finish("a")
    assert capsys.readouterr().err == ""
