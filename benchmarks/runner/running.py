"""Let the contestants take turns and compare what they reached."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from benchmarks.contest import UNITS, Case, Contestant, Curve, Line
from benchmarks.runner.child import ContestantError, measure

__all__ = ["Rounds", "compare", "hold", "quick_form", "with_bounded_peers"]

_TIMES = re.compile(r"\btimes=\d+")
_Contest = TypeVar("_Contest", Case, Curve)


@dataclass(slots=True)
class Rounds:
    """What the contestants of a case reached.

    Parameters
    ----------
    found : dict
        By contestant, what each round set.
    troubles : dict
        By contestant, why it gave no figure.
    """

    found: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def median(self, name: str, measure: str) -> float:
        """Return the median of a contestant's rounds, nan where there is none."""
        figures = self._figures(name, measure)
        return statistics.median(figures) if figures else math.nan

    def spread(self, name: str, measure: str) -> float:
        """Return the largest of a contestant's rounds divided by the smallest."""
        figures = self._figures(name, measure)
        return max(figures) / min(figures) if figures and min(figures) > 0 else 1.0

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return a contestant's curve: the median of its rounds at each size."""
        at: dict[float, list[float]] = {}
        for each in self.found.get(name, []):
            for x, y in each["points"]:
                at.setdefault(x, []).append(y)
        return [(x, statistics.median(at[x])) for x in sorted(at)]

    def _figures(self, name: str, measure: str) -> list[float]:
        return [each[measure] for each in self.found.get(name, [])]


def quick_form(each: _Contest) -> _Contest:
    """Return a case or a curve with its smaller load, each run measured twice, not ``times=7``."""
    contestants = {}
    for name, contestant in each.contestants.items():
        source = contestant.source
        for old, new in each.quick.items():
            source = source.replace(old, new)
        source = _TIMES.sub("times=2", source)
        contestants[name] = replace(contestant, source=source)
    return replace(each, contestants=contestants)


def with_bounded_peers(case: Case) -> Case:
    """Return a case without the peers that no bound names; a case without bounds keeps them all."""
    return replace(case, contestants={name: case.contestants[name] for name in _bounded(case)})


def _bounded(case: Case | Curve) -> list[str]:
    """Return jobspan and the peers that a bound names; all where there is no bound."""
    if isinstance(case, Curve) or not case.at_most:
        return list(case.contestants)
    needed = {"jobspan", case.memory_of, *case.at_most}
    return [name for name in case.contestants if name in needed]


def hold(case: Case | Curve, rounds: int) -> Rounds:
    """Hold a contest: every contestant once a round, in turned order from one to the next.

    Peers that no bound names take part in the first round only: they are there for orientation.
    """
    result = Rounds({name: [] for name in case.contestants})
    wanted = {"points"} if isinstance(case, Curve) else {case.compared}
    if isinstance(case, Case) and case.memory_of:
        wanted.add("megabytes")
    for number in range(min(rounds, case.rounds)):
        names = _bounded(case) if number else list(case.contestants)
        for name in reversed(names) if number % 2 else names:
            if name not in result.troubles:
                try:
                    result.found[name].append(_round(case.contestants[name], wanted, case.limit))
                except ContestantError as error:
                    result.troubles[name] = str(error)
                    result.found[name] = []
    return result


def _round(contestant: Contestant, wanted: set[str], limit: float) -> dict[str, Any]:
    found = measure(contestant, limit, memory="tree_megabytes" in wanted)
    if missing := sorted(wanted - set(found)):
        raise ContestantError(f"did not set {', '.join(missing)}")
    return found


def compare(case: Case, rounds: Rounds, topic: str = "") -> list[Line]:
    """Compare medians: a line for each peer, and for each bound."""
    peers = {*case.at_most, *case.contestants} - {"jobspan"}
    in_order = sorted(peers, key=lambda peer: (peer in case.contestants, peer)) or [""]
    lines = [_line(case, rounds, peer) for peer in in_order]
    if case.memory_of is not None:
        bounded = replace(
            case,
            name=f"{case.name}: memory of the parent",
            unit="",
            at_most={case.memory_of: 1.0},
            measure="megabytes",
        )
        lines.append(_line(bounded, rounds, case.memory_of))
    return [replace(line, topic=topic) for line in lines]


def _line(case: Case, rounds: Rounds, peer: str) -> Line:
    unit = case.unit or UNITS[case.compared]
    if peer in case.contestants:
        theirs = rounds.median(peer, case.compared)
    else:
        theirs = 1.0 if peer else math.nan
        unit = "x" if peer == "ideal" else unit
    troubles = [
        name + ": " + rounds.troubles[name] for name in ("jobspan", peer) if name in rounds.troubles
    ]
    return Line(
        case.name,
        peer,
        rounds.median("jobspan", case.compared),
        theirs,
        rounds.spread("jobspan", case.compared),
        case.at_most.get(peer),
        unit,
        "; ".join(troubles),
    )
