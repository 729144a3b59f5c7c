"""Choice of a source: the potential that made the labels wins, chance decides nothing, and the transfer starts from it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

import xclimb
from training.tiny import rock_salts, toy
from xclimb.data.frames import Frames
from xclimb.errors import DataError
from xclimb.models.potential import Potential
from xclimb.models.zoo import fresh
from xclimb.transfer.sources import USUAL, rank_sources


def materials(count: int = 24) -> Frames:
    """Frames of different materials at r2SCAN, labelled by :func:`toy` with another energy zero."""
    frames = rock_salts(count)
    frames = frames.replace(material_id=np.array([f"m{number}" for number in range(count)]))
    labelled = toy().label(frames.with_theory(toy().theory))
    return labelled.with_theory(frames.theory).replace(energy=labelled.energy - 3.0 * labelled.n_atoms)


def other(name: str) -> Potential:
    """A potential with other weights than :func:`toy`."""
    made = fresh(toy(), seed=7)
    made.name = name
    return made


def test_the_potential_that_made_the_labels_is_chosen():
    ranking = rank_sources(materials(), [other(USUAL), toy()])
    assert [source.name for source in ranking.sources] == ["toy", USUAL]
    best, worse = ranking.sources
    assert best.errors["forces"] == pytest.approx(0.0, abs=1e-2)
    assert best.errors["energy"] < 60 < worse.errors["energy"] + 60  # the zero of 3 eV is the references', not an error
    assert worse.intervals["forces"][0] > 0
    assert best.intervals["forces"] == (0.0, 0.0)
    assert ranking.reason.startswith(f"source toy rather than {USUAL}, by errors before training on 24 materials")
    assert "forces" in ranking.reason
    assert len(repr(ranking)) < 100


def test_energies_are_those_of_materials_left_out():
    frames = materials()
    energy = frames.energy.copy()
    energy[0] += 0.4 * frames.n_atoms[0]  # an error that references of all frames would share
    errors = rank_sources(frames.replace(energy=energy), [toy()]).sources[0].by_frame["energy"][0]
    assert errors[0] > 380


def test_what_chance_could_have_done_is_no_reason():
    frames = rock_salts(24)
    frames = frames.replace(material_id=np.array([f"m{number}" for number in range(24)]))  # labels at random
    usual, rival = other(USUAL), other("rival")
    forward = rank_sources(frames, [rival, usual])
    assert forward.chosen == USUAL
    assert "not significant" in forward.reason


def test_potentials_that_cannot_be_used_are_named(tmp_path):
    frames = materials(6)
    ranking = rank_sources(frames, [toy(), str(tmp_path)])
    assert ranking.chosen == "toy"
    assert len(ranking.refused) == 1
    assert str(tmp_path) in ranking.refused[0]
    assert "the only one" in ranking.reason
    with pytest.raises(DataError, match="no potential can be used for these frames"):
        rank_sources(frames, [str(tmp_path), str(tmp_path / "x")])
    with pytest.raises(DataError, match="no labelled frames"):
        rank_sources(frames.replace(energy=None, forces=None, stress=None, magmoms=None), [toy()])


def test_a_transfer_starts_from_the_chosen_one(tmp_path, monkeypatch):
    toy().save(tmp_path / "toy")
    frames = materials(12)
    monkeypatch.setattr("xclimb.transfer.sources.model_names", lambda: {str(tmp_path / "toy"): "toy"})
    run = xclimb.transfer("auto", train=frames, method="residual", out=tmp_path / "run", epochs=0, progress=False)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["source"] == str(tmp_path / "toy")
    assert any("the only one that can be used" in sentence for sentence in run.notes)


def test_the_command_shows_table_and_reason(tmp_path, monkeypatch):
    from xclimb.cli import app

    monkeypatch.chdir(tmp_path)
    toy().save("toy")
    other("other").save("other")
    xclimb.export(materials(), "data.extxyz")
    words = ["sources", "data.extxyz", "-f", "r2SCAN", "-p", "toy", "-p", "other", "--json", "found.json"]
    done = CliRunner().invoke(app, words, prog_name="xclimb")
    assert done.exit_code == 0, done.output
    assert "rather than" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["materials"] == 24
    assert [set(source["errors"]) for source in found["sources"]] == [{"energy", "forces", "stress", "magmom"}] * 2
