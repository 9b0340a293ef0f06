"""The timeline of a ``Parallel`` call: which worker ran which batch when, and what follows."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Bar", "FunctionFigures", "Span", "bars", "by_function", "slowest", "utilisation_curve"]


class Span(NamedTuple):
    """One batch on the timeline of a worker.

    Parameters
    ----------
    worker : str
        Who ran it.
    started : float
        When, in seconds since the epoch by the worker's clock.
    seconds : float
        For how long.
    first : int
        Index of its first call.
    calls : int
        How many calls it held.
    failures : int
        How many of them failed.
    function : str
        Name of its first call's function.
    """

    worker: str
    started: float
    seconds: float
    first: int
    calls: int
    failures: int
    function: str


class Bar(NamedTuple):
    """What is drawn as one bar: batches of one function that lie too close to be told apart."""

    begin: float
    end: float
    function: str
    batches: int
    calls: int
    failures: int


class FunctionFigures(NamedTuple):
    """What the calls of one function took."""

    function: str
    calls: int
    failures: int
    seconds: float


def bars(spans: Iterable[Span], gap: float) -> dict[str, list[Bar]]:
    """Return what to draw for each worker, by the worker's name.

    Parameters
    ----------
    spans : iterable of Span
        The batches.
    gap : float
        Seconds; batches that lie closer, and are themselves shorter, are drawn as one.

    Examples
    --------
    >>> spans = [Span("a", 0.0, 0.1, 0, 1, 0, "f"), Span("a", 0.15, 0.1, 1, 1, 0, "f")]
    >>> [len(found) for found in bars(spans, gap=0.2).values()]
    [1]
    >>> [len(found) for found in bars(spans, gap=0.01).values()]
    [2]
    """
    found: dict[str, list[Bar]] = {}
    for span in sorted(spans, key=lambda span: span.started):
        mine = found.setdefault(span.worker, [])
        end = span.started + span.seconds
        last = mine[-1] if mine else None
        if (
            last is not None
            and span.started - last.end < gap
            and min(span.seconds, last.end - last.begin) < gap
            and last.function == span.function
            and bool(last.failures) == bool(span.failures)
        ):
            mine[-1] = Bar(
                last.begin,
                max(last.end, end),
                last.function,
                last.batches + 1,
                last.calls + span.calls,
                last.failures + span.failures,
            )
        else:
            mine.append(Bar(span.started, end, span.function, 1, span.calls, span.failures))
    return found


def utilisation_curve(spans: Sequence[Span], places: int, bins: int) -> list[float]:
    """Return the share of `places` that was busy, from 0 to 1, in equal parts of the time.

    Parameters
    ----------
    spans : sequence of Span
        The batches.
    places : int
        How many calls could run at once.
    bins : int
        How many parts.

    Examples
    --------
    >>> utilisation_curve([Span("a", 0, 1.0, 0, 1, 0, "f"), Span("b", 0, 2.0, 1, 1, 0, "f")], 2, 2)
    [1.0, 0.5]
    """
    if not spans:
        return []
    begin = min(span.started for span in spans)
    width = (max(span.started + span.seconds for span in spans) - begin) / bins
    if width <= 0:
        return [0.0] * bins
    busy = [0.0] * bins
    for span in spans:
        start, end = (span.started - begin) / width, (span.started + span.seconds - begin) / width
        first, last = min(int(start), bins - 1), min(int(end), bins - 1)
        if first == last:
            busy[first] += end - start
            continue
        busy[first] += first + 1 - start
        for place in range(first + 1, last):
            busy[place] += 1.0
        busy[last] += end - last
    return [min(1.0, share / places) for share in busy]


def slowest(spans: Iterable[Span], count: int) -> list[Span]:
    """Return the batches whose calls took longest on average, the slowest first."""
    return heapq.nlargest(count, spans, key=lambda span: span.seconds / span.calls)


def by_function(spans: Iterable[Span]) -> list[FunctionFigures]:
    """Return what the calls of each function took, the costliest first."""
    found: dict[str, FunctionFigures] = {}
    for span in spans:
        before = found.get(span.function, FunctionFigures(span.function, 0, 0, 0.0))
        found[span.function] = FunctionFigures(
            span.function,
            before.calls + span.calls,
            before.failures + span.failures,
            before.seconds + span.seconds,
        )
    return sorted(found.values(), key=lambda figures: -figures.seconds)
