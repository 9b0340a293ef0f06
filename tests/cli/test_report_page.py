"""The picture of a cache, as a real browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobspan import Memory
from jobspan.cli.start import run

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """<script>
const bars = [...document.querySelectorAll("td.bar i")].map(b => b.getBoundingClientRect());
document.title = "bars=" + bars.filter(b => b.width > 0 && b.height > 0).length
  + " wide=" + (document.documentElement.scrollWidth > innerWidth)
  + " ground=" + getComputedStyle(document.body).backgroundColor
  + " requests=" + performance.getEntriesByType("resource").length;
</script>"""


def grown(size):
    return b"x" * size


@pytest.fixture
def page(tmp_path: Path) -> Path:
    memory = Memory(tmp_path / "cache", verbose=0)

    @memory.cache
    def wicked(x):
        return x

    for size in (10, 1000, 100_000):
        memory.cache(grown)(size)
        wicked(size)
    file = tmp_path / "cache.html"
    assert (
        run(["cache", "report", str(tmp_path / "cache"), "--html", str(file), "--items", "3"]) == 0
    )
    return file


def test_the_page_is_text_and_nothing_else(page):
    text = page.read_text()
    assert "&lt;locals&gt;.wicked" in text
    assert "<script" not in text
    assert "http" not in text


@pytest.mark.skipif(BROWSER is None, reason="no chromium here; apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(page, tmp_path, width, scheme):
    page.write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(r"<title>bars=(\d+) wide=(\w+) ground=(.*?) requests=(\d+)<", done.stdout)
    assert found is not None, done.stdout[-2000:]
    drawn, wide, ground, requests = found.groups()
    assert int(drawn) >= 3
    assert (wide, requests) == ("false", "0")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 28)"}[scheme]
