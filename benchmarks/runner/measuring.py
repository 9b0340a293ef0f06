"""Measure case after case: what is done is kept, whatever comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from benchmarks.runner.results import DrawnCurve, Results, table_line
from benchmarks.runner.running import compare, hold, quick_form, with_bounded_peers
from benchmarks.runner.topics import Topic

__all__ = ["measured"]


def measured(
    chosen: Sequence[Topic], results: Results, *, quick: bool, rounds: int
) -> Iterator[str]:
    """Measure what `results` lacks, print it and add it there; yield each name when it is done."""
    for topic in chosen:
        missing = [case for case in topic.cases if not results.has(case.name)]
        with topic.shared() if quick and missing else nullcontext():
            for case in missing:
                held = with_bounded_peers(quick_form(case)) if quick else case
                for line in compare(held, hold(held, 1 if quick else rounds), topic.name):
                    print(table_line(line), flush=True)
                    results.lines.append(line)
                yield case.name
    for name, curve in [(topic.name, curve) for topic in chosen for curve in topic.curves]:
        if not results.has(curve.name):
            found = hold(quick_form(curve) if quick else curve, 1 if quick else rounds)
            results.curves.append(DrawnCurve.of(name, curve, found))
            print(results.curves[-1].table(), flush=True)
            yield curve.name
