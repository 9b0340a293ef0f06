"""The report of a call: what it says, and how a real browser shows it."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from jobspan import Parallel, delayed, parallel_config
from jobspan.parallel.timeline import Span, bars, by_function, slowest, utilisation_curve


def work(i: int) -> int:
    time.sleep(0.002)
    if i == 5:
        raise ValueError(i)
    return i


def inner(i: int) -> list[int]:
    return Parallel(n_jobs=2)(delayed(abs)(j) for j in range(-i, 0))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_report_is_written(tmp_path: Path, n_jobs: int) -> None:
    page = tmp_path / "run.html"
    parallel = Parallel(n_jobs=n_jobs, backend="threads", on_error="skip", report=page)
    assert len(parallel(delayed(work)(i) for i in range(12))) == 11
    text = page.read_text(encoding="utf-8")
    assert text == parallel.stats.to_html()
    assert "work" in text
    assert "<b>12</b><span>calls</span>" in text
    assert "<b>1</b><span>failures</span>" in text


def test_report_of_a_context_is_not_written_by_nested_calls(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    with parallel_config("threads", n_jobs=2, report=str(page)):
        Parallel()(delayed(inner)(i) for i in range(3))
    assert "inner" in page.read_text(encoding="utf-8")


def test_report_of_a_call_that_raises(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    with pytest.raises(ValueError, match="5"):
        Parallel(n_jobs=2, backend="threads", report=page)(delayed(work)(i) for i in range(12))
    assert "<svg" in page.read_text(encoding="utf-8")


def test_results_survive_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "run.html"
    parallel = Parallel(n_jobs=2, backend="threads", report=missing)
    with pytest.warns(UserWarning, match="could not be written"):
        assert parallel(delayed(abs)(i) for i in (-1, 2)) == [1, 2]


def test_report_must_be_a_path() -> None:
    with pytest.raises(TypeError, match=r"report=3: pass the path of a file"):
        Parallel(report=3)  # type: ignore[arg-type]


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    def wicked() -> None:
        """Do nothing."""

    wicked.__qualname__ = "<script>alert(1)</script>"
    page = tmp_path / "run.html"
    Parallel(n_jobs=2, backend="threads", report=page)([delayed(wicked)()] * 3)
    assert "<script>" not in page.read_text(encoding="utf-8")


def test_statistics_in_a_notebook() -> None:
    parallel = Parallel(n_jobs=2, backend="threads")
    parallel(delayed(abs)(i) for i in range(3))
    table = parallel.stats._repr_html_()
    assert "<table>" in table
    assert "backend threads, 2 at once" in table


def test_timeline_figures() -> None:
    spans = [
        Span("a", 0.0, 1.0, 0, 1, 0, "slow"),
        Span("b", 0.0, 0.5, 1, 5, 1, "quick"),
        Span("b", 0.5, 0.5, 6, 5, 0, "quick"),
    ]
    assert utilisation_curve(spans, places=2, bins=4) == [1.0] * 4
    assert utilisation_curve(spans[:2], places=2, bins=2) == [1.0, 0.5]
    assert [span.function for span in slowest(spans, 2)] == ["slow", "quick"]
    assert [(f.function, f.calls, f.failures) for f in by_function(spans)] == [
        ("slow", 1, 0),
        ("quick", 10, 1),
    ]
    assert sum(bar.calls for bar in bars(spans, gap=10.0)["b"]) == 10


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

PROBE = """<script>
const bars = [...document.querySelectorAll("rect.bar")].map(b => b.getBoundingClientRect());
const body = getComputedStyle(document.body);
document.title = "bars=" + bars.filter(b => b.width > 0 && b.height > 0).length
  + " wide=" + (document.documentElement.scrollWidth > innerWidth)
  + " ground=" + body.backgroundColor
  + " requests=" + performance.getEntriesByType("resource").length;
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium here; apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(tmp_path: Path, width: int, scheme: str) -> None:
    parallel = Parallel(n_jobs=2, backend="threads", on_error="skip", batch_size=1)
    parallel(delayed(work)(i) for i in range(30))
    page = tmp_path / "run.html"
    page.write_text(parallel.stats.to_html().replace("</body>", PROBE + "</body>"))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    done = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(
        r"<title>bars=(\d+) wide=(\w+) ground=(.*?) requests=(\d+)</title>", done.stdout
    )
    assert found is not None, done.stdout[-2000:]
    drawn, wide, ground, requests = found.groups()
    assert int(drawn) >= 20
    assert wide == "false"
    assert requests == "0"
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 28)"}[scheme]
