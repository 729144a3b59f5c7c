"""The page in a real browser: it draws, follows the colour scheme, sorts, and fits a narrow screen."""

import html
import json
import re
import shutil
import subprocess

import pytest

from report.synthetic import write_study
from xclimb.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --hide-scrollbars --virtual-time-budget=20000 --enable-logging=stderr --v=0 --dump-dom"
)
PROBE = """
<script>
addEventListener("load", async () => {
  const troubles = [];
  addEventListener("error", (event) => troubles.push(event.message));
  addEventListener("securitypolicyviolation", (event) => troubles.push(event.blockedURI));
  while (!document.body.dataset.drawn) await new Promise((done) => setTimeout(done, 50));
  const ink = () => document.querySelector(".plot .xtitle")?.style.fill;
  const light = ink();
  document.getElementById("theme").click();
  await new Promise((done) => setTimeout(done, 1500));
  const table = document.querySelector("#errors table");
  const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].firstChild.textContent);
  table.querySelectorAll("thead button")[1].click();
  const up = names();
  table.querySelectorAll("thead button")[1].click();
  const select = document.getElementById("model");
  select.value = "parity:chgnet-0.3.0";
  select.dispatchEvent(new Event("change"));
  await new Promise((done) => setTimeout(done, 500));
  const said = {
    troubles, light, dark: ink(), up, down: names(),
    plots: [...document.querySelectorAll(".plot")].map((plot) => plot.querySelectorAll(".main-svg").length),
    parity: document.querySelector("#parity .annotation-text").textContent,
    overflow: document.documentElement.scrollWidth - innerWidth, width: innerWidth,
    surface: getComputedStyle(document.body).backgroundColor,
  };
  const text = "PROBE" + JSON.stringify(said) + "PROBE";
  if (parent === window) document.body.textContent = text;
  else parent.postMessage(text, "*");
});
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("browser"), methods=("frozen", "residual"), seeds=(0, 1))
    return write_report(folder)


# a window cannot be narrower than 500 pixels, a frame can
FRAME = """<body style="margin:0"><iframe src="page.html?theme=light" style="width:400px;height:900px;border:0"></iframe>
<script>addEventListener("message", (event) => { document.body.textContent = event.data; });</script></body>"""


def probe(page, tmp_path, name: str) -> dict:
    probed = page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>")
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME, encoding="utf-8")
    command = [CHROMIUM, *FLAGS.split(), "--window-size=1280,900", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, f"file://{tmp_path / name}"], capture_output=True, text=True, timeout=120, check=False)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(re.search(r"PROBE(\{.*\})PROBE", done.stdout, flags=re.S).group(1)))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("name", "width"), [("page.html?theme=light", 1280), ("frame.html", 400)])
def test_page_lives_in_a_browser(page, tmp_path, name, width):
    said = probe(page, tmp_path, name)
    assert said["width"] == width
    assert said["overflow"] <= 0
    assert said["troubles"] == []
    assert len(said["plots"]) == 5
    assert all(count > 0 for count in said["plots"])
    assert said["light"] != said["dark"]
    assert said["surface"] == "rgb(23, 27, 34)"
    assert said["up"][0] == "residual"
    assert said["down"][0] == "chgnet-r2scan"
    assert "MAE" in said["parity"]
