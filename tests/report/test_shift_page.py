import csv
import html
import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, read_pairs
from comparison.planted import plant
from report.browser import needs_chromium, probe
from report.test_report import words
from xclimb.comparison.shift import ShiftReport, shift
from xclimb.errors import DataError
from xclimb.references import AtomRef
from xclimb.report import write_report
from xclimb.report.pages import assemble, figures
from xclimb.report.shift_figures import family_figure, held_out_figure, histogram_bound, left_over_histogram, trend_figure
from xclimb.report.shift_files import csv_files, write_shift
from xclimb.report.shift_tables import number_table
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
    tables = {
        f"{name}.csv"
        for name in (
            "numbers",
            "elements",
            "references",
            "families",
            "held_out",
            "pairs",
            "outliers",
            "advice",
            "stability",
            "importance",
        )
    }
    assert {file.name for file in folder.iterdir()} == {"shift.json", "report.html", "figures"} | tables
    drawn = figures("shift", report().to_dict())
    assert {file.name for file in (folder / "figures").iterdir()} == {
        f"{name}.{kind}" for name in drawn for kind in ("svg", "png")
    }
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
    assert sum(int(row["n_pairs"]) for row in table(folder / "families.csv")) == 385
    held_out = {row["references"]: float(row["held_out_mae_meV"]) for row in table(folder / "held_out.csv")}
    assert held_out == pytest.approx(report().reference_depth["errors"])
    outliers = table(folder / "outliers.csv")
    assert (len(outliers), outliers[0]["frame_id"]) == (50, "S-trig/0")
    assert [row["advice"] for row in table(folder / "advice.csv")] == [one["sentence"] for one in report().advice]


def test_references_beside_those_of_the_low_side(folder):
    for row in table(folder / "references.csv"):
        known = report().reference_rows["elements"][row["element"]]
        assert float(row["difference_eV"]) == pytest.approx(report().elements[row["element"]], abs=1e-6)
        assert float(row["fitted_eV"]) - float(row["source_eV"]) == pytest.approx(float(row["difference_eV"]), abs=1e-6)
        assert float(row["std_eV"]) == pytest.approx(known["std"])
    text = (folder / "report.html").read_text()
    assert "fitted to the r2SCAN energies alone (raw), beside the same fit to the PBE energies" in text


def test_references_beside_those_of_a_potential():
    low, high = read_pairs(DFT_PAIRS)
    values = np.full(119, np.nan)
    values[8] = -5.0

    class Potential:
        name, theory, references = "<mine>", low.theory, AtomRef(values, np.isfinite(values))

        def label(self, frames):
            return low

    text = assemble("shift", shift(low, high, source=Potential()).to_dict())
    assert "beside the table of &lt;mine&gt;" in text
    rows = shift(low, high, source=Potential()).reference_rows
    assert rows["kind"] == "raw"
    assert rows["elements"]["O"]["source"] == -5.0
    assert np.isnan(rows["elements"]["H"]["difference"])


def test_an_older_report_without_references_and_structures_makes_a_page():
    plain = {name: value for name, value in report().to_dict().items() if name not in ("reference_rows", "structures")}
    again = ShiftReport.from_dict(plain)
    assert (again.reference_rows, again.structures) == ({}, [])
    text = assemble("shift", again.to_dict())
    assert '<section id="outliers">' in text
    assert "References of all" not in text


def test_the_page_is_made_again_from_its_folder(folder, tmp_path):
    (tmp_path / "shift.json").write_bytes((folder / "shift.json").read_bytes())
    assert write_report(tmp_path) == tmp_path / "report.html"
    again = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert again == {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "change",
    [lambda plain: plain.pop("elements"), lambda plain: plain.update(left_over="no"), lambda plain: plain.update(mean=[])],
)
def test_a_broken_report_is_named(tmp_path, change):
    plain = report().to_dict()
    change(plain)
    (tmp_path / "shift.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=r"shift.json is not what xclimb shift --out writes"):
        write_report(tmp_path)


def test_page_is_whole_and_small(folder):
    text = (folder / "report.html").read_text()
    assert len(text) < 5e6
    assert not re.search(r"(src|href)=\"https?:", text)
    for name in ("advice", "elements", "energies", "families", "references", "stability", "importance", "outliers", "numbers"):
        assert f'<section id="{name}">' in text
    assert "r2SCAN energies lie 4.12 ± 3.33 eV/atom below those of PBE." in text
    for one in report().advice:
        assert html.escape(one["sentence"]).replace("&#x27;", "&#39;").replace(" -", " −") in text


def test_ten_thousand_pairs_stay_small():
    low, high = plant(np.random.default_rng(0), n_materials=2500, frames_each=4)
    found = shift(low, high)
    text = assemble("shift", found.to_dict())
    assert len(text.encode()) < 5e6
    assert "1,500 of 10,000 pairs are drawn" in text
    assert len(json.dumps(found.to_dict())) < 300 * 10_000  # bytes a pair
    assert sum(map(len, csv_files(found).values())) < 150 * 10_000


def test_a_page_of_more_pairs_is_no_larger():
    sizes = [
        len(assemble("shift", shift(*plant(np.random.default_rng(0), n_materials=600, frames_each=each)).to_dict()))
        for each in (4, 40)
    ]
    assert sizes[1] < 1.05 * sizes[0]


def test_few_pairs_without_labels():
    low, high = plant(np.random.default_rng(0), n_materials=3, frames_each=1)
    blank = {"forces": np.full(low.forces.shape, np.nan), "stress": np.full((3, 3, 3), np.nan)}
    text = assemble("shift", shift(low.replace(**blank), high.replace(**blank)).to_dict())
    assert "too few materials to hold any out" in text
    assert "undetermined" in text
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.S).replace('data-sort="nan"', "").lower().split()


def test_names_cannot_break_out():
    evil = "</script><script>alert(1)</script>"
    names = np.array([evil] * report().n_pairs)
    text = assemble("shift", replace(report(), frame_id=names, material_id=names, formula=names, notes=(evil,)).to_dict())
    assert evil not in text


def test_figures_show_what_they_are_given():
    plain = report().to_dict()
    bars = left_over_histogram(plain).data[0]
    assert sum(bars.y) == 385  # those beyond the ends are in the outermost bars
    bound, beyond = histogram_bound(plain["left_over"])
    assert beyond == (np.abs(report().left_over) > bound).sum() > 0
    family = family_figure(report().families, report().intervals["left_over_mae"])
    assert list(family.data[0].x)[::-1] == [row["mean"] for row in report().families]
    assert len(family.layout.shapes) == 1
    assert sorted(mark.x[0] for mark in held_out_figure(report().reference_depth["errors"]).data) == sorted(
        report().reference_depth["errors"].values()
    )
    assert len(trend_figure(plain).data[0].x) == 59
    grouped = replace(report(), undetermined=(("Ni", "Co"),)).to_dict()
    assert len(trend_figure(grouped).data[0].x) == 57


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
  for (const format of ["svg", "png"]) {
    const image = await Plotly.toImage(document.querySelector("#energies .plot"), { format, width: 600, height: 300 });
    said[format] = image.slice(0, 14);
  }
  const asked = [];
  Plotly.downloadImage = (place, options) => asked.push(`${options.filename}.${options.format}`);
  document.querySelectorAll("#elements button[data-save]").forEach((button) => button.click());
  said.asked = asked.join(" ");
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
    assert len(said["plots"]) == 11
    assert said["surface"] == (
        "rgb(23, 27, 34)" if theme == "light" else "rgb(254, 254, 254)"
    )  # the other one, after the click
    assert (said["before"], said["caption"]) == ("+458", "S, frame S-trig/0: +458 meV/atom left over.")
    assert said["up"].startswith("−")
    assert said["other"].startswith("NiO, frame NiO-afm")
    assert (said["edges"], said["marked"]) == (12, 1)
    assert said["balls"] == len(scene(report().structures[0]["low"])["atoms"]) // 4
    assert said["asked"] == "shift.svg shift.png trend.svg trend.png"
    assert (said["svg"], said["png"]) == ("data:image/svg", "data:image/png")
    assert said["turned"]
    assert said["back"]
    assert said["stays"]


def test_tiles_show_the_interval_of_their_own_number():
    plain = report().to_dict()
    page = words(assemble("shift", plain))
    for name, digits in (("scatter_mae", 1), ("pressure_mean", 2)):
        value, (low, high) = plain[name], plain["intervals"][name]
        assert low < value < high
        assert f"95 % {low:.{digits}f} to {high:.{digits}f}".replace("-", "−") in page
    rows = {row[0].text: row for row in number_table(plain).rows}
    assert rows["Left over after references, MAE"][2].text == "—"
    assert rows["Left over, corrected for the fit, MAE"][2].text != "—"
