"""Write ``behaviours.md``: the conformance suite's result on every backend, as a table.

Run by ``make behaviours``. Every row is one test of `jobspan.testing.backends`, named by the first
line of its docstring; every column is a backend.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from jobspan.testing.backends import behaviours

ROOT = Path(__file__).parents[1]
TARGET = Path(__file__).parent / "behaviours.md"
COLUMNS = {
    "TestSequential": "sequential",
    "TestThreads": "threads",
    "TestProcesses": "processes",
    "TestDask": "Dask",
    "TestRay": "Ray",
    "TestFutures": "third party",
}

HEAD = """# Behaviours and backends

Made by `make behaviours` from a run of `jobspan.testing.backends.BackendConformance`: each row is a
test that runs on every backend. The last column is the backend of [another package](\
examples.md#a-backend-of-ones-own), an example. A letter stands for what happens instead, as
told below the table.
"""


class Recorder:
    """Keeps what became of each behaviour on each backend."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        *_, owner, name = report.nodeid.split("::")
        if owner not in COLUMNS or (report.when != "call" and report.passed):
            return
        told = report.outcome
        if report.skipped and isinstance(report.longrepr, tuple):
            told = report.longrepr[2].removeprefix("Skipped: ")
        self.results[name.partition("[")[0]][COLUMNS[owner]].add(told)


def table(results: dict[str, dict[str, set[str]]]) -> str:
    """Return the table, with what happens instead below it."""
    notes: dict[str, str] = {}
    columns = list(COLUMNS.values())
    rows = [f"| behaviour | {' | '.join(columns)} |", "|---|" + ":-:|" * len(columns)]
    for name, shown in behaviours().items():
        cells = []
        for column in columns:
            told = results[name].get(column, set())
            others = told - {"passed"}
            if told == {"passed"}:
                cells.append("✓")
            elif not told:
                cells.append("not run")
            elif "failed" in others:
                cells.append("✗")
            else:
                cells.append(
                    " ".join(notes.setdefault(note, chr(97 + len(notes))) for note in others)
                )
        rows.append(f"| {shown} | {' | '.join(cells)} |")
    told_below = [f"- {letter}: {note}" for note, letter in notes.items()]
    return "\n".join([HEAD, *rows, "", *told_below, ""])


def main() -> int:
    """Run the suite and write the page; the exit status is pytest's."""
    recorder = Recorder()
    places = ["tests/parallel", "tests/dask", "tests/ray"]
    arguments = [str(ROOT / place) for place in places]
    chosen = " or ".join(COLUMNS)
    status = pytest.main(["-q", "-k", chosen, "--rootdir", str(ROOT), *arguments], [recorder])
    TARGET.write_text(table(recorder.results), encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
