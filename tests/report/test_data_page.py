import json
import re

import numpy as np
import pytest

from data.made import crystals
from xclimb.cli.overview import overview
from xclimb.data.frames import Frames
from xclimb.data.samples import load_sample
from xclimb.report.figures import count_table
from xclimb.report.pages.data import data_page


@pytest.fixture(scope="module")
def found():
    return overview(load_sample("dft_pairs", "r2SCAN"))


def drawn(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])


def test_counts_and_histograms_are_those_of_the_data(found):
    frames = load_sample("dft_pairs", "r2SCAN")
    assert found["elements"]["O"] == sum(8 in frames.numbers[frames.system == s] for s in range(len(frames)))
    for name, values in (("energy (eV/atom)", frames.energy_per_atom), ("atoms a frame", frames.n_atoms)):
        bins = found["histograms"][name]
        assert sum(bins["counts"]) == len(values)
        inner = (values > bins["edges"][1]) & (values < bins["edges"][-2])
        assert sum(bins["counts"][1:-1]) == inner.sum()
    assert sum(found["histograms"]["stress component (GPa)"]["counts"]) == 6 * len(frames)


def test_one_wild_value_does_not_squeeze_the_histogram():
    frames = crystals(copies=400)
    energy = frames.energy + np.linspace(0, 1, 1200) * frames.n_atoms
    energy[7] = 1e6
    edges = overview(frames.replace(energy=energy))["histograms"]["energy (eV/atom)"]["edges"]
    assert -4.1 < edges[0] < edges[-1] < -2.9


def test_page_is_whole(found):
    page = data_page("data/<r2scan>", found)
    assert len(page) < 5e6
    assert not re.search(r"(src|href)=\"https?:", page)
    assert "data/&lt;r2scan&gt;" in page
    figures = drawn(page)
    assert set(figures) == {"elements", *(f"histogram-{n}" for n in range(len(found["histograms"])))}
    for name in figures:
        assert f'data-figure="{name}"' in page
    assert "177 materials at r2SCAN" in page
    assert "GPAW" in page


def test_the_periodic_table_is_logarithmic():
    fig = count_table({"H": 1, "O": 100_000, "U": 3}, "frames")
    values = {z for row in fig.data[1].z for z in row if np.isfinite(z)}
    assert values == {0.0, 5.0, np.log10(3)}
    assert fig.data[1].colorbar.ticktext[-1] == "100 000"
    assert "<b>O</b><br>100k" in fig.data[2].text


@pytest.mark.parametrize("frames", [Frames.empty(), crystals().replace(energy=None, forces=None, stress=None, magmoms=None)])
def test_sets_with_little_in_them(frames):
    page = data_page("few", overview(frames))
    assert ("There are no atoms" in page) == (len(frames) == 0)
    assert "no labels" in page
