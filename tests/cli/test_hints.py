"""Hints and counts on the screen, which lead from one command to the next."""

from data.made import crystals
from ingest.corpus.mace import ALONE
from ingest.test_vasp import MOMENTS, run
from training.tiny import rock_salts, toy
from xclimb.data.export import export

PBESOL, R2SCAN = '<i name="GGA">PS</i>', '<i name="GGA">PS</i><i name="METAGGA">R2scan</i>'


def test_files_that_are_passed_over_are_counted_once(xclimb_cli, tmp_path):
    for n, incar in enumerate([PBESOL, R2SCAN, R2SCAN]):
        run(tmp_path / "flow" / str(n), incar=incar, force=f"0.{n + 1}", outcar=MOMENTS)
    (tmp_path / "flow" / "job.sh").write_text("#!/bin/sh\n")
    told = "passed over 4 files: OUTCAR (3 times), job.sh\n"
    said = xclimb_cli("ingest", "flow", "--by-theory", "--out", "levels", "--potential", "none").out
    assert said.count("passed over") == 1
    assert told in said
    assert told in xclimb_cli("ingest", "flow", "--only", "r2SCAN", "--out", "one", "--potential", "none").out


def test_the_lower_rung_of_theory_stands_first_in_the_hint(xclimb_cli, tmp_path):
    for n, incar in enumerate([PBESOL, R2SCAN, R2SCAN]):  # most files are at the higher one
        run(tmp_path / "flow" / str(n), incar=incar, force=f"0.{n + 1}")
    said = xclimb_cli("ingest", "flow", "--by-theory", "--out", "levels", "--potential", "none").out
    assert said.index("\nr2SCAN\n") < said.index("\nPBEsol\n") if "\nr2SCAN\n" in said else said.startswith("r2SCAN\n")
    assert said.endswith("how far two are apart (LOW HIGH): xclimb shift levels/PBEsol levels/r2SCAN\n")


def test_the_hints_of_an_ingest_are_commands_that_work(xclimb_cli, tmp_path):
    export(crystals(copies=4, materials=[f"m{n}" for n in range(12)]), tmp_path / "data.extxyz")
    said = xclimb_cli("ingest", "data.extxyz", "--out", "store", "--potential", "none", "--check", "duplicate=off").out
    hints = [line.partition(":")[2].split()[1:] for line in said.splitlines() if line.startswith(("look at it:", "split it:"))]
    assert hints == [["inspect", "store"], ["split", "store"]]
    assert "12 frames" in xclimb_cli(*hints[0]).out
    assert "store:train" in xclimb_cli(*hints[1], "--group", "ids", "--no-cover").out


def test_inspect_counts_isolated_atoms_apart(xclimb_cli, tmp_path):
    export(rock_salts(6, functional=None), tmp_path / "data.extxyz")
    with (tmp_path / "data.extxyz").open("a") as file:
        file.write(ALONE)
    said = xclimb_cli("inspect", "data.extxyz", "-f", "r2SCAN").out
    assert " of 3 materials (3 formulas)" in said
    assert "and 1 isolated atom, counted as frames below, not as materials" in said


def test_epochs_that_gained_nothing_are_named(xclimb_cli, tmp_path):
    toy().save(tmp_path / "toy")
    export(rock_salts(6), tmp_path / "train.extxyz")
    export(rock_salts(6, seed=1), tmp_path / "val.extxyz")
    words = ("transfer", "train.extxyz", "--val", "val.extxyz", "-s", "toy", "-m", "frozen", "--set", "learning_rate=3")
    said = xclimb_cli(*words, "--set", "audit_frames=0", "--epochs", 2, "--out", "run").out
    assert "none of 2 epochs lowered the validation error: the potential before training was kept" in said
