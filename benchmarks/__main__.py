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
from benchmarks.runner.measuring import measured
from benchmarks.runner.results import HEAD, Results, facts
from benchmarks.runner.topics import topics


def main() -> int:
    """Run what was asked for; return 0 if every bound holds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure jobspan beside what else one would pick."
    )
    parser.add_argument("words", nargs="*", help="topics, or words of case names")
    parser.add_argument("--quick", action="store_true", help="one round, less load, fewer peers")
    parser.add_argument("--rounds", type=int, default=3, help="rounds a case (3)")
    parser.add_argument("--json", type=Path, help="keep the figures there, case by case")
    parser.add_argument("--resume", action="store_true", help="keep what that file has already")
    parser.add_argument("--list", action="store_true", help="tell what there is and end")
    given = parser.parse_args()
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
    if given.resume:
        if given.json is None or not given.json.exists():
            parser.error("--resume goes with --json and the file of a run that was ended")
        results.take_over(Results.read(given.json))
    print(", ".join(f"{name} {value}" for name, value in results.facts.items()))
    load = psutil.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): figures will be off.")
    begin = time.monotonic()
    form = "one round of smaller loads" if given.quick else f"{given.rounds} rounds"
    took: dict[str, float] = {}
    print(HEAD)
    since, took_all = begin, f"{results.minutes:.1f} minutes, {form}"
    for name in measured(chosen, results, quick=given.quick, rounds=given.rounds):
        took[name] = time.monotonic() - since
        minutes = results.minutes + (time.monotonic() - begin) / 60
        took_all = f"{minutes:.1f} minutes, {form}, load before the run {load:.1f}"
        results.facts["took"] = f"{took_all}; it was ended early"
        if given.json:
            results.write(given.json)
        since = time.monotonic()
    results.facts["took"] = took_all
    if given.json:
        results.write(given.json)
    longest = sorted(took, key=lambda name: -took[name])[:8]
    print("Took longest: " + ", ".join(f"{name} {took[name]:.0f} s" for name in longest))
    print(f"{results.verdict()} ({results.facts['took']})")
    return 0 if results.hold() else 1


if __name__ == "__main__":
    # Told to end, it ends its contestant too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
