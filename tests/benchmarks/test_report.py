"""The page of the last run: made from its figures alone, readable in the dark."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks.contest import Line
from benchmarks.runner import figures, report
from benchmarks.runner.plots import bounds_plot, curve_plot
from benchmarks.runner.results import DrawnCurve, Results

SVG = "{http://www.w3.org/2000/svg}"
KEPT = Results.read(report.KEPT)


def test_the_page_says_what_the_kept_run_found() -> None:
    assert report.PAGE.read_text("utf-8") == report.page(KEPT), "make bench-report"


def test_readme_says_what_the_kept_run_found() -> None:
    readme = report.README.read_text("utf-8")
    assert readme == report.readme_with(KEPT, readme), "make bench-report"


def test_the_plots_show_what_the_kept_run_found() -> None:
    there = {path.name: path.read_text("utf-8") for path in report.FOLDER.glob("*.svg")}
    assert there == report.plots(KEPT), "make bench-report"


def test_nothing_names_the_machine_or_its_paths() -> None:
    for path in [report.PAGE, *report.FOLDER.iterdir()]:
        text = path.read_text("utf-8")
        assert not re.search(r"/(home|root|tmp|work|usr|Users)/", text), path
        assert str(Path.home()) not in text or str(Path.home()) == "/", path


def test_a_run_becomes_a_page() -> None:
    lines = [
        Line("quick", "joblib", 0.001, 0.01, 1.2, 0.2, "s", "", "keys"),
        Line("slow", "futures", 3.0, 1.0, 1.0, 0.5, "s", "", "keys"),
        Line("slow", "loop", 3.0, 0.5, 1.0, None, "s", "", "keys"),
        Line("far", "mpire", 1.0, math.nan, 1.0, None, "s", "mpire is not installed", "keys"),
        Line("import", "seconds", 0.05, 1.0, 1.0, 0.06, "s", "", "keys"),
    ]
    curve = DrawnCurve("scaling", "grows", "n", "s", {"jobspan": [(1, 0.1), (10, 1.0)]}, {})
    page = report.page(Results({"date": "2026-01-01", "machine": "m"}, lines, [curve]))
    assert "2 of 3 bounds hold." in page
    assert "- slow beside futures: 3 \N{MULTIPLICATION SIGN}, allowed 0.5" in page
    assert "| slow | futures | 3 \N{MULTIPLICATION SIGN} |" in page
    assert "A plain loop is ahead in 1 cases" in page
    assert "| quick | 1 ms | 1.20 | joblib | 10 ms | 0.1" in page
    assert "no figure: mpire is not installed" in page
    assert "| import | 50 ms | 1.00 |  |  |  | 60 ms | holds |" in page
    assert "![grows: s](benchmarks/grows.svg)" in page


def test_readme_keeps_what_stands_around_the_figures() -> None:
    case, peer = report.IN_README[0]
    line = Line(case, peer, 1.0, 4.0, 1.0, 0.25)
    marked = "above\n<!-- figures: make bench-report -->\nold\n<!-- end of figures -->\nbelow\n"
    changed = report.readme_with(Results({}, [line]), marked)
    assert changed.startswith("above\n<!--")
    assert changed.endswith("-->\nbelow\n")
    assert "\nold\n" not in changed
    assert f"| {case} | 4 s | 1 s | 0.25" in changed
    with pytest.raises(ValueError, match="has no line"):
        report.readme_with(Results({}, [line]), "no marks")


def test_a_curve_is_drawn_on_logarithmic_axes() -> None:
    points = {"jobspan": [(1, 1.0), (10, 10.0), (100, 100.0)], "joblib": [(1, 2.0), (10, 300.0)]}
    drawn = ET.fromstring(curve_plot(DrawnCurve("t", "c < d", "n", "s", points, {})))
    (ours,) = [each for each in drawn.iter(f"{SVG}path") if each.get("class") == "line ours"]
    (x1, y1), (x2, y2), (x3, y3) = [
        map(float, point.split()) for point in ours.get("d", "")[1:].split("L")
    ]
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.2)
    assert y1 > y2
    texts = [each.text for each in drawn.iter(f"{SVG}text")]
    assert {"jobspan", "joblib", "C < d", "1", "10", "100"} <= set(texts)


def test_plots_follow_the_readers_colour_scheme() -> None:
    drawn = bounds_plot([Line("c", "joblib", 1.0, 4.0, 1.0, 0.5), Line("c", "ideal", 2, 1, 1, 1.1)])
    ET.fromstring(drawn)
    assert "@media (prefers-color-scheme: dark)" in drawn
    assert "var(--fine)" in drawn
    assert "var(--missed)" in drawn
    rest = drawn.partition("</style>")[2]
    assert "#" not in rest, "a colour that does not follow"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0000033, "s", "3.3 µs"),
        (0.1045, "s", "104 ms"),
        (12.345, "s", "12.3 s"),
        (1_234_567.0, "requests", "1,234,567 requests"),
        (57.63, "MB", "57.6 MB"),
        (0.0, "s", "0 ns"),
        (math.nan, "s", ""),
    ],
)
def test_figures_are_readable(value: float, unit: str, text: str) -> None:
    assert figures.amount(value, unit) == text
