"""Figures as files: they say what the plotly figure says, and nothing that matplotlib cannot draw is left out unseen."""

import re
import xml.etree.ElementTree as ET

import plotly.graph_objects as go
import pytest
from matplotlib.image import imread

from report.synthetic import write_study
from xclimb.report import figures, read_folder
from xclimb.report.pages import figures as page_figures
from xclimb.report.static import pictures, write_figures
from xclimb.report.style import axis, figure


def words(svg: bytes) -> str:
    return " ".join(" ".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


def test_periodic_table_says_symbols_and_values():
    found = pictures(figures.shift_table({"O": -1.417, "Fe": -5.43}, label="r2SCAN − PBE"))
    said = words(found["svg"])
    assert all(text in said for text in ("Fe", "−5.43", "O", "−1.42", "r2SCAN − PBE (eV/atom)", "Pu"))
    assert found["png"].startswith(b"\x89PNG")


def test_a_figure_of_every_part():
    fig = figure(300, showlegend=True)
    fig.update_layout(xaxis=axis("along <i>x</i>", type="log", tickvals=[1, 10], ticktext=["one", "ten"]), yaxis=axis("up"))
    line = {"color": "#123456", "dash": "dot"}
    fig.add_scatter(x=[1, 5, 10], y=[2, None, 3], mode="lines+markers", name="a &amp; b", line=line)
    hidden = {"showlegend": False, "mode": "lines", "line": {"width": 0}}
    fig.add_scatter(x=[1, 3, 3, 1], y=[1, 1, 2, 2], fill="toself", fillcolor="#abcdef", **hidden)
    fig.add_scatter(
        x=[2], y=[2], mode="markers+text", text=["<b>here</b> $5"], marker={"symbol": "circle-open", "size": 9},
        showlegend=False, error_x={"array": [0.5]}, textposition="middle right",
    )  # fmt: skip
    fig.add_bar(x=[2, 4], y=[1, 2], marker={"color": "#654321"}, showlegend=False)
    fig.add_shape(type="rect", xref="x", yref="y domain", x0=1, x1=2, y0=0, y1=1, fillcolor="#fedcba")
    fig.add_annotation(text="<b>Panel</b>   r = 1", xref="x domain", yref="y domain", x=0, y=1, showarrow=False)
    svg = pictures(fig)["svg"]
    said = words(svg)
    assert all(text in said for text in ("along x", "one", "ten", "up", "here $5", "a & b", "Panel", "r = 1"))
    for colour in ("#123456", "#abcdef", "#654321", "#fedcba"):
        assert colour in svg.decode()


def test_what_only_a_browser_draws_is_an_error():
    with pytest.raises(ValueError, match="scatter3d traces can be drawn by a browser only"):
        pictures(go.Figure(go.Scatter3d(x=[0], y=[0], z=[0])))


def test_the_same_figure_gives_the_same_file():
    fig = figures.shift_table({"O": -1.4})
    assert pictures(fig) == pictures(fig)


def test_every_figure_of_a_study_can_be_written(tmp_path):
    study = read_folder(write_study(tmp_path / "study", methods=("frozen", "residual"), seeds=(0, 1)))
    drawn = page_figures("study", study)
    drawn["parity:residual"] = figures.parity(study.predictions.model_dump(), "residual")
    written = write_figures(drawn, tmp_path / "figures")
    assert {file.name for file in written} == {f"{name.replace(':', '-')}.{kind}" for name in drawn for kind in ("svg", "png")}
    for file in written:
        if file.suffix == ".png":
            assert imread(file).shape[1] > 1000
    assert re.search("residual", words((tmp_path / "figures" / "training.svg").read_bytes()))
    assert not list((tmp_path / "figures").glob(".*"))
