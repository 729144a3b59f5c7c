"""The report page: what stands in it, what it survives, and that it needs nothing but itself."""

import contextlib
import csv
import json
import re
import shutil

import pytest

from report.synthetic import METHODS, dump, run_record, write_run, write_study
from xclimb.errors import DataError, ReferencesError, XclimbError
from xclimb.report import read_folder, write_report

MEGABYTE = 1e6


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(study):
    return write_report(study).read_text(encoding="utf-8")


@pytest.fixture
def small(tmp_path):
    """A small study that a test may damage."""
    return write_study(tmp_path / "study", methods=("frozen", "residual"), seeds=(0,))


def words(page: str) -> str:
    """The visible text of a page."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_all_sections_and_small_enough(page):
    for name in ("shift", "references", "training", "parity", "errors", "retention", "provenance"):
        assert f'<section id="{name}">' in page
    assert len(page.encode()) < 3 * MEGABYTE
    assert "not in this folder" not in page.lower()


def test_needs_no_network(page):
    without_library = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", page, flags=re.S)
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", without_library)
    assert not re.findall(r"\b(?:src|href)=\"(?!#)", without_library)
    assert "default-src 'none'" in page


def test_numbers_are_those_of_the_folder(study, page):
    rows = json.loads((study / "results.json").read_text())
    energies = [
        row["value"]
        for row in rows["rows"]
        if (row["model"], row["split"], row["metric"], row["labels"]) == ("residual", "test", "energy_mae", "target")
    ]
    mean = sum(energies) / len(energies)
    spread = (sum((energy - mean) ** 2 for energy in energies) / (len(energies) - 1)) ** 0.5
    text = words(page)
    assert f"residual has the lowest energy error: {mean:.1f} ± {spread:.1f} meV/atom" in text
    assert "0.8160" in text
    assert "0.9953" in text
    assert "DFT labels" in text
    assert "2884" in text
    assert "K–Cl" in text
    assert "72 elements without data" in text


def test_best_of_each_column_is_marked_and_missing_is_a_dash(page):
    table = re.search(r'aria-label="Errors of every model on the test set".*?</table>', page, flags=re.S).group()
    rows = dict(re.findall(r'<th scope="row"[^>]*>([^<]*)(.*?)</tr>', table, flags=re.S))
    assert next(iter(rows)) == "chgnet-0.3.0"
    assert set(METHODS) < set(rows)
    assert "best" in rows["residual"]
    assert [("best" in cell) for cell in re.findall(r'<td class="([^"]*)"', rows["frozen"])[:4]] == [
        False
    ] * 4  # energy, forces
    assert "—" in rows["chgnet-r2scan"]


def test_teacher_labels_are_named(tmp_path):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,), labels="potential", sample=None)
    assert "teacher labels" in words(write_report(folder).read_text(encoding="utf-8"))


def test_says_when_nothing_was_gained(small):
    rows = json.loads((small / "results.json").read_text())
    for row in rows["rows"]:
        if row["kind"] == "method" and row["metric"] == "energy_mae":
            row["value"] = 90.0
    dump(small / "results.json", rows)
    text = words(write_report(small).read_text(encoding="utf-8"))
    assert "training gained nothing in energy" in text


def test_results_csv(study, page):
    with (study / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stored = json.loads((study / "results.json").read_text())
    energies = [row["value"] for row in stored["rows"] if row["metric"] == "energy_mae" and row["labels"] == "target"]
    assert [float(row["energy_mae"]) for row in rows] == pytest.approx(energies)
    assert rows[-1]["seed"] == "2"
    assert any(row["magmom_mae"] == "" for row in rows)


def test_same_folder_same_page(study, page, tmp_path):
    again = write_report(study, tmp_path / "else" / "page.html")
    assert again == tmp_path / "else" / "page.html"
    assert again.read_text(encoding="utf-8") == page
    assert sorted(file.name for file in again.parent.iterdir()) == ["page.html", "results.csv"]
    assert write_report(study, tmp_path / "folder") == tmp_path / "folder" / "report.html"


def test_hostile_names_stay_text(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,), title=evil, source=evil)
    shift = json.loads((folder / "shift.json").read_text())
    shift["frame_id"] = [evil] * len(shift["frame_id"])
    shift["notes"] = [evil]
    dump(folder / "shift.json", shift)
    predictions = json.loads((folder / "predictions.json").read_text())
    predictions["models"][evil] = predictions["models"].pop("residual")
    dump(folder / "predictions.json", predictions)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;img" in page


def test_paths_of_the_machine_are_not_published(tmp_path):
    private = {"out": "/home/someone/secret/runs/x", "train": ["C:\\Users\\someone\\a.extxyz"]}
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,), settings=private)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "someone" not in page
    assert str(tmp_path) not in page
    assert "…/x" in page


# -- runs ------------------------------------------------------------------------------------------------


def test_run_page(tmp_path):
    folder = write_run(tmp_path, "residual", state="interrupted")
    page = write_report(folder).read_text(encoding="utf-8")
    text = words(page)
    assert "the run is interrupted" in text
    assert "On the validation set, from step 0 to the best epoch" in text
    for name in ("training", "references", "evaluation", "provenance"):
        assert f'<section id="{name}">' in page
    assert (tmp_path / "results.csv").read_text().count("\n") == 3


def test_run_kept_at_epoch_zero(tmp_path):
    folder = write_run(tmp_path)
    info = json.loads((folder / "run.json").read_text())
    dump(folder / "run.json", info | {"best_epoch": 0})
    assert "nothing was gained" in words(write_report(folder).read_text(encoding="utf-8"))


def test_run_with_nothing_but_run_json(tmp_path):
    dump(tmp_path / "run.json", run_record("residual"))
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "metrics.jsonl is not in this folder" in text
    assert "config.yaml, metrics.jsonl, references.json, evaluation.json" in text


def test_study_with_nothing_but_study_json(tmp_path):
    folder = write_study(tmp_path)
    for file in folder.iterdir():
        if file.name != "study.json":
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    text = words(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "there is no verdict" in text
    assert "shift.json, results.json, predictions.json, runs/, references/" in text


def test_last_line_cut_off_by_a_kill_is_told(tmp_path):
    folder = write_run(tmp_path, epochs=5)
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text()[:-30])
    run = read_folder(folder)
    assert [line.epoch for line in run.epochs] == [0, 1, 2, 3, 4]
    assert "cut off" in words(write_report(folder).read_text(encoding="utf-8"))


# -- broken folders ----------------------------------------------------------------------------------------


def one_sentence(error) -> bool:
    text = str(error.value)
    return "\n" not in text and not text.endswith(".") and "Traceback" not in text


@pytest.mark.parametrize("name", ["study.json", "shift.json", "results.json", "predictions.json", "references/raw.json"])
def test_truncated_json_is_named(small, name):
    file = small / name
    file.write_text(file.read_text()[:-20])
    with pytest.raises((DataError, ReferencesError), match=re.escape(file.name)) as error:
        write_report(small)
    assert one_sentence(error)
    assert not (small / "report.html").exists()


def test_broken_line_and_yaml_are_named(tmp_path):
    folder = write_run(tmp_path, epochs=4)
    (folder / "config.yaml").write_text("a: [1, 2")
    with pytest.raises(DataError, match=r"config\.yaml") as error:
        write_report(folder)
    assert one_sentence(error)
    (folder / "config.yaml").unlink()
    file = folder / "metrics.jsonl"
    file.write_text("not json\n" + file.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 1") as error:
        write_report(folder)
    assert one_sentence(error)


@pytest.mark.parametrize("make", ["missing", "file", "empty"])
def test_not_a_run_folder(tmp_path, make):
    folder = tmp_path / "x"
    if make == "file":
        folder.write_text("")
    elif make == "empty":
        folder.mkdir()
    with pytest.raises(DataError, match="give the folder that") as error:
        write_report(folder)
    assert one_sentence(error)


def test_unwritable_place(small, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="cannot be written") as error:
        write_report(small, tmp_path / "taken" / "page.html")
    assert one_sentence(error)


ODD = (
    "null",
    "3",
    "[]",
    "{}",
    "[null]",
    '[{"a": null}]',
    '{"mean": null, "elements": {"H": {}}}',
    '{"reference": {}, "models": {"a": []}}',
    '{"energies": {"H": "x"}, "uncovered": 3}',
    '{"theory": [1], "data": [1], "settings": [1], "versions": 3, "seeds": 3}',
    '{"theory": null, "best_epoch": "x", "seed": "y", "seeds": ["a"], "methods": null}',
    '{"test": {"energy_mae": "x", "n_frames": null}}',
    '[{"model": 1, "seed": "x", "metrics": {"energy_mae": [1]}}]',
)


@pytest.mark.parametrize("name", ["study", "shift", "results", "predictions", "references/raw"])
def test_any_json_in_a_study_gives_a_page_or_a_sentence(tmp_path, name):
    folder = write_study(tmp_path, methods=("residual",), seeds=(0,))
    if name != "predictions":
        (folder / "predictions.json").unlink()  # for speed
    for content in ODD:
        (folder / f"{name}.json").write_text(content)
        with contextlib.suppress(XclimbError):  # nothing else may come out
            write_report(folder)


@pytest.mark.parametrize("name", ["run.json", "references.json", "evaluation.json", "metrics.jsonl", "config.yaml"])
def test_any_json_in_a_run_gives_a_page_or_a_sentence(tmp_path, name):
    folder = write_run(tmp_path, epochs=3)
    for content in ODD:
        (folder / name).write_text(content)
        with contextlib.suppress(XclimbError):
            write_report(folder)


def test_older_page_survives_a_failure(small):
    page = write_report(small)
    before = page.read_text(encoding="utf-8")
    (small / "shift.json").write_text("{")
    with pytest.raises(DataError):
        write_report(small)
    assert page.read_text(encoding="utf-8") == before
    assert not [file for file in small.iterdir() if file.suffix == ".tmp"]


def test_a_run_folder_may_be_gone(small):
    shutil.rmtree(small / "runs")
    assert "no training curves are shown" in words(write_report(small).read_text(encoding="utf-8"))
