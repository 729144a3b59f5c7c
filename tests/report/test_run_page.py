"""The page of a run: before and after, parity, worst frames, elements, test set, and what it makes of less than all that."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from report.browser import WIDTHS, needs_chromium, probe
from report.synthetic import dump, metrics, write_run
from report.test_report import words
from xclimb.comparison.intervals import paired_difference
from xclimb.data.frames import Frames
from xclimb.data.theory import LevelOfTheory
from xclimb.errors import DataError
from xclimb.evaluation.absolute_errors import absolute_errors
from xclimb.evaluation.metrics import compare_labels
from xclimb.references import AtomRef
from xclimb.report import read_folder, write_report
from xclimb.report.run_summary import changes
from xclimb.runs.folder import to_builtin
from xclimb.transfer.predictions import describe_predictions

MATERIALS = 8


class Off:
    """A potential whose labels are those of the frames, moved by noise of a given size."""

    theory = LevelOfTheory()

    def __init__(self, size: float, seed: int):
        self.size, self.seed = size, seed

    def label(self, frames: Frames) -> Frames:
        rng = np.random.default_rng(self.seed)
        columns = {name: getattr(frames, name) for name in ("energy", "forces", "stress", "magmoms")}
        moved = {name: value + self.size * rng.normal(size=value.shape) for name, value in columns.items()}
        return replace(frames, **moved)


def some_frames(seed: int = 0, copies: int = 3) -> Frames:
    """Crystals of eight materials, three frames each, with all labels; the last frame has no forces."""
    rng = np.random.default_rng(seed)
    count = MATERIALS * copies
    numbers = np.tile([11, 17], count)
    forces = rng.normal(size=(2 * count, 3))
    forces[-2:] = np.nan
    return Frames(
        numbers=numbers,
        positions=rng.normal(0.0, 0.05, (2 * count, 3)) + np.tile([[0.0, 0.0, 0.0], [2.8, 2.8, 2.8]], (count, 1)),
        cells=np.tile(5.6 * np.eye(3), (count, 1, 1)),
        pbc=np.ones((count, 3), dtype=bool),
        offsets=np.arange(0, 2 * count + 1, 2),
        energy=rng.normal(-7.0, 0.5, count),
        forces=forces,
        stress=rng.normal(0.0, 0.02, (count, 3, 3)),
        magmoms=rng.normal(0.0, 0.5, 2 * count),
        material_id=np.repeat([f"m{k}" for k in range(MATERIALS)], copies),
        frame_id=np.array([f"f{k}" for k in range(count)]),
    )


def add_sets(folder, *, test: bool, worse_forces: bool = False) -> dict:
    """Predictions of a run folder, and the errors that go with them; gives what evaluation.json says."""
    before, after = Off(0.05, 1), Off(0.02, 2)
    sets = {"val": some_frames()} | ({"test": some_frames(5)} if test else {})
    errors = {
        name: {
            state: compare_labels(off.label(frames), frames).to_dict() for state, off in (("before", before), ("after", after))
        }
        for name, frames in sets.items()
    }
    if worse_forces:
        errors["test"]["after"]["forces_mae"] = 2.0 * errors["test"]["before"]["forces_mae"]
    dump(
        folder / "predictions.json",
        to_builtin(describe_predictions(before, after, AtomRef(np.zeros(119), np.ones(119, dtype=bool)), sets, 0)),
    )
    best = json.loads((folder / "run.json").read_text())["best_epoch"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[0]["val"], lines[best]["val"] = errors["val"]["before"] | {"loss": 2.0}, errors["val"]["after"] | {"loss": 1.0}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stored = {"val": errors["val"]["after"]} | ({"test": errors["test"]} if test else {})
    dump(folder / "evaluation.json", stored)
    return stored


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run") / "mine")
    return folder, add_sets(folder, test=True)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run[0], run[0] / "elsewhere.html").read_text(encoding="utf-8")


def test_every_section_stands(page):
    for name in ("evaluation", "parity", "worst", "by-element", "training", "references", "use", "provenance"):
        assert f'<section id="{name}">' in page
    for name in ("parity:test:after", "parity:test:before", "parity:val:after", "parity:val:before"):
        assert f'value="{name}"' in page
    assert "not in this folder" not in page.lower()


def test_errors_are_those_of_the_evaluation(run, page):
    found = {one.quantity: one for one in changes(read_folder(run[0]), "test")}
    for quantity, one in found.items():
        assert one.before == run[1]["test"]["before"][f"{quantity}_mae"]
        assert one.after == run[1]["test"]["after"][f"{quantity}_mae"]
    energy = found["energy"]
    assert f"energy {energy.before:.1f} to {energy.after:.1f} meV/atom ({100 * (energy.after / energy.before - 1):.0f}".replace(
        "(-", "(−"
    ) in words(page)
    assert energy.interval[0] < energy.after - energy.before < energy.interval[1] < 0.0
    assert energy.judged == "better"


def test_test_set_is_judged_by_and_validation_is_called_optimistic(page):
    assert "On the test set, from step 0 to the best epoch" in words(page)
    assert "their errors are optimistic" in words(page)


def test_what_got_worse_is_named(tmp_path):
    folder = write_run(tmp_path)
    add_sets(folder, test=True, worse_forces=True)
    text = words(write_report(folder).read_text(encoding="utf-8"))
    assert "Worse than before training: forces" in text
    assert "+100 %" in text


def test_parity_titles_name_the_errors_of_the_whole_set(run, page):
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, flags=re.S).group(1))
    titles = [note["text"] for note in figures["parity:test:after"]["layout"]["annotations"]]
    after = run[1]["test"]["after"]
    assert f"MAE {after['energy_mae']:.1f} meV/atom" in titles[0]
    assert titles[1].startswith("<b>Energy, referenced</b>")
    assert f"MAE {after['forces_mae']:.1f} meV/Å" in titles[2]
    assert len(titles) == 4


def test_worst_frames_are_worst_and_have_structures(run, page):
    predicted = read_folder(run[0]).predictions["test"]
    first = predicted.worst[0].row
    sizes = {name: np.array(predicted.errors[name].after, dtype=float) for name in ("energy", "forces")}
    off = np.fmax(*(size / np.nanmedian(size) for size in sizes.values()))
    assert off[first] == pytest.approx(np.nanmax(off))
    scenes = json.loads(re.search(r'id="structures">(.*?)</script>', page, flags=re.S).group(1))
    assert len(scenes) == len(predicted.worst)
    assert {element[0] for element in scenes[0][0]["elements"]} == {"Na", "Cl"}


def test_use_names_the_folder_and_the_functional(page):
    assert 'xclimb.Calculator("mine")' in words(page).replace("&#34;", '"')
    assert "xclimb evaluate mine test.extxyz --functional r2SCAN" in words(page)


def test_a_cross_fitted_run_is_judged_by_networks_that_did_not_see_the_frames(tmp_path):
    folder = write_run(tmp_path)
    info = json.loads((folder / "run.json").read_text())
    dump(folder / "run.json", info | {"folds": 4, "guard": {"epoch": 30, "share": 0.75}})
    text = words(write_report(folder).read_text(encoding="utf-8"))
    assert "judged by the one of 4 networks that was not trained on it" in text
    assert "optimistic" not in text
    assert re.search(r"to the best epoch \(\d+ of 30, 75 % of the way\)", text)


def test_no_step_no_chart(tmp_path):
    folder = write_run(tmp_path, epochs=1)
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    info = json.loads((folder / "run.json").read_text())
    dump(folder / "run.json", info | {"best_epoch": 0})
    page = write_report(folder).read_text(encoding="utf-8")
    assert "only the elemental references were exchanged" in words(page)
    assert 'data-figure="training"' not in page
    assert "Change" not in page


def test_runs_without_predictions_keep_their_page(tmp_path):
    folder = write_run(tmp_path)
    dump(
        folder / "evaluation.json",
        {"val": metrics(np.random.default_rng(0), 20.0, 40.0, 27), "test": metrics(np.random.default_rng(1), 25.0, 45.0)},
    )
    page = write_report(folder).read_text(encoding="utf-8")
    assert '<section id="parity">' not in page
    assert "predictions.json" in words(page)
    assert "no interval" in words(page)
    assert "25.0" in words(page)


@pytest.mark.parametrize("damage", ["short", "list", "row", "kind"])
def test_damaged_predictions_are_one_sentence(tmp_path, damage):
    folder = write_run(tmp_path)
    add_sets(folder, test=False)
    file = folder / "predictions.json"
    content = json.loads(file.read_text())
    if damage == "short":
        content["val"]["models"]["after"]["forces"].pop()
    elif damage == "row":
        content["val"]["worst"][0]["row"] = 999
    elif damage == "kind":
        content["val"]["elements"]["Na"]["after"] = "x"
    dump(file, [content] if damage == "list" else content)
    with pytest.raises(DataError, match=r"predictions\.json") as error:
        write_report(folder)
    assert "\n" not in str(error.value)


def test_large_sets_are_sampled_with_a_seed(monkeypatch):
    monkeypatch.setattr("xclimb.transfer.predictions.MOST_FRAMES", 10)
    monkeypatch.setattr("xclimb.transfer.predictions.MOST_COMPONENTS", 20)
    zero = AtomRef(np.zeros(119), np.ones(119, dtype=bool))
    one, again = (
        to_builtin(describe_predictions(Off(0.05, 1), Off(0.02, 2), zero, {"val": some_frames()}, 3))["val"] for _ in range(2)
    )
    assert one == again
    assert one["n_frames"] == 24
    assert len(set(one["frame_id"])) == 10
    assert len(one["reference"]["forces"]) == len(one["models"]["after"]["stress"]) == 20
    assert None not in one["reference"]["forces"]


def test_interval_over_materials():
    frames = some_frames()
    errors = absolute_errors(Off(0.05, 1).label(frames), frames)["energy"][:, 0]
    groups = np.unique(frames.material_id, return_inverse=True)[1]
    ones = np.ones(len(errors))
    low, high = paired_difference(errors, 0.5 * errors, ones, groups)
    change = -0.5 * errors.mean()
    assert low < change < high < 0.0
    assert paired_difference(errors, errors, ones, groups) == (0.0, 0.0)
    assert np.isnan(paired_difference(errors[:6], errors[:6], ones[:6], groups[:6])).all()  # two materials


SCRIPT = """
  const rows = document.querySelectorAll("#worst tbody tr");
  rows[1].click();
  const select = document.getElementById("model");
  select.value = "parity:val:before";
  select.dispatchEvent(new Event("change"));
  await wait(500);
  const table = document.querySelector("[data-figure=elements]");
  return { told: document.querySelector("#structure figcaption").textContent,
           balls: document.querySelectorAll("#structure circle").length, scrolls: table.scrollWidth - table.clientWidth };
"""


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_run_page_in_a_browser(run, tmp_path, width):
    page = write_report(run[0], tmp_path / "report.html")
    said = probe(page, tmp_path, SCRIPT, width)
    assert "meV/atom" in said["told"]
    assert "was" not in said["told"]
    assert said["balls"] > 1
    assert (said["scrolls"] > 300) == (width == 400)  # values stay readable: the table is wider than a telephone
