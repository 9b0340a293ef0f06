"""Run the benchmarks: ``python -m benchmarks [topic or words of case names ...]``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from benchmarks.contest import Case, Line, run

HERE = Path(__file__).parent
NO_TOPICS = {"__init__", "__main__", "contest"}
VERSIONS = ("joblib", "dask", "distributed", "ray", "numpy", "pandas", "diskcache", "cachier")


def topics() -> dict[str, list[Case]]:
    """Return the cases of every topic: the modules beside this one that have ``CASES``."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        if path.stem not in NO_TOPICS:
            module = importlib.import_module(f"benchmarks.{path.stem}")
            found[path.stem] = list(getattr(module, "CASES", []))
    return found


def facts() -> dict[str, str]:
    """Return what the figures depend on."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": platform.system(),
        "Python": platform.python_version(),
        **versions,
    }


def table_line(line: Line) -> str:
    """Return a comparison as a line of the table."""
    bound = "" if line.bound is None else f"{line.bound:.2f}"
    verdict = "" if line.bound is None else ("holds" if line.holds else "MISSED")
    theirs = "" if line.unit == "x" or line.peer == "seconds" else f"{line.theirs:.4g} {line.unit}"
    return (
        f"{line.case[:62]:62} {line.ours:>9.4g} {line.unit:2} {line.peer[:11]:>11} {theirs:>12} "
        f"{line.ratio:>7.3f} {bound:>6} {verdict}"
    )


def main() -> int:
    """Run what was asked for; return 0 if every bound holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="topics, or words of case names")
    parser.add_argument("--quick", action="store_true", help="one round a case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    rounds = 1 if given.quick else given.rounds
    header = facts()
    print(", ".join(f"{name} {value}" for name, value in header.items()))
    print(f"{'case':62} {'ours':>12} {'peer':>11} {'theirs':>12} {'ratio':>7} {'bound':>6}")
    lines: list[Line] = []
    for topic, cases in topics().items():
        for case in cases:
            if given.words and not any(
                w in (topic, case.name) or w in case.name for w in given.words
            ):
                continue
            for line in run(case, rounds):
                print(table_line(line), flush=True)
                lines.append(line)
    missed = [line for line in lines if not line.holds]
    bounded = sum(line.bound is not None for line in lines)
    print(f"{bounded - len(missed)} of {bounded} bounds hold")
    if given.json:
        rows = [{**asdict(line), "ratio": line.ratio, "holds": line.holds} for line in lines]
        given.json.write_text(json.dumps({"facts": header, "lines": rows}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
