"""Run the fault matrix: ``python -m tests.faults [words of rows ...] [--write]``.

What came of each row is kept in ``build/faults.json``, so that they may run in pieces; with
``--write`` the table of all that are there is written into ``docs/reliability.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from tests.faults.faults import FAULTS
from tests.faults.runner import ROOT, Outcome, Row, reason_why_not, rows, run

from jobspan.testing.servers import Moto

KEPT = ROOT / "build" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults begin -->", "<!-- faults end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("words", nargs="*", help="only rows with these words in them")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    arguments = parser.parse_args()
    chosen = [row for row in rows() if all(word in str(row) for word in arguments.words)]
    outcomes = []
    begin = time.monotonic()
    with Moto() as server:
        for number, row in enumerate(chosen):
            if reason := reason_why_not(row):
                print(f"skip {row!s:60} {reason}", flush=True)
                continue
            outcome = run(row, server, seed=number)
            outcomes.append(outcome)
            _keep(outcome)
            mark = "ok  " if not outcome.problem else "FAIL"
            print(f"{mark} {row!s:60} {outcome.ended:20} {outcome.seconds:6.1f} s", flush=True)
            if outcome.problem:
                print(f"     {outcome.problem}", flush=True)
    failed = [outcome for outcome in outcomes if outcome.problem]
    print(f"{len(outcomes)} rows, {len(failed)} failed, {time.monotonic() - begin:.0f} s")
    if arguments.write:
        _write(_kept())
    return 1 if failed else 0


def table(outcomes: list[Outcome]) -> str:
    """Return the table: a line a fault and backend, a column a store."""
    stores = ("none", "disk", "s3")
    cells = {(o.row.fault, o.row.backend, o.row.store): _cell(o) for o in outcomes}
    lines = [
        "| fault | what goes wrong | backend | no store | disk | S3 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fault, spec in FAULTS.items():
        first = (fault, spec.about)
        for backend in spec.backends:
            found = [cells.get((fault, backend, store), "") for store in stores]
            if any(found):
                lines.append(f"| {' | '.join((*first, backend, *found))} |")
                first = ("", "")
    return "\n".join(lines)


def _cell(outcome: Outcome) -> str:
    ended = "right" if outcome.ended == "right" else f"`{outcome.ended}`"
    took = f"{outcome.seconds:.1f}\N{NO-BREAK SPACE}s"
    return f"{'**FAILS** ' if outcome.problem else ''}{ended}, {took}"


def _keep(outcome: Outcome) -> None:
    kept = {each.row: each for each in _kept()} | {outcome.row: outcome}
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps([asdict(each) for each in kept.values()], indent=1))


def _kept() -> list[Outcome]:
    if not KEPT.exists():
        return []
    told = json.loads(KEPT.read_text())
    return [Outcome(**{**each, "row": Row(**each["row"])}) for each in told]


def _write(outcomes: list[Outcome]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(outcomes)}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
