"""Plots as SVG, drawn by hand: they follow the reader's colour scheme and need no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.contest import Line
from benchmarks.runner import figures
from benchmarks.runner.results import DrawnCurve

__all__ = ["bounds_plot", "curve_plot"]

_NAMES = ["jobspan", "joblib", "futures", "mp.Pool", "mpire", "loop"]
_LIGHT = ["#2f55c4", "#b4540a", "#15763a", "#7c3aad", "#0b7285", "#5f6773"]
_DARK = ["#8faaf5", "#f2a461", "#63c98f", "#c59af2", "#55c3d9", "#a3abb8"]

_STYLE = """<style>
svg { --back: #ffffff; --ink: #1b1f27; --soft: #5f6773; --grid: #e3e6eb; --edge: #cdd2da;
      --fine: #15763a; --missed: #c0261c;
      LIGHT }
@media (prefers-color-scheme: dark) {
svg { --back: #14171d; --ink: #e8ebf0; --soft: #a3abb8; --grid: #2a2f39; --edge: #434a57;
      --fine: #63c98f; --missed: #ff8a80;
      DARK } }
text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 12px; }
.title { font-size: 15px; font-weight: 600; }
.grid { stroke: var(--grid); } .edge { stroke: var(--edge); fill: none; }
.card { fill: var(--back); stroke: var(--edge); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.leader { fill: none; stroke-dasharray: 2 3; opacity: 0.6; }
.taken { stroke-width: 2; opacity: 0.45; }
.ours { stroke-width: 3.2; } .name { font-weight: 600; }
</style>"""


def _style() -> str:
    def colours(palette: Sequence[str]) -> str:
        return " ".join(f"--c{number}: {colour};" for number, colour in enumerate(palette))

    return _STYLE.replace("LIGHT", colours(_LIGHT)).replace("DARK", colours(_DARK))


def _document(width: float, height: float, title: str, body: Sequence[str]) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    card = f'width="{width - 1:g}" height="{height - 1:g}" rx="8"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        _style(),
        f'<rect class="card" x="0.5" y="0.5" {card}/>',
    ]
    return "\n".join([*head, *body, "</svg>\n"])


def _text(
    x: float, y: float, text: str, kind: str = "", anchor: str = "start", style: str = ""
) -> str:
    more = (f' class="{kind}"' if kind else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{more} text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]], kind: str = "grid", style: str = "") -> str:
    d = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    more = f' style="{style}"' if style else ""
    return f'<path class="{kind}"{more} d="M{d}"/>'


def _rule(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    return _path([(x1, y1), (x2, y2)], kind)


def _dot(x: float, y: float, radius: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" style="fill: {colour}"/>'


class _LogAxis:
    """Values on a logarithmic axis, from one pixel to another."""

    def __init__(
        self, values: Sequence[float], first: float, last: float, decades: float = 0.1
    ) -> None:
        low, high = math.log10(min(values)), math.log10(max(values))
        missing = max(0.0, decades - (high - low)) / 2
        low, high = low - missing, high + missing
        room = max(0.04 * (high - low), 0.06)
        self._low, self._high = low - room, high + room
        self._first, self._last = first, last

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._first + share * (self._last - self._first)

    def ticks(self) -> list[float]:
        """Return powers of ten; with twos and fives between them where they are few."""
        powers = range(math.floor(self._low), math.ceil(self._high) + 1)
        steps = (1, 2, 5) if self._high - self._low < 2.5 else (1,)
        found = [step * 10.0**power for power in powers for step in steps]
        return [tick for tick in found if self._low <= math.log10(tick) <= self._high]


def curve_plot(curve: DrawnCurve) -> str:
    """Return a curve as an SVG document, both axes logarithmic."""
    width, height = 760.0, 420.0
    left, right, top, bottom = 70.0, width - 128, 62.0, height - 58
    drawn = {name: points for name, points in curve.points.items() if points}
    across = _LogAxis([x for points in drawn.values() for x, _ in points], left, right)
    up = _LogAxis([y for points in drawn.values() for _, y in points], bottom, top, 1)
    body = [
        _text(20, 28, curve.name[:1].upper() + curve.name[1:], "title"),
        _text(20, 48, curve.y, "soft"),
    ]
    for tick in up.ticks():
        body += [_rule(left, up.at(tick), right, up.at(tick))]
        body += [_text(left - 8, up.at(tick) + 4, figures.plain(tick), "soft", "end")]
    sizes = sorted({x for points in drawn.values() for x, _ in points})
    for size in sizes:
        body += [_rule(across.at(size), top, across.at(size), bottom)]
        body += [_text(across.at(size), bottom + 20, figures.plain(size), "soft", "middle")]
    body += [_text((left + right) / 2, height - 16, curve.x, "soft", "middle")]
    body += [_rule(left, bottom, right, bottom, "edge")]
    ends = {name: up.at(points[-1][1]) for name, points in drawn.items()}
    places = _apart(ends, 17, top, bottom)
    for number, (name, points) in reversed(list(enumerate(drawn.items()))):
        colour = f"var(--c{_NAMES.index(name) if name in _NAMES else number % len(_NAMES)})"
        ours = " ours" if name == "jobspan" else ""
        places_of_points = [(across.at(x), up.at(y)) for x, y in points]
        body += [_path(places_of_points, f"line{ours}", f"stroke: {colour}")]
        body += [_dot(x, y, 4 if ours else 3, colour) for x, y in places_of_points]
        leader = [(places_of_points[-1][0] + 5, ends[name]), (right + 14, places[name])]
        body += [_path(leader, "leader", f"stroke: {colour}")]
        body += [_text(right + 18, places[name] + 4, name, "name", style=f"fill: {colour}")]
    return _document(width, height, f"{curve.name}: {curve.y} over {curve.x}", body)


def _apart(wanted: dict[str, float], step: float, top: float, bottom: float) -> dict[str, float]:
    """Return places near the wanted ones, each at least a step from the next."""
    names = sorted(wanted, key=lambda each: wanted[each])
    places: dict[str, float] = {}
    for name in names:
        places[name] = max(wanted[name], top)
        top = places[name] + step
    for name in reversed(names):
        places[name] = min(places[name], bottom)
        bottom = places[name] - step
    return places


def bounds_plot(lines: Sequence[Line]) -> str:
    """Return all bounds as an SVG document: how much of what is allowed each line takes."""
    rows = [line for line in lines if line.bound is not None and not line.trouble]
    width, row, top = 860.0, 19.0, 84.0
    left, right = 500.0, width - 96
    height = top + row * len(rows) + 24
    shares = {id(line): max(line.ratio / (line.bound or 1.0), 1e-3) for line in rows}
    axis = _LogAxis([1.0, *shares.values()], left, right)
    body = [
        _text(20, 28, "What each bound allows, and how much of it is taken", "title"),
        _text(20, 48, "1: the bound. Left of it the bound holds.", "soft"),
    ]
    for tick in axis.ticks():
        kind = "edge" if tick == 1 else "grid"
        body += [_rule(axis.at(tick), top - 8, axis.at(tick), height - 20, kind)]
        body += [_text(axis.at(tick), top - 14, figures.plain(tick), "soft", "middle")]
    for number, line in enumerate(rows):
        y = top + row * number + 6
        colour = "var(--fine)" if line.holds else "var(--missed)"
        beside = f", {line.peer}" if line.has_peer else ""
        x = axis.at(shares[id(line)])
        body += [
            _text(left - 12, y + 4, _short(f"{line.case}{beside}"), "soft", "end"),
            _path([(axis.at(1), y), (x, y)], "taken", f"stroke: {colour}"),
            _dot(x, y, 4.5, colour),
            _text(right + 10, y + 4, figures.plain(shares[id(line)]), "soft"),
        ]
    return _document(width, height, "How much of each bound is taken", body)


def _short(text: str, length: int = 74) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
