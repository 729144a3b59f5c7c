"""Names of labels, as every command that reads data takes them."""

import json

import ase.io
import numpy as np
import pytest

from data.made import crystals
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
    (tmp_path / "run.json").write_text(json.dumps({"inputs": {"data": "odd.extxyz", **keys.arguments()}}))
    given = {"data": None, **LabelKeys(forces="G").arguments()}
    _, inputs = resumed(tmp_path, {}, given)
    assert inputs["data"] == "odd.extxyz"
    assert LabelKeys.from_arguments(inputs) == LabelKeys(energy="U", forces="G", virial="W")
