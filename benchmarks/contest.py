"""A contest: contestants that take turns, each round in a fresh interpreter, medians compared.

A contestant is Python source that sets ``seconds``, and sometimes ``megabytes`` or ``requests``.
A cold one is timed from outside, start and exit of the interpreter included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Case", "Contestant", "Line", "measure", "run"]

LONGEST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Contestant:
    """One side of a case.

    Parameters
    ----------
    source : str
        What it runs; sets ``seconds`` unless it is cold.
    cold : bool
        Whether the whole life of the interpreter is what is timed.
    """

    source: str
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, and what must be reached.

    Parameters
    ----------
    name : str
        What is measured.
    contestants : mapping of str to Contestant
        By the library's name; ``jobspan`` is one of them.
    at_most : mapping of str to float
        How many times a peer's seconds jobspan may take; ``"ideal"``: how many times 1.0, for cases
        whose contestants report seconds as a multiple of what cannot be beaten; ``"seconds"``: how
        many seconds.
    memory_of : str or None
        The peer whose parent's memory must not be exceeded.
    """

    name: str
    contestants: Mapping[str, Contestant]
    at_most: Mapping[str, float] = field(default_factory=dict)
    memory_of: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison of a case.

    Parameters
    ----------
    case, peer : str
        What was measured, and beside whom.
    ours, theirs : float
        Medians, in seconds, megabytes or as a multiple of the ideal.
    spread : float
        The largest of our rounds divided by the smallest.
    bound : float or None
        How large `ratio` may be; None: it is only reported.
    unit : str
        What `ours` and `theirs` are in.
    """

    case: str
    peer: str
    ours: float
    theirs: float
    spread: float
    bound: float | None
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """Ours divided by theirs."""
        return self.ours / self.theirs if self.theirs else float("inf")

    @property
    def holds(self) -> bool:
        """Whether the bound holds; a line without one does."""
        return self.bound is None or self.ratio <= self.bound


def measure(contestant: Contestant) -> dict[str, float]:
    """Run a contestant once in a fresh interpreter; return what it set."""
    source = contestant.source
    if not contestant.cold:
        source += (
            "\nimport json\nprint(json.dumps({k: v for k, v in globals().items() "
            "if k in ('seconds', 'megabytes', 'requests')}))"
        )
    # An installed package comes with its bytecode; the checkout must be allowed to write its own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", source],
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        env=environment,
    )
    if done.returncode:
        raise RuntimeError(f"a contestant failed:\n{source}\n{done.stderr}")
    if contestant.cold:
        return {"seconds": time.perf_counter() - begin}
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(case: Case, rounds: int) -> list[Line]:
    """Let the contestants of a case take turns, and compare their medians."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in case.contestants}
    for _ in range(rounds):
        for name, contestant in case.contestants.items():
            found[name].append(measure(contestant))
    ours = [each["seconds"] for each in found["jobspan"]]
    spread = max(ours) / min(ours)
    lines = []
    peers = {*case.at_most, *case.contestants} - {"jobspan"}
    for peer in sorted(peers):
        theirs = 1.0 if peer not in found else _median(found[peer], "seconds")
        unit = "s" if peer in found or peer == "seconds" else "x"
        lines.append(
            Line(
                case.name,
                peer,
                statistics.median(ours),
                theirs,
                spread,
                case.at_most.get(peer),
                unit,
            )
        )
    if case.memory_of is not None:
        lines.append(
            Line(
                f"{case.name}: memory of the parent",
                case.memory_of,
                _median(found["jobspan"], "megabytes"),
                _median(found[case.memory_of], "megabytes"),
                1.0,
                1.0,
                "MB",
            )
        )
    return lines


def _median(results: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in results)
