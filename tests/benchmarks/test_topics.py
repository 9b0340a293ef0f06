"""Every case can run: for correctness, not for time."""

from __future__ import annotations

import math
import os

import pytest
from benchmarks.contest import Case, Curve
from benchmarks.runner.running import hold, quick_form
from benchmarks.runner.topics import topics

TOPICS = topics()
EVERYTHING: list[Case | Curve] = [
    each for topic in TOPICS for each in (*topic.cases, *topic.curves)
]

CHEAP = [
    "cold script: import, 4 no-op calls on 2 workers, exit",
    "threads: 3,000 no-op calls, batch_size=1",
    "sequential: 20,000 no-op calls",
    "1,500 calls of 0.5 ms, then 20 of 100 ms: times work / workers",
    "8 calls that each make 500 no-op calls",
    "one 80 MB array as argument of 8 calls, plain",
    "set of 10,000 ints",
    "fingerprint of an unchanged function, second call on",
    "the whole tree: a pool of 2 workers that did 100 no-op calls",
]


def test_there_are_topics_and_each_says_what_it_is_about() -> None:
    assert len(TOPICS) >= 9
    for topic in TOPICS:
        assert topic.cases or topic.curves, topic.name
        assert topic.about.endswith("."), topic.name


def test_no_two_cases_have_one_name() -> None:
    names = [each.name for each in EVERYTHING]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("each", EVERYTHING, ids=lambda each: each.name)
def test_contestants_compile_in_both_forms(each: Case | Curve) -> None:
    assert "jobspan" in each.contestants
    for form in (each, quick_form(each)):
        for name, contestant in form.contestants.items():
            compile(contestant.source, f"{each.name}: {name}", "exec")
    for old in each.quick:
        sources = [contestant.source for contestant in each.contestants.values()]
        assert any(old in source for source in sources), f"nothing to replace: {old!r}"


def _run(each: Case | Curve) -> None:
    rounds = hold(quick_form(each), 1)
    # Where nothing can fork, many a peer has no way to run a function of a script without a guard.
    must_run = each.contestants if hasattr(os, "fork") else ["jobspan"]
    for contestant in must_run:
        assert contestant not in rounds.troubles, rounds.troubles
        if isinstance(each, Curve):
            figures = [y for _, y in rounds.points(contestant)]
            assert len(figures) > 1
        else:
            figures = [rounds.median(contestant, each.compared)]
        assert all(0 <= figure < math.inf for figure in figures)


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_cases_run_and_set_what_they_must(name: str) -> None:
    (case,) = [each for each in EVERYTHING if each.name == name]
    _run(case)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("each", EVERYTHING, ids=lambda each: each.name)
def test_every_case_runs_and_sets_what_it_must(each: Case | Curve) -> None:
    _run(each)
