"""Figures as people read them."""

from __future__ import annotations

import math

from benchmarks.contest import Line

__all__ = ["TIMES", "amount", "bound", "plain", "share", "theirs"]

TIMES = "\N{MULTIPLICATION SIGN}"
_SMALLER = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def plain(value: float) -> str:
    """Return a number with three digits that count, never in powers of ten."""
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount(value: float, unit: str) -> str:
    """Return a figure with its unit; seconds in the unit of which there is at least one."""
    if math.isnan(value):
        return ""
    if unit == "s":
        factor, name = next(((f, n) for f, n in _SMALLER if abs(value) >= f), _SMALLER[-1])
        return f"{plain(value / factor)} {name}"
    return f"{plain(value)} {TIMES if unit == 'x' else unit}"


def theirs(line: Line) -> str:
    """Return the peer's figure; nothing where `theirs` is only a unit to measure in."""
    return amount(line.theirs, line.unit) if line.has_peer else ""


def share(line: Line) -> str:
    """Return how ours compares with theirs; nothing where there is no peer."""
    return f"{plain(line.ratio)} {TIMES}" if line.has_peer and not line.trouble else ""


def bound(line: Line) -> str:
    """Return what a line must not exceed."""
    if line.bound is None:
        return ""
    return f"{plain(line.bound)} {TIMES}" if line.has_peer else amount(line.bound, line.unit)
