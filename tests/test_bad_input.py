"""Twenty kinds of bad input and more: each gives one sentence, naming culprit and way out, and leaves nothing half-made.

``CASES`` goes through the command line, ``CALLS`` through Python.
"""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

import xclimb
from xclimb.cli import app
from xclimb.data.parquet import to_parquet
from xclimb.data.samples import load_sample
from xclimb.errors import CheckpointError, ConfigError, DataError, ReferencesError, TheoryError, XclimbError


def labelled(formula: str = "NaCl", shift: float = 0.0, **labels) -> Atoms:
    """A rock salt crystal with labels; those given replace the sound ones, None leaves one out."""
    atoms = bulk(formula, "rocksalt", a=5.6 + shift)
    atoms.rattle(0.02, seed=int(100 * shift))
    sound = {"energy": -6.7 + shift, "forces": np.full((2, 3), 0.01), "stress": np.full(6, 0.001)}
    found = {name: value for name, value in (sound | labels).items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **found)
    return atoms


def sound(n: int = 6, **labels) -> list[Atoms]:
    """Sound frames of n materials."""
    formulas = ("NaCl", "LiF", "MgO", "KCl", "NaF", "CaO", "LiCl", "KF")[:n]
    return [labelled(formula, 0.03 * s, **labels) for s, formula in enumerate(formulas)]


def write(path: Path, many: list[Atoms]) -> None:
    ase.io.write(path, many, format="extxyz")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Files that many cases share."""
    folder = tmp_path_factory.mktemp("material")
    write(folder / "good.extxyz", sound())
    write(folder / "nan_energy.extxyz", [*sound(2), labelled(energy=float("inf"))])
    write(folder / "nan_forces.extxyz", [*sound(2), labelled(forces=np.array([[0.0, 0.0, 0.0], [np.nan, 0.0, 0.0]]))])
    write(folder / "wrong_stress.extxyz", [*sound(2), labelled(stress=np.full(6, 120.0))])  # kbar given as eV/Å^3
    write(folder / "wrong_energy.extxyz", [*sound(2), labelled(energy=-6.7e6)])
    write(folder / "dummy.extxyz", [*sound(2), Atoms("XCl", positions=[[0, 0, 0], [2, 0, 0]], cell=[5, 5, 5], pbc=True)])
    write(folder / "heavy.extxyz", [Atoms("Cm", cell=[3.4, 3.4, 3.4], pbc=True)])
    write(folder / "overlap.extxyz", [*sound(2), Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 0.05]], cell=[5, 5, 5], pbc=True)])
    write(folder / "flat.extxyz", [*sound(2), Atoms("Al", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True)])
    write(folder / "no_energy.extxyz", sound(8, energy=None))
    write(folder / "unlabelled.extxyz", [labelled(energy=None, forces=None, stress=None)])
    (folder / "empty.extxyz").write_bytes(b"")
    (folder / "junk.extxyz").write_bytes(bytes(range(256)) * 40)
    (folder / "notes.txt").write_text("Dear diary, no structures here.\n")
    (folder / "nothing").mkdir()
    whole = (folder / "good.extxyz").read_text()
    (folder / "cut.extxyz").write_text(whole[: int(len(whole) * 0.72)])
    shape = whole.splitlines()
    shape[2] = " ".join(shape[2].split()[:-1])  # one force component short
    (folder / "shape.extxyz").write_text("\n".join(shape) + "\n")
    to_parquet(load_sample("dft_pairs", "r2SCAN")[:8], folder / "r2scan.parquet")
    to_parquet(load_sample("dft_pairs", "PBE")[8:12], folder / "pbe.parquet")
    bytes_ = (folder / "r2scan.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(bytes_[: len(bytes_) // 2])
    shutil.copy(Path(xclimb.data.samples.__file__).with_name("dft_pairs.parquet"), folder / "both.parquet")
    (folder / "settings.yaml").write_text("epochs: 1\nlerning_rate: 0.1\n")
    (folder / "broken.yaml").write_text("epochs: [1\n")
    (folder / "refs.json").write_text('{"format": 1')
    (folder / "other.json").write_text("[1, 2]")
    saved = xclimb.load("chgnet-0.3.0").save(folder / "damaged")
    weights = bytearray((saved / "weights.safetensors").read_bytes())
    weights[-1000] ^= 255
    (saved / "weights.safetensors").write_bytes(bytes(weights))
    shutil.copytree(saved, folder / "halved")
    (folder / "halved" / "weights.safetensors").write_bytes(bytes(weights[: len(weights) // 2]))
    shutil.copytree(saved, folder / "newer")
    card = json.loads((saved / "potential.json").read_text())
    (folder / "newer" / "potential.json").write_text(json.dumps(card | {"format": 999}))
    (folder / "used").mkdir()
    (folder / "used" / "thesis.tex").write_text("precious")
    return folder


R2SCAN = ("-f", "r2SCAN")
GO = ("transfer", "good.extxyz", *R2SCAN, "--epochs", "0", "--out", "new")

# what is wrong -> (the command, words that the message must hold: the culprit and the way out)
CASES = {
    # files
    "missing file": (("inspect", "gone.extxyz"), ("gone.extxyz", "does not exist")),
    "empty file": (("inspect", "empty.extxyz"), ("empty.extxyz", "empty")),
    "binary junk": (("inspect", "junk.extxyz"), ("junk.extxyz",)),
    "no structures": (("inspect", "notes.txt"), ("notes.txt", "format")),
    "folder without files": (("inspect", "nothing"), ("nothing", "give")),
    "file cut off": (("evaluate", "chgnet-0.3.0", "cut.extxyz"), ("cut.extxyz", "after frame")),
    "Parquet cut off": (("evaluate", "chgnet-0.3.0", "cut.parquet"), ("cut.parquet", "damaged")),
    "unknown sample": (("inspect", "sample:dft_pears"), ("dft_pears", "dft_pairs")),
    # frames
    "infinite energy": ((*GO[:1], "nan_energy.extxyz", *GO[2:]), ("nan_energy.extxyz", "nan_energy#2", "energy")),
    "NaN in the forces": ((*GO[:1], "nan_forces.extxyz", *GO[2:]), ("nan_forces.extxyz", "nan_forces#2", "forces")),
    "row too short": (("evaluate", "chgnet-0.3.0", "shape.extxyz"), ("shape.extxyz", "repair")),
    "element X": (("predict", "chgnet-0.3.0", "dummy.extxyz"), ("dummy.extxyz", "dummy#2", "atomic number 0")),
    "element beyond Pu": (("predict", "chgnet-0.3.0", "heavy.extxyz"), ("heavy.extxyz", "96", "94")),
    "overlapping atoms": (("predict", "chgnet-0.3.0", "overlap.extxyz"), ("overlap.extxyz", "overlap#2", "0.050 Å")),
    "cell without volume": (("predict", "chgnet-0.3.0", "flat.extxyz"), ("flat.extxyz", "flat#2", "cell")),
    "stress in kbar": (("evaluate", "chgnet-0.3.0", "wrong_stress.extxyz"), ("wrong_stress.extxyz", "kbar")),
    "energy in another unit": (("evaluate", "chgnet-0.3.0", "wrong_energy.extxyz"), ("wrong_energy.extxyz", "eV")),
    "no energies to train on": (
        ("transfer", "no_energy.extxyz", *R2SCAN, "--epochs", "0", "--out", "new"),
        ("energy", "--energy-key"),
    ),
    "no energies to fit": (("references", "fit", "no_energy.extxyz", "--out", "new.json"), ("8 frames", "energy")),
    "no labels to evaluate": (("evaluate", "chgnet-0.3.0", "unlabelled.extxyz"), ("label", "no label")),
    "ingest of nothing sound": (("ingest", "cut.parquet", "--out", "new"), ("none", "rejects.csv")),
    # levels of theory
    "functional not known": (("transfer", "good.extxyz", "--epochs", "0", "--out", "new"), ("functional", "r2SCAN")),
    "functional not in the file": (("inspect", "both.parquet", "-f", "HSE06"), ("both.parquet", "HSE06", "r2SCAN")),
    "functional not chosen": (("inspect", "both.parquet"), ("both.parquet", "--functional PBE")),
    "functional contradicts the file": (("inspect", "r2scan.parquet", "-f", "PBE"), ("r2scan.parquet", "r2SCAN", "PBE")),
    "shift of a functional to itself": (("shift", "r2scan.parquet", "r2scan.parquet"), ("both sets are at r2SCAN",)),
    "shift of one file": (("shift", "both.parquet"), ("both.parquet", "--low PBE --high r2SCAN")),
    "no common pairs": (("shift", "good.extxyz", "r2scan.parquet", "--low", "PBE"), ("pairs", "frame_id")),
    "validation at another level": ((*GO, "--val", "pbe.parquet"), ("pbe.parquet", "PBE", "r2SCAN")),
    "validation is training": ((*GO, "--val", "good.extxyz"), ("6 frames", "split")),
    # potentials
    "unknown potential": (("predict", "chgnet-0.3", "good.extxyz"), ("chgnet-0.3", "did you mean 'chgnet-0.3.0'")),
    "damaged weights": (("predict", "damaged", "good.extxyz"), ("damaged/weights.safetensors", "checksum")),
    "weights cut off": (("predict", "halved", "good.extxyz"), ("halved/weights.safetensors", "copy")),
    "newer potential": (("predict", "newer", "good.extxyz"), ("newer/potential.json", "upgrade")),
    "folder without a potential": (("predict", "nothing", "good.extxyz"), ("nothing", "run folder")),
    "unknown device": (("predict", "chgnet-0.3.0", "good.extxyz", "--device", "abacus"), ("abacus", "cpu")),
    "unknown precision": (("predict", "chgnet-0.3.0", "good.extxyz", "--dtype", "float16"), ("float16", "float64")),
    "unknown format to write": (("predict", "chgnet-0.3.0", "good.extxyz", "--out", "new.docx"), ("new.docx", ".extxyz")),
    # settings
    "unknown setting": ((*GO, "--set", "loss.enregy=2"), ("loss.enregy", "did you mean 'loss.energy'")),
    "unknown setting in a file": ((*GO[:-4], "--out", "new", "--config", "settings.yaml"), ("settings.yaml", "learning_rate")),
    "settings file is no YAML": ((*GO[:-4], "--out", "new", "--config", "broken.yaml"), ("broken.yaml", "YAML")),
    "no settings file": ((*GO, "--config", "gone.yaml"), ("gone.yaml",)),
    "setting of the wrong kind": ((*GO, "--set", "batch_size=many"), ("batch_size", "integer", "many")),
    "setting without a value": ((*GO, "--set", "batch_size"), ("batch_size", "name=value")),
    "setting given twice": ((*GO, "--set", "epochs=3"), ("epochs", "twice")),
    "setting without effect": ((*GO, "--set", "weight_decay=0.1"), ("weight_decay", "adamw")),
    "setting of another method": ((*GO, "--set", "references_lr=0.1"), ("references_lr", "trainable")),
    "negative epochs": ((*GO[:4], "--epochs", "-1", "--out", "new"), ("epochs", "-1")),
    "epochs in words": ((*GO[:4], "--epochs", "ten", "--out", "new"), ("--epochs", "integer", "--help")),
    "unknown method": ((*GO, "--method", "residul"), ("residul", "did you mean 'residual'")),
    "unknown kind of references": (
        ("references", "fit", "good.extxyz", "--kind", "cooked", "--out", "new.json"),
        ("cooked", "residual"),
    ),
    "residual without a potential": (
        ("references", "fit", "good.extxyz", "--kind", "residual", "--out", "new.json"),
        ("--potential",),
    ),
    "seeds in words": (("study", "methods", "--sample", "dft_pairs", "--seeds", "one", "--out", "new"), ("one", "0,1,2")),
    "study without data": (("study", "methods", "--out", "new"), ("LOW and HIGH", "--sample dft_pairs")),
    "unknown command": (("predcit", "chgnet-0.3.0", "good.extxyz"), ("predcit", "predict")),
    # folders and files that are there, or are something else
    "run folder in use": ((*GO[:-1], "used"), ("used", "not empty")),
    "store in the way": (("ingest", "good.extxyz", "--out", "used"), ("used", "no store")),
    "demo on a foreign folder": (("demo", "--quick", "--out", "used"), ("used", "--out")),
    "demo with two lengths": (("demo", "--quick", "--epochs", "3", "--out", "new"), ("--quick", "--epochs")),
    "file to write exists": (
        ("predict", "chgnet-0.3.0", "good.extxyz", "--out", "good.extxyz"),
        ("good.extxyz", "--overwrite"),
    ),
    "no folder to write into": (("predict", "chgnet-0.3.0", "good.extxyz", "--out", "no/where.json"), ("no", "folder")),
    "report of no run": (("report", "nothing"), ("nothing", "run.json")),
    "report of a file": (("report", "good.extxyz"), ("good.extxyz", "folder")),
    "references cut off": (("references", "show", "refs.json"), ("refs.json",)),
    "references that are none": (("references", "show", "other.json"), ("other.json",)),
    "references of nothing": (("references", "show", "gone.json"), ("gone.json",)),
}


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def here(material, tmp_path, monkeypatch):
    """A copy of the files, as the working folder."""
    shutil.copytree(material, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("XCLIMB_DEBUG", raising=False)
    return tmp_path / "work"


@pytest.mark.parametrize("name", CASES)
def test_command_line(here, name):
    words, told = CASES[name]
    before = tree(here)
    result = CliRunner().invoke(app, list(words), prog_name="xclimb")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 500
    for word in told:
        assert word in lines[0]
    left = {path: content for path, content in tree(here).items() if not path.endswith("rejects.csv")}
    assert left == before  # nothing half-written, nothing harmed
    assert not (here / "new").exists()


def test_there_are_more_than_twenty():
    assert len(CASES) > 20


def good():
    return xclimb.read("good.extxyz", functional="r2SCAN")


CALLS = {
    "no training frames": (DataError, lambda: xclimb.transfer(train=None), "train="),
    "empty training set": (DataError, lambda: xclimb.transfer(train=good()[:0], method="refit"), "training"),
    "mixed functionals": (
        TheoryError,
        lambda: xclimb.Frames.concatenate([good(), load_sample("dft_pairs", "PBE")]),
        "with_theory",
    ),
    "forces of the wrong shape": (
        DataError,
        lambda: xclimb.Frames.from_ase([with_array("forces", np.zeros((2, 2)))]),
        r"forces has shape \(2, 2\), expected \(2, 3\)",
    ),
    "columns that do not fit": (DataError, lambda: good().replace(forces=np.zeros((5, 3))), "forces"),
    "NaN in the positions": (DataError, lambda: xclimb.load("chgnet-0.3.0").predict(Atoms("H", [[np.nan, 0, 0]])), "finite"),
    "something else to predict": (DataError, lambda: xclimb.load("chgnet-0.3.0").predict("POSCAR"), "POSCAR"),
    "a list with something else": (DataError, lambda: xclimb.load("chgnet-0.3.0").predict([Atoms("H"), 7]), "item 1"),
    "nothing to evaluate": (DataError, lambda: xclimb.evaluate(xclimb.load("chgnet-0.3.0"), good()[:0]), "frames"),
    "nothing to fit": (ReferencesError, lambda: xclimb.fit_references(good()[:0]), "energy"),
    "unknown kind": (ConfigError, lambda: xclimb.fit_references(good(), kind="cooked"), "cooked"),
    "unknown setting": (ConfigError, lambda: xclimb.transfer(train=good(), learning_rat=1.0), "did you mean 'learning_rate'"),
    "unknown potential": (CheckpointError, lambda: xclimb.Calculator("chgnet"), "chgnet-0.3.0"),
    "one material to split": (DataError, lambda: xclimb.split_frames(good()[:1]), "material"),
    "ratios": (DataError, lambda: xclimb.split_frames(good(), ratios=(0.5, 0.1)), "ratios"),
    "store that is none": (DataError, lambda: xclimb.open("used"), "used"),
    "unknown functional of the sample": (TheoryError, lambda: load_sample("dft_pairs", "HSE06"), "HSE06"),
}


def with_array(name: str, values: np.ndarray) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.arrays[name] = values
    return atoms


@pytest.mark.parametrize("name", CALLS)
def test_python(here, name):
    kind, call, told = CALLS[name]
    before = tree(here)
    with pytest.raises(kind, match=told) as caught:
        call()
    assert isinstance(caught.value, XclimbError)
    assert "\n" not in str(caught.value)
    assert tree(here) == before


@pytest.mark.parametrize(
    ("name", "copy"), [("good.extxyz", "data.dat"), ("r2scan.parquet", "data.extxyz"), ("good.extxyz", "data")]
)
def test_good_content_under_a_wrong_name_is_read(here, name, copy):
    shutil.copy(here / name, here / copy)
    result = CliRunner().invoke(app, ["inspect", copy], prog_name="xclimb")
    assert result.exit_code == 0, result.output
