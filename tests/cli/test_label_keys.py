"""Names of labels, as every command that reads data takes them."""

import json

import ase.io
import numpy as np
import pytest

import xclimb
from data.made import crystals, same
from ingest.corpus.extxyz import frame
from ingest.corpus.mace import ALONE
from report.synthetic import run_record
from xclimb.cli.options import resumed
from xclimb.config import TransferConfig
from xclimb.data.label_keys import LabelKeys
from xclimb.ingest import read

READERS = ("ingest", "inspect", "export", "shift", "stability", "transfer", "evaluate", "predict", "study methods")


@pytest.mark.parametrize("command", [*READERS, "references fit"])
def test_every_command_that_reads_data_has_the_options(xclimb_cli, command):
    told = xclimb_cli(*command.split(), "--help").out
    for name in ("energy", "forces", "stress", "virial", "magmom"):
        assert f"--{name}-key" in told


@pytest.fixture
def odd(tmp_path):
    """A file whose labels have names that nobody knows."""
    many = crystals().to_ase()
    for atoms in many:
        atoms.info |= {"U": atoms.calc.results["energy"], "W": (-atoms.get_stress(voigt=False) * atoms.get_volume()).ravel()}
        atoms.arrays["G"] = atoms.calc.results["forces"]
        atoms.calc = None
    ase.io.write(tmp_path / "odd.extxyz", many)
    return ["odd.extxyz", "--energy-key", "U", "--forces-key", "G", "--virial-key", "W"]


def test_keys_reach_the_reader_and_the_record_of_the_store(xclimb_cli, tmp_path, odd):
    xclimb_cli("ingest", *odd, "--out", "store", "--potential", "none")
    for name in ("store", "again.parquet"):
        if name != "store":
            xclimb_cli("export", *odd, name)
        frames = read(tmp_path / name)
        for label in ("energy", "forces", "stress"):
            np.testing.assert_allclose(getattr(frames, label), getattr(crystals(), label), atol=1e-6)
    stored = json.loads((tmp_path / "store" / "manifest.json").read_text())["provenance"]["reading"]
    assert stored["keys"] == {"energy": "U", "forces": "G", "virial": "W"}


def test_an_interrupted_run_remembers_them(tmp_path):
    keys = LabelKeys(energy="U", virial="W")
    (tmp_path / "config.yaml").write_text(TransferConfig.build({}).to_yaml())
    (tmp_path / "run.json").write_text(json.dumps(run_record("l2sp") | {"inputs": {"data": "odd.extxyz", **keys.arguments()}}))
    given = {"data": None, **LabelKeys(forces="G").arguments()}
    _, inputs = resumed(tmp_path, {}, given)
    assert inputs["data"] == ["odd.extxyz"]
    assert LabelKeys.from_arguments(inputs) == LabelKeys(energy="U", forces="G", virial="W")


def test_the_summary_names_what_was_read_and_what_was_not(xclimb_cli, tmp_path):
    text = frame("REF_energy=-7.0 formation_energy=-0.1 config_type=bulk config_weight=2.0", "REF_forces") + ALONE
    (tmp_path / "a.xyz").write_text(text + frame("", "MACE_forces"))
    told = xclimb_cli("ingest", "a.xyz", "-f", "PBE", "--out", "store", "--potential", "none").flat
    assert "2 kept, 1 rejected" in told
    assert "labels: energy from REF_energy, forces from REF_forces" in told
    assert "not read as labels: MACE_forces (unknown name); to take one, give --forces-key MACE_forces" in told
    assert "1 of the frames kept are isolated atoms" in told
    frames = xclimb.open(tmp_path / "store")
    assert frames.extras["config_type"].tolist() == ["bulk", "IsolatedAtom"]
    np.testing.assert_array_equal(frames.extras["config_weight"], [2.0, np.nan])
    assert frames.isolated_atom_energies() == {"Cu": -0.2}
    stored = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert stored["provenance"]["labels"] == {"REF_energy": "energy", "REF_forces": "forces"}
    xclimb_cli("export", "store", "b.xyz")
    same(read(tmp_path / "b.xyz"), frames)
