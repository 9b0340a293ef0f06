"""Run the benchmarks: ``python -m benchmarks [topic or words of case names ...]``.

The exit status is 0 if every bound holds, 1 if one does not or could not be measured, 2 if there is
nothing of the name that was asked for.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import psutil

from benchmarks.contest import Case, Curve
from benchmarks.runner.results import HEAD, DrawnCurve, Results, facts, table_line
from benchmarks.runner.running import compare, hold, quick_form
from benchmarks.runner.topics import topics


def main() -> int:
    """Run what was asked for; return 0 if every bound holds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure jobspan beside what else one would pick."
    )
    parser.add_argument("words", nargs="*", help="topics, or words of case names")
    parser.add_argument("--quick", action="store_true", help="one round a case, smaller loads")
    parser.add_argument("--rounds", type=int, default=3, help="rounds a case (3)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--list", action="store_true", help="tell what there is and end")
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    chosen = [topic.matching(given.words) for topic in topics()]
    if not any(topic.cases or topic.curves for topic in chosen):
        known = ", ".join(topic.name for topic in topics())
        parser.error(f"nothing is named {' or '.join(given.words)}; topics are {known}")
    if given.list:
        for topic in chosen:
            print(f"{topic.name}: {topic.about}")
            everything: list[Case | Curve] = [*topic.cases, *topic.curves]
            for each in everything:
                print(f"    {each.name} ({', '.join(each.contestants)})")
        return 0
    results = Results(facts(), topics={topic.name: topic.about for topic in chosen})
    print(", ".join(f"{name} {value}" for name, value in results.facts.items()))
    load = psutil.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): figures will be off.")
    begin = time.monotonic()
    took: dict[str, float] = {}
    print(HEAD)
    for topic in chosen:
        for case in topic.cases:
            since = time.monotonic()
            held = quick_form(case) if given.quick else case
            for line in compare(held, hold(held, rounds), topic.name):
                print(table_line(line), flush=True)
                results.lines.append(line)
            took[case.name] = time.monotonic() - since
    for topic in chosen:
        for curve in topic.curves:
            since = time.monotonic()
            found = hold(quick_form(curve) if given.quick else curve, rounds)
            results.curves.append(DrawnCurve.of(topic.name, curve, found))
            print(results.curves[-1].table(), flush=True)
            took[curve.name] = time.monotonic() - since
    form = "one round of smaller loads" if given.quick else f"{rounds} rounds"
    minutes = (time.monotonic() - begin) / 60
    results.facts["took"] = f"{minutes:.1f} minutes, {form}, load before the run {load:.1f}"
    longest = sorted(took, key=lambda name: -took[name])[:8]
    print("Took longest: " + ", ".join(f"{name} {took[name]:.0f} s" for name in longest))
    print(f"{results.verdict()} ({results.facts['took']})")
    if given.json:
        results.write(given.json)
    return 0 if results.hold() else 1


if __name__ == "__main__":
    # Told to end, it ends its contestant too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
