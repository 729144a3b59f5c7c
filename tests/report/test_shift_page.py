import csv
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.pairs import DFT_PAIRS, read_pairs
from analysis.planted import plant
from report.test_browser import CHROMIUM, FLAGS
from xclimb.analysis.shift import ShiftReport, shift
from xclimb.errors import DataError
from xclimb.report.shift_figures import family_figure, held_out_figure, histogram_bound, left_over_histogram, trend_figure
from xclimb.report.shift_page import shift_page, write_shift


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


PROBE = """
<script>
addEventListener("load", async () => {
  const troubles = [];
  addEventListener("error", (event) => troubles.push(event.message));
  addEventListener("securitypolicyviolation", (event) => troubles.push(event.blockedURI));
  while (!document.body.dataset.drawn) await new Promise((done) => setTimeout(done, 50));
  const table = document.querySelector("#outliers table");
  const first = () => table.tBodies[0].rows[0].cells[1].textContent;
  const before = first();
  table.querySelectorAll("thead button")[1].click();
  const up = first();
  document.getElementById("theme").click();
  await new Promise((done) => setTimeout(done, 1000));
  const said = {
    troubles, before, up, width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth,
    plots: [...document.querySelectorAll(".plot")].map((plot) => plot.querySelectorAll(".main-svg").length),
    surface: getComputedStyle(document.body).backgroundColor,
  };
  const text = "PROBE" + JSON.stringify(said) + "PROBE";
  if (parent === window) document.body.textContent = text;
  else parent.postMessage(text, "*");
});
</script>
"""
FRAME = """<body style="margin:0"><iframe src="page.html?theme=light" style="width:400px;height:900px;border:0"></iframe>
<script>addEventListener("message", (event) => { document.body.textContent = event.data; });</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("name", "width"), [("page.html?theme=light", 1280), ("frame.html", 400)])
def test_page_in_a_browser(folder, tmp_path, name, width):
    probed = (folder / "report.html").read_text().replace("</body>", PROBE + "</body>")
    (tmp_path / "page.html").write_text(probed)
    (tmp_path / "frame.html").write_text(FRAME)
    command = [CHROMIUM, *FLAGS.split(), "--window-size=1280,900", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, f"file://{tmp_path / name}"], capture_output=True, text=True, timeout=120, check=False)
    shutil.rmtree(tmp_path / "profile", ignore_errors=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    said = json.loads(html.unescape(re.search(r"PROBE(\{.*\})PROBE", done.stdout, flags=re.S).group(1)))
    assert said["width"] == width
    assert said["overflow"] <= 0
    assert said["troubles"] == []
    assert len(said["plots"]) == 6
    assert all(count > 0 for count in said["plots"])
    assert said["before"] == "+458"
    assert said["up"].startswith("−")
    assert said["surface"] == "rgb(23, 27, 34)"
