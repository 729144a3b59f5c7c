"""Files on disk against their schema: a wrong type is named by file and key."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from data.made import crystals
from report.synthetic import run_record, write_study
from xclimb.comparison.shift import shift
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.report import StudyFolder, read_folder, write_report
from xclimb.runs.schema import RunRecord, line_schema, read_lines
from xclimb.study.summary import summary_table


@cache
def text() -> str:
    high = crystals(copies=3)
    low = high.replace(energy=high.energy - 0.3 * high.n_atoms, theory=LevelOfTheory("PBE"))
    return json.dumps(shift(low, high.replace(theory=LevelOfTheory("r2SCAN"))).to_dict())


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        (("mean",), "much", "mean"),
        (("mean",), 10**400, "mean"),
        (("n_pairs",), None, "n_pairs"),
        (("n_pairs",), -1, "n_pairs"),
        (("elements",), [1.0], "elements"),
        (("element_std",), None, "element_std"),
        (("families", 0, "mean"), [0.1], "families.0.mean"),
        (("intervals", "mean"), [0.1], "intervals.mean"),
        (("reference_depth", "n_materials"), "all", "reference_depth.n_materials"),
        (("importance",), {"target": "difference"}, "importance"),
        (("stability",), {"material_id": ["m"]}, "stability"),
        (("element_data",), {}, "element_data lacks"),
        (("left_over",), [], "left_over has 0 entries"),
        (("notes",), KeyError, "notes"),
    ],
)
def test_a_wrong_value_in_a_shift_is_named(key, value, named, tmp_path):
    content = json.loads(text())
    inner = content
    for name in key[:-1]:
        inner = inner[name]
    if value is KeyError:
        del inner[key[-1]]
    else:
        inner[key[-1]] = value
    (tmp_path / "shift.json").write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        write_report(tmp_path)
    assert "shift.json" in str(error.value)
    assert named in str(error.value)
    assert "run" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_written_fits(tmp_path):
    (tmp_path / "shift.json").write_text(text())
    assert read_folder(tmp_path).report.to_dict() == json.loads(text())


def test_an_older_shift_opens(tmp_path):
    content = {key: value for key, value in json.loads(text()).items() if key not in ("stability", "importance", "scatter_mae")}
    (tmp_path / "shift.json").write_text(json.dumps(content))
    assert read_folder(tmp_path).report.stability == {}


COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "results" / "methods"


def test_the_committed_study_of_version_0_1_opens(tmp_path):
    study = read_folder(COMMITTED)
    assert isinstance(study, StudyFolder)
    old = json.loads((COMMITTED / "results.json").read_text())
    table = study.results.select(labels="target")
    for name in ("energy_mae", "forces_rmse", "n_frames"):
        rows = {(row.model, row.seed, row.split): row.value for row in table.select(metric=name).rows}
        assert rows == {(row["model"], row["seed"], row["split"]): row["metrics"][name] for row in old}
    kept = {(row.model, row.seed): row.value for row in study.results.select(labels="source", metric="energy_mae").rows}
    former = json.loads((COMMITTED / "retention.json").read_text())
    assert kept == {(row["model"], row["seed"]): row["metrics"]["energy_mae"] for row in former}
    assert (study.record.kind, study.record.labels, len(study.runs), study.missing) == ("methods", "DFT", 15, ())
    assert all(run.evaluation["test"].before is None and run.epochs[0].epoch == 0 for run in study.runs)
    copied = shutil.copytree(COMMITTED, tmp_path / "study")
    (copied / "results.json").write_text(json.dumps(study.results.model_dump()))
    (copied / "retention.json").unlink()
    assert read_folder(copied).results == study.results  # as it is written now
    assert summary_table(copied) == summary_table(COMMITTED)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("study.json", "seeds", ["a"]),
        ("study.json", "theory", None),
        ("results.json", "rows", [{"model": "a"}]),
        ("predictions.json", "reference", {}),
        ("runs/residual-0/run.json", "state", "lost"),
        ("runs/residual-0/evaluation.json", "val", {"energy_mae": "x"}),
    ],
)
def test_a_wrong_value_in_a_study_is_named(tmp_path, name, key, value):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,))
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | {key: value}))
    with pytest.raises(DataError) as error:
        write_report(folder)
    assert name in str(error.value)
    assert f"({key}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bug_in_a_page_is_no_fault_of_the_folder(tmp_path, monkeypatch):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,))
    monkeypatch.setattr("xclimb.report.tables.settings", lambda fields: fields.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        write_report(folder)


def test_run_records_of_version_0_1_are_upgraded():
    record = RunRecord.model_validate(run_record("residual") | {"inputs": {"data": "a.extxyz", "val": None}})
    assert record.inputs == {"data": ["a.extxyz"], "val": None}


def test_lines_keep_the_order_of_their_entries(tmp_path):
    numbers = {"loss": 0.1, "energy_mae": 1.0, "forces_mae": 2.0, "stress_mae": None, "magmom_mae": None}
    epoch = {"epoch": 0, "step": 0, "lr": 1e-3, "seconds": 0.5, "atoms_per_second": None, "train": None, "val": numbers}
    spike = {"kind": "spike", "step": 3, "epoch": 1, "loss": 9.0, "usual": 0.1, "frames": ["a"]}
    diverged = {"kind": "divergence", "step": 3, "epoch": 1, "loss": 9.0, "first": 0.1}
    for name, line in (("metrics.jsonl", epoch), ("events.jsonl", spike), ("events.jsonl", diverged)):
        (tmp_path / name).write_text(json.dumps(line) + "\n")
        (read,), cut = read_lines(tmp_path / name, line_schema(name), "xclimb transfer")
        assert json.dumps(read.model_dump(exclude_unset=True)) == json.dumps(line)
        assert not cut


def test_a_diverged_run_and_elements_without_uncertainty_make_a_page(tmp_path):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,))
    file = folder / "runs" / "residual-0" / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1]["val"]["energy_mae"], lines[-1]["lr"] = 1e25, 1e30
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = json.loads((folder / "shift.json").read_text())
    content["element_std"] = dict.fromkeys(content["element_std"])
    (folder / "shift.json").write_text(json.dumps(content))
    assert write_report(folder).exists()
