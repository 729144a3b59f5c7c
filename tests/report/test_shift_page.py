import csv
import html
import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.pairs import DFT_PAIRS, read_pairs
from analysis.planted import plant
from report.browser import needs_chromium, probe
from xclimb.analysis.shift import ShiftReport, shift
from xclimb.errors import DataError
from xclimb.report.shift_figures import family_figure, held_out_figure, histogram_bound, left_over_histogram, trend_figure
from xclimb.report.shift_page import shift_page, write_shift
from xclimb.report.structures import scene


@cache
def report() -> ShiftReport:
    return shift(*read_pairs(DFT_PAIRS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("shift") / "new"
    assert write_shift(report(), place) == place / "report.html"
    return place


def table(file) -> list[dict]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def test_files_hold_the_report(folder):
    names = {"shift.json", "numbers.csv", "elements.csv", "families.csv", "pairs.csv", "report.html"}
    assert {file.name for file in folder.iterdir()} == names
    again = ShiftReport.from_dict(json.loads((folder / "shift.json").read_text()))
    assert again.to_dict() == report().to_dict()
    numbers = {row["number"]: row for row in table(folder / "numbers.csv")}
    assert float(numbers["mean"]["value"]) == pytest.approx(report().mean)
    assert float(numbers["mean"]["low"]) == pytest.approx(report().intervals["mean"][0])
    elements = {row["element"]: row for row in table(folder / "elements.csv")}
    assert float(elements["Al"]["shift_eV"]) == pytest.approx(report().elements["Al"])
    assert int(elements["Al"]["materials"]) == report().element_data["Al"]["materials"]
    pairs = table(folder / "pairs.csv")
    assert [row["frame_id"] for row in pairs] == report().frame_id.tolist()
    np.testing.assert_allclose([float(row["left_over_meV"]) for row in pairs], report().left_over, rtol=1e-8)
    assert sum(int(row["n_pairs"]) for row in table(folder / "families.csv")) == 263


def test_page_is_whole_and_small(folder):
    text = (folder / "report.html").read_text()
    assert len(text) < 5e6
    assert not re.search(r"(src|href)=\"https?:", text)
    for name in ("advice", "elements", "energies", "families", "references", "outliers", "numbers"):
        assert f'<section id="{name}">' in text
    assert "r2SCAN energies lie 2.52 ± 1.37 eV/atom below those of PBE." in text
    for one in report().advice:
        assert html.escape(one["sentence"]).replace("&#x27;", "&#39;").replace(" -", " −") in text


def test_ten_thousand_pairs_stay_small():
    low, high = plant(np.random.default_rng(0), n_materials=2500, frames_each=4)
    assert len(shift_page(shift(low, high).to_dict())) < 5e6


def test_few_pairs_without_labels():
    low, high = plant(np.random.default_rng(0), n_materials=3, frames_each=1)
    blank = {"forces": np.full(low.forces.shape, np.nan), "stress": np.full((3, 3, 3), np.nan)}
    text = shift_page(shift(low.replace(**blank), high.replace(**blank)).to_dict())
    assert "too few materials to hold any out" in text
    assert "undetermined" in text
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.S).replace('data-sort="nan"', "").lower().split()


def test_names_cannot_break_out():
    evil = "</script><script>alert(1)</script>"
    names = np.array([evil] * report().n_pairs)
    text = shift_page(replace(report(), frame_id=names, material_id=names, formula=names, notes=(evil,)).to_dict())
    assert evil not in text


def test_figures_show_what_they_are_given():
    plain = report().to_dict()
    bars = left_over_histogram(plain).data[0]
    assert sum(bars.y) == 263  # those beyond the ends are in the outermost bars
    bound, beyond = histogram_bound(plain["left_over"])
    assert beyond == (np.abs(report().left_over) > bound).sum() > 0
    family = family_figure(report().families, report().intervals["left_over_mae"])
    assert list(family.data[0].x)[::-1] == [row["mean"] for row in report().families]
    assert len(family.layout.shapes) == 1
    assert sorted(mark.x[0] for mark in held_out_figure(report().reference_depth["errors"]).data) == sorted(
        report().reference_depth["errors"].values()
    )
    assert len(trend_figure(plain).data[0].x) == 22
    grouped = replace(report(), undetermined=(("Ni", "Co"),)).to_dict()
    assert len(trend_figure(grouped).data[0].x) == 20


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to"):
        write_shift(report(), tmp_path / "file")


SCRIPT = """
  const table = document.querySelector("#outliers table"), svg = document.querySelector("#structure svg");
  const first = () => table.tBodies[0].rows[0].cells[1].textContent;
  const said = { before: first(), caption: document.querySelector("#structure figcaption").textContent };
  said.balls = svg.querySelectorAll("circle").length;
  said.edges = svg.querySelectorAll("line.edge").length;
  table.querySelectorAll("thead button")[1].click();
  said.up = first();
  const places = () => [...svg.querySelectorAll("circle")].map((ball) => ball.getAttribute("cx")).join();
  const before = places();
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
  said.turned = places() !== before;
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "0", bubbles: true }));
  said.back = places() === before;
  table.querySelector("tbody button").click();
  said.other = document.querySelector("#structure figcaption").textContent;
  said.marked = document.querySelectorAll("#outliers tr[aria-current]").length;
  said.stays = svg.getBoundingClientRect().width > 100;
  document.getElementById("theme").click();
  await wait(1000);
  return said;
"""


@needs_chromium
@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (400, "dark")])
def test_page_in_a_browser(folder, tmp_path, width, theme):
    said = probe(folder / "report.html", tmp_path, SCRIPT, width, theme)
    assert len(said["plots"]) == 6
    assert said["surface"] == (
        "rgb(23, 27, 34)" if theme == "light" else "rgb(254, 254, 254)"
    )  # the other one, after the click
    assert (said["before"], said["caption"]) == ("+458", "S, frame S-trig/0: +458 meV/atom left over.")
    assert said["up"].startswith("−")
    assert said["other"].startswith("NiO, frame NiO-afm")
    assert (said["edges"], said["marked"]) == (12, 1)
    assert said["balls"] == len(scene(report().structures[0]["low"])["atoms"]) // 4
    assert said["turned"]
    assert said["back"]
    assert said["stays"]
