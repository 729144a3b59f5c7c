"""Stability, element importance and angles on the shift page."""

import csv
import io
import re
from functools import cache

import numpy as np
import pytest

from comparison.pairs import DFT_PAIRS, read_pairs
from comparison.planted import plant
from comparison.test_stability import HIGH, LOW, frames_of
from xclimb.comparison.shift import ShiftReport, shift
from xclimb.data.theory import LevelOfTheory
from xclimb.report.importance_figures import importance_figures, importance_notes
from xclimb.report.pages import assemble
from xclimb.report.shift_figures import angle_histogram, family_figure
from xclimb.report.shift_files import csv_files
from xclimb.report.shift_tables import family_table
from xclimb.report.stability_figures import changed_table, stability_caption, stability_figures


@cache
def report() -> ShiftReport:
    return shift(*read_pairs(DFT_PAIRS))


@cache
def hull() -> ShiftReport:
    return shift(frames_of(LOW), frames_of(HIGH).with_theory(LevelOfTheory("r2SCAN")))


def words(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_a_compound_that_changes_side_is_drawn_and_named():
    plain = hull().to_dict()
    fig = stability_figures(plain, "PBE", "r2SCAN")["stability"]
    points = [trace for trace in fig.data if trace.mode == "markers"]
    ends = fig.layout.xaxis2.range
    assert ends == fig.layout.yaxis2.range
    assert ends[0] < min(*points[1].x, *points[1].y, 0.0)  # the lines of the hull are in the figure
    assert ends[1] > max(*points[1].x, *points[1].y, 0.0)
    assert [len(trace.x) for trace in points] == [3, 3]
    odd = [name for name, tint in zip(points[1].text, points[1].marker.color, strict=True) if tint != points[1].marker.color[0]]
    assert len(odd) == 1
    assert "Li2O2" in odd[0]
    (row,) = changed_table(plain).rows
    assert [cell.text for cell in row] == ["LiO", "+50", "−25", "high"]
    page = words(assemble("shift", plain))
    assert "1 compound changes side of the hull" in page
    assert "needs 30 compounds" in page


def test_real_pairs_without_all_end_points():
    plain = report().to_dict()
    told = stability_caption(plain)
    assert told.startswith("29 compounds of 28 chemical systems (all end points from the data)")
    assert changed_table(plain) is None
    assert "O (30 compounds)" in words(assemble("shift", plain))
    low, high = (side[side.material_id == "MgO-rs"] for side in read_pairs(DFT_PAIRS))
    alone = shift(low, high).to_dict()
    assert stability_figures(alone, "PBE", "r2SCAN") == {}
    assert "No formation energies: none of the 1 compounds" in words(assemble("shift", alone))


def test_importance_is_drawn_with_and_without_corrections():
    plain = report().to_dict()
    drawn = importance_figures(plain)
    assert list(drawn) == ["importance_plain", "importance_corrected", "importance_check"]
    assert np.nansum(np.array(drawn["importance_plain"].data[1].z, dtype=float)) == pytest.approx(100.0)
    told = " ".join(importance_notes(plain))
    assert "139 compounds; R² on compounds held out " in told
    assert "135 compounds; 4 left out" in told
    assert "hardly anything: neither its importances" in told
    other = dict(plain, importance=dict(plain["importance"], corrected={"absent": "the low side is SCAN"}))
    assert list(importance_figures(other)) == ["importance_plain", "importance_check"]
    assert "With MP2020 corrections: the low side is SCAN." in importance_notes(other)
    better = dict(plain["importance"]["plain"], held_out_r2=0.8)
    told = importance_notes(dict(plain, importance=dict(plain["importance"], plain=better)))
    assert told[-1].startswith("The forest predicts hardly anything with MP2020 corrections:")


def test_importance_that_explains_nothing_is_folded_away():
    plain = report().to_dict()
    page = assemble("shift", plain)
    folded = page.index("Importances that mean nothing")
    assert folded < page.index('data-figure="importance_plain"') < page.index("</details>", folded)
    assert folded < page.index('data-figure="importance_check"') < page.index("</details>", folded)
    better = dict(plain["importance"]["plain"], held_out_r2=0.8)
    page = assemble("shift", dict(plain, importance=dict(plain["importance"], plain=better)))
    folded = page.index("Importances that mean nothing")
    assert page.index('data-figure="importance_plain"') < folded < page.index('data-figure="importance_corrected"')
    assert page.index('data-figure="importance_check"') > page.index("</details>", folded)


def test_tables_for_a_spreadsheet():
    files = csv_files(report())
    stable = list(csv.DictReader(io.StringIO(files["stability.csv"])))
    assert len(stable) == 29
    assert float(stable[0]["formation_low"]) == pytest.approx(report().stability["formation_low"][0])
    rows = list(csv.DictReader(io.StringIO(files["importance.csv"])))
    assert {row["corrections"] for row in rows} == {"plain", "corrected"}
    assert sum(float(row["importance"]) for row in rows) == pytest.approx(2.0)


def test_angles_and_intervals_of_families():
    plain = report().to_dict()
    bars = angle_histogram(plain).data[0]
    assert [count or 0 for count in bars.y] == plain["force_angles"]
    lines = next(trace for trace in family_figure(plain["families"]).data if trace.mode == "lines+markers")
    shown = [row["intervals"]["left_over_mae"] for row in plain["families"][::-1] if row["intervals"]]
    assert [x for x in lines.x if x is not None] == [end for pair in shown for end in pair]
    first = family_table(plain).rows[0]
    low, high = plain["families"][0]["intervals"]["mean"]
    assert any(cell.aside == f"{low:.3f} to {high:.3f}".replace("-", "−") for cell in first)


def test_an_older_shift_without_any_of_it_makes_a_page():
    plain = shift(*plant(np.random.default_rng(0), n_materials=40)).to_dict()
    for name in ("stability", "importance", "force_angles"):
        plain.pop(name)
    for row in plain["families"]:
        row.pop("intervals")
    page = words(assemble("shift", plain))
    assert "This shift holds no formation energies." in page
    assert "This shift holds no element importance." in page
