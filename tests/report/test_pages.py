"""Sections of pages: the registry, and the recipe of CONTRIBUTING.md for a new figure."""

import json
import re
import sys
from pathlib import Path

import pytest

from report.synthetic import write_run
from report.test_report import words
from report.test_run_page import add_sets
from xclimb.report import read_folder, write_report
from xclimb.report.pages import SECTIONS, Section, figures, register, sections
from xclimb.report.static import write_figures
from xclimb.report.tables import Cell, Table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry(monkeypatch):
    """The registry, which is afterwards what it was."""
    before = dict(SECTIONS)
    yield
    SECTIONS.clear()
    SECTIONS.update(before)


@pytest.fixture
def rate(registry, tmp_path, monkeypatch):
    """The section of the recipe, from a file like one in the folder of the pages."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Adding a figure", 1)[1]
    (tmp_path / "rate_section.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("rate_section")
    yield
    del sys.modules["rate_section"]


def test_a_new_figure_is_one_file(rate, tmp_path):
    folder = write_run(tmp_path / "run", epochs=4)
    page = write_report(folder).read_text(encoding="utf-8")
    names = re.findall(r'<section id="([^"]+)">', page)
    assert names[names.index("training") + 1] == "rate"
    assert '<a href="#rate">Learning rate</a>' in page
    assert "The learning rate at the end of each epoch." in page
    assert "It falls along half a cosine" in words(page)
    drawn = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert drawn["rate"]["data"][0]["y"] == [line["lr"] for line in lines if line["lr"] is not None]
    write_figures({"rate": figures("run", read_folder(folder))["rate"]}, tmp_path / "figures")
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"rate.svg", "rate.png"}


def test_a_section_without_what_it_needs_is_left_out(rate, tmp_path):
    folder = write_run(tmp_path / "run", epochs=4)
    (folder / "metrics.jsonl").unlink()
    assert 'id="rate"' not in write_report(folder).read_text(encoding="utf-8")


def test_a_table_alone_is_a_section(registry, tmp_path):
    register(Section("run", "seed", "Seed", table=lambda run: Table([("Seed", "")], [[Cell(f"<{run.record.seed}>")]])))
    assert sections("run")[-1].name == "seed"
    page = write_report(write_run(tmp_path / "run", seed=3, epochs=2)).read_text(encoding="utf-8")
    assert "&lt;3&gt;" in page.split('<section id="seed">')[1]


def test_the_true_reason_for_no_intervals_is_named(tmp_path):
    folder = write_run(tmp_path / "run")
    assert "Intervals need predictions.json, which is not in this folder." in words(write_report(folder).read_text())
    add_sets(folder, test=True)
    assert "Intervals need" not in words(write_report(folder).read_text())
    content = json.loads((folder / "predictions.json").read_text())
    for one in content.values():
        one["material_id"] = ["trajectory"] * len(one["material_id"])
    (folder / "predictions.json").write_text(json.dumps(content))
    assert "Intervals need frames of at least five materials, and these are of one material." in words(
        write_report(folder).read_text()
    )
