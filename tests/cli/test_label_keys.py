"""Names of labels and the level of theory, as every command that reads data takes them."""

import json

import ase.io
import numpy as np
import pytest

import xclimb
from data.made import crystals, same
from ingest.corpus.extxyz import frame
from ingest.corpus.mace import ALONE
from report.synthetic import run_record
from xclimb.cli.options import DataOptions, resumed
from xclimb.config import TransferConfig
from xclimb.data.export import export
from xclimb.data.label_keys import LabelKeys
from xclimb.ingest import read

READERS = ("ingest", "inspect", "split", "export", "shift", "stability", "sources", "transfer", "evaluate", "predict")


@pytest.mark.parametrize("command", [*READERS, "references fit", "study methods"])
def test_every_command_that_reads_data_has_the_options(xclimb_cli, command):
    told = xclimb_cli(*command.split(), "--help").out
    for name in ("energy", "forces", "stress", "virial", "magmom"):
        assert f"--{name}-key" in told
    assert "--only" in told


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


@pytest.mark.parametrize("other", ["usual.extxyz", "usual.parquet"])
@pytest.mark.parametrize("command", ["shift", "stability"])
def test_a_key_that_one_of_two_files_lacks_names_the_labels_of_that_file(xclimb_cli, tmp_path, odd, command, other):
    export(crystals(), tmp_path / other)
    for files in ((odd[0], other), (other, odd[0])):
        said = xclimb_cli(command, *files, "--low", "r2SCAN", "--high", "r2SCAN", "--energy-key", "U", status=2).err
        assert said.startswith(f"error: {other}: no frame has an energy under 'U'; its labels are energy, forces, ")
        assert said.count("\n") == 1
        assert "make a store of this one first, with its own --energy-key NAME" in said
    said = xclimb_cli("inspect", other, "--energy-key", "U", status=2 if other.endswith("parquet") else 0).err
    assert "no frame has an energy under 'U'; its labels are energy, " in said


def test_an_interrupted_run_remembers_them(tmp_path):
    keys = LabelKeys(energy="U", virial="W")
    (tmp_path / "config.yaml").write_text(TransferConfig.build({}).to_yaml())
    given_before = {"data": "odd.extxyz", "only": "PBE", **keys.arguments()}
    (tmp_path / "run.json").write_text(json.dumps(run_record("l2sp") | {"inputs": given_before}))
    given = {"data": None, **DataOptions(LabelKeys(forces="G")).arguments()}
    _, inputs = resumed(tmp_path, {}, given)
    assert inputs["data"] == ["odd.extxyz"]
    assert DataOptions.from_arguments(inputs) == DataOptions(LabelKeys(energy="U", forces="G", virial="W"), "PBE")


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
