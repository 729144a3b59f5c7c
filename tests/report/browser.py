"""A page in headless Chromium: what a script on it finds, and that the console stays silent."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
WIDTHS = (1280, 400)
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --hide-scrollbars --virtual-time-budget=20000 --enable-logging=stderr --v=0 --dump-dom"
)
# the test's own lines stand in the middle; what they return, and what every page is asked, ends up as the text of the body
_PROBE = """
<script>
addEventListener("load", async () => {
  const troubles = [];
  addEventListener("error", (event) => troubles.push(event.message));
  addEventListener("securitypolicyviolation", (event) => troubles.push(event.blockedURI));
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  while (!document.body.dataset.drawn) await wait(50);
  const found = await (async () => { %s })();
  const said = {
    ...found, troubles, width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth,
    plots: [...document.querySelectorAll(".plot")].map((plot) => plot.querySelectorAll(".main-svg").length),
    surface: getComputedStyle(document.body).backgroundColor,
  };
  const text = "PROBE" + JSON.stringify(said) + "PROBE";
  if (parent === window) document.body.textContent = text;
  else parent.postMessage(text, "*");
});
</script>
"""
# a window cannot be narrower than 500 pixels, a frame can
_FRAME = """<body style="margin:0"><iframe src="page.html?theme=%s" style="width:400px;height:900px;border:0"></iframe>
<script>addEventListener("message", (event) => { document.body.textContent = event.data; });</script></body>"""


def probe(page: Path, place: Path, script: str, width: int, theme: str = "light") -> dict:
    """Open a page 1280 or 400 pixels wide, run the body of an async function on it, and return what it returns.

    The answer holds what is asked of every page too; that figures are drawn, that nothing is wider than the window and that
    the console is silent is asserted here.
    """
    probed = page.read_text(encoding="utf-8").replace("</body>", _PROBE % script + "</body>")
    (place / "page.html").write_text(probed, encoding="utf-8")
    (place / "frame.html").write_text(_FRAME % theme, encoding="utf-8")
    name = "frame.html" if width < 500 else f"page.html?theme={theme}"
    command = [CHROMIUM, *_FLAGS.split(), "--window-size=1280,900", f"--user-data-dir={place / 'profile'}"]
    done = subprocess.run([*command, f"file://{place / name}"], capture_output=True, text=True, timeout=120, check=False)
    shutil.rmtree(place / "profile", ignore_errors=True)
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    said = json.loads(html.unescape(re.search(r"PROBE(\{.*\})PROBE", done.stdout, flags=re.S).group(1)))
    assert said["width"] == width
    assert said["overflow"] <= 0
    assert said["troubles"] == []
    assert said["plots"]
    assert all(count > 0 for count in said["plots"])
    return said
