"""The page in a real browser: it draws, follows the colour scheme, sorts, and fits a narrow screen."""

import pytest

from report.browser import WIDTHS, needs_chromium, probe
from report.synthetic import write_study
from xclimb.report import write_report

SCRIPT = """
  const ink = () => document.querySelector(".plot .xtitle")?.style.fill;
  const light = ink();
  document.getElementById("theme").click();
  await wait(1500);
  const table = document.querySelector("#errors table");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent);
  table.querySelectorAll("thead button")[1].click();
  const up = names();
  table.querySelectorAll("thead button")[1].click();
  const select = document.getElementById("model");
  select.value = "parity:chgnet-0.3.0";
  select.dispatchEvent(new Event("change"));
  await wait(500);
  return { light, dark: ink(), up, down: names(), parity: document.querySelector("#parity .annotation-text").textContent };
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("browser"), methods=("frozen", "residual"), seeds=(0, 1))
    return write_report(folder)


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_page_lives_in_a_browser(page, tmp_path, width):
    said = probe(page, tmp_path, SCRIPT, width)
    assert len(said["plots"]) == 5
    assert said["light"] != said["dark"]
    assert said["surface"] == "rgb(23, 27, 34)"
    assert said["up"][0] == "residual"
    assert said["down"][0] == "chgnet-r2scan"
    assert "MAE" in said["parity"]
