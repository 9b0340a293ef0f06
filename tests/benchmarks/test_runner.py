"""What the runner of the benchmarks does with contestants, whatever they do."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from benchmarks.contest import Case, Contestant, Curve, Line
from benchmarks.runner.child import ContestantError, measure
from benchmarks.runner.measuring import measured
from benchmarks.runner.results import DrawnCurve, Results, table_line
from benchmarks.runner.running import Rounds, compare, hold, quick_form, with_bounded_peers
from benchmarks.runner.topics import Topic, topics

ROOT = Path(__file__).parents[2]


def _case(ours: str, theirs: str, **settings: object) -> Case:
    return Case(
        "a case",
        {"jobspan": Contestant(ours), "other": Contestant(theirs)},
        **settings,  # type: ignore[arg-type]
    )


def _lines(case: Case, rounds: int = 1) -> list[Line]:
    return compare(case, hold(case, rounds))


def test_a_ratio_is_held_against_its_bound() -> None:
    (line,) = _lines(_case("seconds = 1.0", "seconds = 4.0", at_most={"other": 0.25}))
    assert (line.ours, line.theirs, line.ratio, line.verdict) == (1.0, 4.0, 0.25, "holds")
    (line,) = _lines(_case("seconds = 1.0", "seconds = 4.0", at_most={"other": 0.24}))
    assert line.verdict == "MISSED"
    assert not line.holds
    (line,) = _lines(_case("seconds = 9.0", "seconds = 4.0"))
    assert line.verdict == ""
    assert line.holds


def test_medians_of_rounds_in_fresh_interpreters(tmp_path: Path) -> None:
    ours = f"""
import os
path = {str(tmp_path / "turns")!r}
with open(path, "a") as file: file.write("ours ")
seconds = [5.0, 1.0, 2.0][open(path).read().count("ours") - 1]
"""
    theirs = f"""
with open({str(tmp_path / "turns")!r}, "a") as file: file.write("theirs ")
seconds = 4.0
"""
    (line,) = _lines(_case(ours, theirs), rounds=3)
    assert (line.ours, line.spread) == (2.0, 5.0)
    turns = (tmp_path / "turns").read_text().split()
    assert turns == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_failing_peer_is_a_line_that_says_so() -> None:
    (line,) = _lines(_case("seconds = 1.0", "1 / 0", at_most={"other": 1.0}), rounds=2)
    assert line.trouble == "other: ZeroDivisionError: division by zero"
    assert line.verdict == "no figure"
    assert not line.holds
    assert "no figure (bound 1) other: ZeroDivisionError" in table_line(line)


def test_a_failing_peer_without_a_bound_fails_nobody_but_ours_does() -> None:
    results = Results({}, _lines(_case("seconds = 1.0", "1 / 0")))
    assert results.hold()
    results = Results({}, _lines(_case("1 / 0", "seconds = 1.0")))
    assert not results.hold()


def test_a_peer_that_is_not_installed_is_said_so() -> None:
    (line,) = _lines(_case("seconds = 1.0", "import no_such_package\nseconds = 1.0"))
    assert line.trouble == "other: no_such_package is not installed"


def test_a_contestant_that_forgets_its_figure_is_said_so() -> None:
    (line,) = _lines(_case("second = 1.0", "seconds = 1.0"))
    assert line.trouble == "jobspan: did not set seconds"


def test_past_the_limit_the_whole_tree_is_ended(tmp_path: Path) -> None:
    source = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open({str(tmp_path / "child")!r}, "w") as file: file.write(str(child.pid))
time.sleep(60)
"""
    begin = time.monotonic()
    with pytest.raises(ContestantError, match=r"not done after 1\.5 s"):
        measure(Contestant(source), 1.5)
    assert time.monotonic() - begin < 20
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the contestant's child lives on"
        time.sleep(0.05)


def test_the_memory_of_a_tree_counts_its_children() -> None:
    alone = "import time\nheld = bytearray(50_000_000)\ntime.sleep(0.5)\nseconds = 1.0"
    both = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {alone!r}], check=True)
{alone}
""".replace("subprocess.run", "child = subprocess.Popen").replace(", check=True", "")
    case = _case(both + "\nchild.wait()", alone, measure="tree_megabytes")
    (line,) = _lines(case)
    assert line.unit == "MB"
    assert 50 < line.theirs < 110
    assert line.ours > line.theirs + 45


def test_requests_and_absolute_bounds() -> None:
    case = Case("hit", {"jobspan": Contestant("requests = 1; seconds = 3")}, {"requests": 1})
    (line,) = _lines(case)
    assert (line.ours, line.unit, line.verdict) == (1, "requests", "holds")
    case = Case("hit", {"jobspan": Contestant("requests = 2")}, {"requests": 1})
    assert _lines(case)[0].verdict == "MISSED"
    case = Case("import", {"jobspan": Contestant("seconds = 0.05")}, {"seconds": 0.06})
    assert _lines(case)[0].verdict == "holds"


def test_a_cold_contestant_is_timed_from_outside() -> None:
    found = measure(Contestant("import time; time.sleep(0.3)", cold=True), 20)
    assert 0.3 < found["seconds"] < 10


def test_a_curve_takes_the_median_at_each_size() -> None:
    curve = Curve("c", {"jobspan": Contestant("points = [(10, 1.0), (1, 2.0)]")}, "x", "y")
    rounds = hold(curve, 2)
    assert rounds.points("jobspan") == [(1, 2.0), (10, 1.0)]
    drawn = DrawnCurve.of("topic", curve, Rounds({"jobspan": []}, {"jobspan": "no"}))
    assert not Results({}, [], [drawn]).hold()


def test_the_quick_form_has_a_smaller_load() -> None:
    case = quick_form(_case("seconds = 1_000", "seconds = 2_000", quick={"_000": ""}))
    assert [each.source for each in case.contestants.values()] == ["seconds = 1", "seconds = 2"]


def test_the_quick_form_of_a_run_keeps_the_peers_that_bounds_name() -> None:
    contestants = {name: Contestant("seconds = 1") for name in ("jobspan", "slow", "old", "loop")}
    case = Case("c", contestants, {"slow": 1.0, "ideal": 1.0}, memory_of="old")
    assert set(with_bounded_peers(case).contestants) == {"jobspan", "slow", "old"}
    unbounded = Case("c", contestants)
    assert with_bounded_peers(unbounded) == unbounded


def test_peers_without_a_bound_take_part_in_the_first_round_only() -> None:
    contestants = {name: Contestant("seconds = 1") for name in ("jobspan", "slow", "loop")}
    rounds = hold(Case("c", contestants, {"slow": 1.0}), 3)
    assert {name: len(found) for name, found in rounds.found.items()} == {
        "jobspan": 3,
        "slow": 3,
        "loop": 1,
    }


def test_a_run_that_was_ended_goes_on_where_it_stopped(tmp_path: Path) -> None:
    turns = tmp_path / "turns"
    contestant = Contestant(f"open({str(turns)!r}, 'a').write('x'); seconds = 1.0")
    topic = Topic("t", "T.", [Case(name, {"jobspan": contestant}) for name in ("a", "b")], [])
    first = Results({"date": "today"})
    assert next(iter(measured([topic], first, quick=False, rounds=1))) == "a"
    first.facts["took"] = "2.5 minutes, 1 round"
    first.write(tmp_path / "kept.json")
    second = Results({"date": "today"})
    second.take_over(Results.read(tmp_path / "kept.json"))
    assert second.minutes == 2.5
    assert list(measured([topic], second, quick=False, rounds=1)) == ["b"]
    assert turns.read_text() == "xx"
    assert [line.case for line in second.lines] == ["a", "b"]
    with pytest.raises(SystemExit, match="date was today"):
        Results({"date": "tomorrow"}).take_over(first)


@pytest.mark.parametrize("quick", [True, False])
def test_only_a_quick_run_shares_what_a_topic_shares(quick: bool) -> None:
    seen: list[str] = []

    @contextmanager
    def shared() -> Iterator[None]:
        seen.append("begin")
        yield
        seen.append("end")

    cases = [Case(name, {"jobspan": Contestant("seconds = 1.0")}) for name in ("a", "b")]
    topic = Topic("t", "T.", cases, [], shared)
    for name in measured([topic, topic], Results({}), quick=quick, rounds=1):
        seen.append(name)
    assert seen == (["begin", "a", "b", "end"] if quick else ["a", "b"])


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = [
        Line("case", "peer", 1.0, 2.0, 1.1, 0.5, "s", "", "topic"),
        Line("case", "gone", 1.0, math.nan, 1.1, None, "s", "gone: is not installed", "topic"),
    ]
    curve = DrawnCurve("topic", "c", "x", "y", {"jobspan": [(1.0, 2.0)]}, {})
    Results({"date": "today"}, lines, [curve]).write(tmp_path / "kept.json")
    raw = json.loads((tmp_path / "kept.json").read_text())
    assert raw["lines"][0]["ratio"] == 0.5
    assert raw["lines"][0]["verdict"] == "holds"
    read = Results.read(tmp_path / "kept.json")
    assert read.facts == {"date": "today"}
    assert read.lines[0] == lines[0]
    assert math.isnan(read.lines[1].theirs)
    assert [tuple(point) for point in read.curves[0].points["jobspan"]] == [(1.0, 2.0)]


def test_a_word_names_a_topic_or_a_part_of_a_case() -> None:
    assert [each.name for each in topics() if each.matching(["keys"]).cases] == ["keys"]
    found = [case.name for each in topics() for case in each.matching(["set of 10"]).cases]
    assert found == ["set of 10,000 ints"]


@pytest.mark.parametrize(("words", "status"), [(["(1, 'a', 2.5"], 0), (["no such case"], 2)])
def test_the_exit_status_and_the_file(words: list[str], status: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", tmp_path / "it.json", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if status:
        assert done.returncode == status, done.stderr
        assert "nothing is named no such case; topics are" in done.stderr
        return
    results = Results.read(tmp_path / "it.json")
    assert results.lines
    assert results.verdict() in done.stdout
    assert done.returncode == (0 if results.hold() else 1)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows ends a process unasked")
def test_a_runner_that_is_told_to_end_ends_its_contestant() -> None:
    words = ["10^6 calls through a generator"]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as runner:
        deadline = time.monotonic() + 30
        while not (children := psutil.Process(runner.pid).children(recursive=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        runner.terminate()
        assert runner.wait(30) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
