"""Every command on tiny pieces of the embedded data, as a user would type them, one after the other."""

import io
import json
import re

import ase.io
import numpy as np
import pyarrow.parquet
import pytest
from rich.console import Console

import xclimb
from xclimb.cli.show import show_results
from xclimb.data.frames import Frames
from xclimb.data.samples import load_sample
from xclimb.data.theory import LevelOfTheory


def tiny(functional: str) -> Frames:
    """Two frames each of the materials with the smallest cells."""
    frames = load_sample("dft_pairs", functional)
    small = np.flatnonzero(frames.n_atoms <= 2)
    _, place, count = np.unique(frames.material_id[small], return_index=True, return_counts=True)
    place = place[count > 1][:9]
    return frames[np.sort(np.concatenate([small[place], small[place + 1]]))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """PBE and r2SCAN labels of the same frames as extxyz, and one structure without labels."""
    folder = tmp_path_factory.mktemp("data")
    for functional in ("PBE", "r2SCAN"):
        ase.io.write(folder / f"{functional}.extxyz", tiny(functional).to_ase())
    bare = tiny("PBE").to_ase()[0]
    bare.calc = None
    ase.io.write(folder / "POSCAR", bare, format="vasp")
    return folder


def test_from_files_to_a_used_potential(xclimb_cli, files, tmp_path):
    low, high, poscar = files / "PBE.extxyz", files / "r2SCAN.extxyz", files / "POSCAR"
    kept = xclimb_cli("ingest", high, "--functional", "r2SCAN", "--out", "store")
    assert "18 frames in 1 file: 18 kept, 0 rejected" in kept.flat

    seen = xclimb_cli("inspect", "store", "--json", "seen.json")
    assert "r2SCAN" in seen.out
    assert "18 frames of 9 materials" in seen.flat
    assert "energy (eV/atom)" in seen.out
    found = json.loads((tmp_path / "seen.json").read_text())
    assert found["labels"]["forces"] == 18
    assert sum(found["histograms"]["energy (eV/atom)"]["counts"]) == sum(found["histograms"]["atoms a frame"]["counts"]) == 18

    assert "store:train-6" in xclimb_cli("split", "store", "--ratios", "7:2", "--subsets", "2,6").out
    written = xclimb_cli("export", "store:train-6", "six.db")
    assert "6 frames at r2SCAN" in written.flat
    assert "6 frames of 3 materials" in xclimb_cli("inspect", "six.db").flat
    assert "split already" in xclimb_cli("split", "store", status=2).err
    assert "no part 'test': its split has train, val, train-2, train-6" in xclimb_cli("inspect", "store:test", status=2).err

    shifted = xclimb_cli("shift", low, "store", "--low", "PBE", "--json", "shift.json")
    assert "shift PBE to r2SCAN" in shifted.out
    assert json.loads((tmp_path / "shift.json").read_text())["n_pairs"] == 18

    fitted = xclimb_cli("references", "fit", "store", "-p", "chgnet-0.3.0", "--out", "refs.json")
    assert "prior and neighbours" in fitted.out
    assert "refs.json: informed, r2SCAN" in fitted.flat
    shown = xclimb_cli("references", "fit", "store")
    assert "store: raw, r2SCAN" in shown.flat
    assert "no potential was given" in re.sub(r"\s+", " ", shown.err)
    xclimb_cli("references", "show", "refs.json")
    assert "correlation with Z²" in xclimb_cli("references", "compare", "refs.json", "chgnet-r2scan").out

    settings = ["--epochs", "1", "--out", "run", "--set", "batch_size=8", "--set", "learning_rate=0.1"]
    trained = xclimb_cli("transfer", "store:train", "--val", "store:val", "--method", "residual", *settings)
    assert "the potential before training was kept" in " ".join(trained.out.split())
    assert "xclimb predict run POSCAR" in trained.flat
    assert "learning_rate: 0.1" in (tmp_path / "run" / "config.yaml").read_text()

    scored = xclimb_cli("evaluate", "run", high, "-f", "r2SCAN", "--json", "errors.json")
    assert "meV/atom" in scored.out
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert errors["n_frames"] == 18
    assert errors["energy_mae"] < 200

    predicted = xclimb_cli("predict", "run", poscar, low, "--out", "all.extxyz")
    assert "r2SCAN" in predicted.out
    assert len(ase.io.read(tmp_path / "all.extxyz", ":")) == 19

    written = xclimb_cli("report", "run")
    assert "run/report.html" in written.flat
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


def test_predictions_are_those_of_the_potential_in_every_format(xclimb_cli, files, tmp_path):
    expected = xclimb.load("chgnet-r2scan").predict(ase.io.read(files / "POSCAR"))
    for suffix in ("extxyz", "json", "parquet", "traj", "db", "csv"):
        xclimb_cli("predict", "chgnet-r2scan", files / "POSCAR", "--out", f"out.{suffix}")
    atoms = ase.io.read(tmp_path / "out.extxyz")
    assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-6)
    for suffix in ("traj", "db"):
        atoms = ase.io.read(tmp_path / f"out.{suffix}")
        assert atoms.get_potential_energy() == pytest.approx(expected.energy, abs=1e-6)
        np.testing.assert_allclose(atoms.get_magnetic_moments(), expected.magmoms, atol=1e-6)
    head, line = (tmp_path / "out.csv").read_text().splitlines()
    values = dict(zip(head.split(","), line.split(","), strict=True))
    assert float(values["energy_eV_per_atom"]) == pytest.approx(expected.energy_per_atom, abs=1e-6)
    assert not list(tmp_path.glob(".*"))
    assert "already" in xclimb_cli("predict", "chgnet-r2scan", files / "POSCAR", "--out", "out.traj", status=2).err
    plain = json.loads((tmp_path / "out.json").read_text())
    assert plain["theory"]["functional"] == "r2SCAN"
    np.testing.assert_allclose(plain["structures"][0]["stress_eV_per_A3"], expected.stress, atol=1e-7)
    stored = xclimb.read(tmp_path / "out.parquet")
    assert stored.energy[0] == pytest.approx(expected.energy, abs=1e-6)
    assert stored.theory.functional == "r2SCAN"


def test_several_potentials_are_evaluated_with_tables_of_their_errors(xclimb_cli, files, tmp_path):
    frames = tiny("r2SCAN")
    many = frames.replace(extras={"config_type": np.array(["bulk", "strained"] * 9)})
    ase.io.write(tmp_path / "test.extxyz", many.to_ase())
    words = ("evaluate", "chgnet-0.3.0", "chgnet-r2scan", "test.extxyz", "-f", "r2SCAN")
    scored = xclimb_cli(*words, "--out", "errors", "--json", "errors.json")
    assert "chgnet-0.3.0: strained" in scored.flat
    assert "worst frames" in scored.flat
    assert list(json.loads((tmp_path / "errors.json").read_text())) == ["chgnet-0.3.0", "chgnet-r2scan"]
    for name, lines in {"frames": 36, "worst": 36, "by_element": 2 * len(frames.elements), "by_config_type": 4}.items():
        assert len((tmp_path / "errors" / f"{name}.csv").read_text().splitlines()) == lines + 1, name
    assert "exists already" in xclimb_cli(*words, "--out", "errors", status=2).err
    xclimb_cli(*words, "--out", "frames.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "frames.parquet")
    errors = np.array(table["energy_error_meV_per_atom"])
    raw = xclimb.evaluate(xclimb.load("chgnet-0.3.0"), frames)
    assert np.abs(errors[:18]).mean() == pytest.approx(raw.energy_mae, rel=1e-4)
    fitted = xclimb_cli("evaluate", "chgnet-0.3.0", "test.extxyz", "-f", "r2SCAN", "--fit-references", "--json", "fitted.json")
    assert "since 9 materials cannot be predicted from each other" in re.sub(r"\s+", " ", fitted.err)
    assert json.loads((tmp_path / "fitted.json").read_text())["forces_mae"] == pytest.approx(raw.forces_mae, rel=1e-4)
    assert "give POTENTIAL DATA" in xclimb_cli("evaluate", "chgnet-0.3.0", status=2).err
    assert "give a folder" in xclimb_cli(*words, "--out", "errors.xlsx", status=2).err


def test_settings_from_a_file_are_overridden_by_options(xclimb_cli, files, tmp_path):
    (tmp_path / "settings.yaml").write_text("method: refit\nepochs: 7\nloss:\n  energy: 2\n")
    words = ["--config", "settings.yaml", "--epochs", "0", "--set", "loss.force=3", "--out", "run"]
    xclimb_cli("transfer", files / "r2SCAN.extxyz", "-f", "r2SCAN", *words)
    resolved = (tmp_path / "run" / "config.yaml").read_text()
    for line in ("name: refit", "epochs: 0", "energy: 2", "force: 3"):
        assert line in resolved


def test_validation_data_of_ones_own(xclimb_cli, files, tmp_path):
    frames = tiny("r2SCAN")
    ase.io.write(tmp_path / "train.extxyz", frames[:12].to_ase())
    ase.io.write(tmp_path / "val.extxyz", frames[12:].to_ase())
    xclimb_cli("transfer", "train.extxyz", "--val", "val.extxyz", "-f", "r2SCAN", "--epochs", 0, "--out", "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["val"]["frames"] == 6


def test_a_part_of_a_store_is_validated_on_that_stores_validation_part(xclimb_cli, files, tmp_path):
    xclimb_cli("ingest", files / "r2SCAN.extxyz", "-f", "r2SCAN", "--out", "store")
    xclimb_cli("split", "store", "--ratios", "6:2:1", "--subsets", "4")
    for part, name in (("train", "all"), ("train-4", "some")):
        said = xclimb_cli("transfer", f"store:{part}", "--epochs", 0, "--out", name)
        assert "validated on store:val, of the same split: --val names other frames" in said.err
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["inputs"]["val"] == ["store:val"]
        assert record["data"]["val"]["frames"] == len(xclimb.open(tmp_path / "store:val"))
    assert "validated on" not in xclimb_cli("transfer", "store:train", "--val", "store:test", "--epochs", 0, "--out", "own").err
    assert "validated on" not in xclimb_cli("transfer", "store", "--epochs", 0, "--out", "whole").err
    xclimb_cli("split", "store", "--ratios", "3:0:6", "--overwrite")  # none to validate on: they are sought in train
    refused = xclimb_cli("transfer", "store:train", "--epochs", 0, "--out", "none", status=2).err
    assert "no validation frames can be put aside (no material is left for val" in refused
    assert "give --val" in refused


def test_tables_fit_a_screen_of_80_columns(xclimb_cli, files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for words in (
        ("inspect", "sample:dft_pairs", "-f", "r2SCAN"),
        ("shift", "sample:dft_pairs", "--low", "PBE", "--high", "r2SCAN"),
        ("evaluate", "chgnet-r2scan", files / "r2SCAN.extxyz", "-f", "r2SCAN"),
        ("predict", "chgnet-r2scan", files / "r2SCAN.extxyz"),
    ):
        out = xclimb_cli(*words).out
        assert "…" not in out
        rows = [line.rstrip() for line in out.splitlines() if line.startswith(" ")]
        assert max(len(line) for line in rows if "R²" not in line) <= 80
        if words[0] == "inspect":
            bars = [line for line in rows if re.search("[▁▂▃▄▅▆▇█]", line)]
            assert len(bars) == 7  # each in one line
    console = Console(width=80, file=io.StringIO())
    models = {"chgnet-0.3.0 + residual references": ("model", None), "residual": ("method", 0.123)}
    kinds = ("energy", "forces", "stress", "magmom", "retention_energy")
    show_results(
        console,
        [
            {"model": name, "kind": kind, "n_train": 10, "seeds": 3, **{f"{one}_mae": 1234.567 for one in kinds}}
            | {f"{one}_mae_std": std for one in kinds}
            for name, (kind, std) in models.items()
        ],
        "Test set",
        "PBE",
    )
    shown = console.file.getvalue()
    assert "mean ± spread of 3 seeds" in shown
    assert "± 0.123" in shown
    assert "chgnet-0.3.0 +" in shown
    assert max(len(line.rstrip()) for line in shown.splitlines() if line.startswith(" ")) <= 80


def test_commands_to_copy_are_never_broken(xclimb_cli, files, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = f"{'long' * 20}/run"
    told = xclimb_cli("transfer", files / "r2SCAN.extxyz", "-f", "r2SCAN", "--epochs", 0, "--out", run).out
    assert f"use it:     xclimb predict {run} POSCAR\n" in told
    assert f"report:     {run}/report.html\n" in told
    assert f"report: {run}/report.html\n" in xclimb_cli("report", run).out


def test_a_state_that_was_kept_is_one_row(xclimb_cli, files):
    told = xclimb_cli("transfer", files / "r2SCAN.extxyz", "-f", "r2SCAN", "--epochs", 0, "--out", "run").out
    assert "before training" in told
    assert "best epoch" not in told


def test_a_store_without_functional_says_how_to_name_it(xclimb_cli, tmp_path):
    ase.io.write(tmp_path / "some.extxyz", tiny("r2SCAN").with_theory(LevelOfTheory()).to_ase())
    assert "give it with --functional" in xclimb_cli("ingest", "some.extxyz", "--out", "store").flat
    shown = xclimb_cli("split", "store").out
    assert "train:    xclimb transfer store:train --test store:test -f FUNCTIONAL\n" in shown
    assert shown.endswith("too few materials to judge by, on all: xclimb transfer store -f FUNCTIONAL\n")
    refused = xclimb_cli("transfer", "store", "--epochs", 0, status=2).err
    assert "say it where they are read, with --functional r2SCAN" in refused
    xclimb_cli("transfer", "store", "-f", "r2SCAN", "--epochs", 0, "--out", "run")
    assert "name it with --functional NAME" in xclimb_cli("evaluate", "run", "store").err


def test_rejects_are_counted_and_listed(xclimb_cli, files, tmp_path):
    many = ase.io.read(files / "r2SCAN.extxyz", ":")
    many[3].positions[:] = 0.0  # two atoms in one place, or a lone atom, which is fine
    many[4].cell[:] = 0.0
    ase.io.write(tmp_path / "some.extxyz", many)
    answer = xclimb_cli("ingest", "some.extxyz", "-f", "r2SCAN", "--out", "store")
    listed = (tmp_path / "store" / "rejects.csv").read_text()
    assert "rejected" in answer.out
    rejected = len(listed.splitlines()) - 1
    assert 1 <= rejected <= 2
    assert f"{len(many) - rejected} kept, {rejected} rejected" in answer.flat


def test_embedded_data_by_name(xclimb_cli):
    answer = xclimb_cli("shift", "sample:dft_pairs", "--low", "PBE", "--high", "r2SCAN")
    assert "385, 177" in answer.out
    assert "-4.1" in answer.out


def test_shift_into_a_folder(xclimb_cli, tmp_path):
    words = ("shift", "sample:dft_pairs", "--low", "PBE", "--high", "r2SCAN", "--out", "shift")
    assert "page: shift/report.html" in xclimb_cli(*words).flat
    assert (tmp_path / "shift" / "pairs.csv").exists()
    (tmp_path / "shift" / "report.html").unlink()
    assert "report: shift/report.html" in xclimb_cli("report", "shift").flat
    assert "beside the same fit to the PBE energies" in (tmp_path / "shift" / "report.html").read_text()
    xclimb_cli(*words[:-2], "--source", "chgnet-0.3.0", "--json", "beside.json")
    assert json.loads((tmp_path / "beside.json").read_text())["reference_rows"]["source"] == "chgnet-0.3.0"
    assert "holds a shift already" in xclimb_cli(*words, status=2).err
    xclimb_cli(*words, "--overwrite")


def test_stability_with_supplied_end_points(xclimb_cli, tmp_path):
    words = ("stability", "sample:dft_pairs", "--low", "PBE", "--high", "r2SCAN")
    (tmp_path / "low.json").write_text('{"O": -8.0}')
    (tmp_path / "high.json").write_text('{"O": -9.0}')
    alone = xclimb_cli(*words).flat
    assert "formation energy 129.6" in alone
    assert "O (30 compounds)" in alone
    assert "--ends-low and --ends-high" in alone
    more = xclimb_cli(*words, "--ends-low", "low.json", "--ends-high", "high.json", "--json", "found.json").flat
    assert "O (" not in more
    assert json.loads((tmp_path / "found.json").read_text())["end_points"]["O"] == {"low": -8.0, "high": -9.0, "supplied": True}
    for text, told in (("[]", "holds no end points"), ("{", "no JSON"), ('{"O": null}', "eV/atom")):
        (tmp_path / "low.json").write_text(text)
        assert told in xclimb_cli(*words, "--ends-low", "low.json", status=2).err


def test_the_shipped_references_differ_as_published(xclimb_cli, tmp_path):
    """The facts about the two tables that chgnet ships: over 88 elements, from H to Pu, -21.5 ± 19.2 eV/atom."""
    told = xclimb_cli("references", "compare", "chgnet-0.3.0", "chgnet-r2scan", "--json", "found.json")
    assert "88 elements with data in both: mean difference -21.489 ± 19.161 eV/atom, correlation with Z²: -0.991" in told.flat
    assert re.search(r"by size from -0\.03 \(H\) to -73\.\d\d \(Pu\) eV/atom", told.flat)
    assert "without data in chgnet-0.3.0 (5): Po, At, Rn, Fr, Ra" in told.flat
    assert "without data in chgnet-r2scan (6): Yb, Po, At, Rn, Fr, Ra" in told.flat
    found = json.loads((tmp_path / "found.json").read_text())
    steps = {row["element"]: row["difference"] for row in found["elements"]}
    facts = {"H": -0.03, "O": -0.74, "Fe": -6.0, "Bi": -54.7, "Pu": -73.3}
    for symbol, step in facts.items():
        assert steps[symbol] == pytest.approx(step, abs=0.05)
    assert found["n_both"] == 88
    assert found["uncovered"][1] == ["Yb", "Po", "At", "Rn", "Fr", "Ra"]


def test_shift_of_a_potential(xclimb_cli, files):
    answer = xclimb_cli("shift", "chgnet-0.3.0", files / "r2SCAN.extxyz", "--high", "r2SCAN")
    assert "shift GGA/GGA+U to r2SCAN" in answer.out
    assert "corrections MP2020 against none" in answer.flat
    assert "predictions of chgnet-0.3.0" in answer.flat
    for words in (("chgnet-0.3.0", "--high", "r2SCAN"), ("chgnet-0.3.0", files / "r2SCAN.extxyz", "--low", "PBE")):
        assert "is a potential and knows its functional" in xclimb_cli("shift", *words, status=2).err
    assert "did you mean" in xclimb_cli("shift", "chgnet-0.3", files / "r2SCAN.extxyz", "--high", "r2SCAN", status=2).err


def test_models_lists_every_name(xclimb_cli):
    answer = xclimb_cli("models")
    for name in ("chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan"):
        assert name in answer.out


def test_study_of_two_methods(xclimb_cli, files, tmp_path):
    words = ["study", "methods", files / "PBE.extxyz", files / "r2SCAN.extxyz", "--methods", "residual,frozen", "--seeds", "0"]
    first = xclimb_cli(*words, "--epochs", 0, "--out", "study")
    for model in ("chgnet-0.3.0", "residual", "frozen"):
        assert model in first.out
    assert "report: study/report.html" in first.flat
    assert (tmp_path / "study" / "report.html").exists()
    again = xclimb_cli(*words, "--epochs", 0, "--out", "study")  # finished cells are not repeated
    assert again.out.splitlines()[-1] == first.out.splitlines()[-1]
