"""The report of a ``Parallel`` call: one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle

from jobspan.parallel.timeline import Bar, Span, bars, by_function, slowest, utilisation_curve

__all__ = ["figures_table", "page", "readable_bytes", "readable_seconds"]

WIDTH = 1000
ROW = 18
LABEL = 150
MOST_WORKERS = 200
CURVE_HEIGHT = 90
CURVE_BINS = 250
SLOWEST = 15

_PALETTE = ("#4269d0", "#efb118", "#6cc5b0", "#a463f2", "#ff8ab7", "#9c6b4e", "#97bbf5", "#3ca951")
"""Told apart in light and dark, and by people who see colours differently (Observable's 10)."""

_FAILED = "#e5484d"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e6ec;
  --ground: #ffffff; --panel: #f7f8fa; --accent: #4269d0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3340;
  --ground: #12151c; --panel: #1a1f29; --accent: #7d9cf0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 1100px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.45rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 2.25rem 0 .75rem; }
p.sub { margin: 0 0 1.5rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: .75rem; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem .9rem; } .tile b { display: block; font-size: 1.2rem;
  font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); font-size: .82rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--panel); padding: .75rem; }
svg { display: block; width: 100%; min-width: 620px; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .area { fill: var(--accent); fill-opacity: .25;
  stroke: var(--accent); stroke-width: 1.5; } svg rect.bar:hover { fill-opacity: .65; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
td.number, th.number { text-align: right; } td.name { overflow-wrap: anywhere; }
.key { white-space: nowrap; display: inline-block; width: .8em; height: .8em; border-radius: 3px;
  margin: 0 .35em 0 .9em; vertical-align: -.06em; }
"""


def page(
    title: str, summary: str, figures: Mapping[str, str], spans: Sequence[Span], places: int
) -> str:
    """Return the page.

    Parameters
    ----------
    title, summary : str
        What stands at its head.
    figures : mapping of str to str
        The figures, by what they say.
    spans : sequence of Span
        The batches that were run.
    places : int
        How many calls could run at once.
    """
    colours = dict(zip((figure.function for figure in by_function(spans)), cycle(_PALETTE)))
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in figures.items()
    )
    parts = [f'<div class="tiles">{tiles}</div>']
    if spans:
        parts += [
            "<h2>Timeline</h2>",
            f'<p class="sub">A row a worker; each bar is a batch.{_legend(colours, spans)}</p>',
            f'<div class="scroll">{_timeline(spans, colours)}</div>',
            "<h2>Utilisation</h2>",
            f'<p class="sub">Share of the {places} places that were busy.</p>',
            f'<div class="scroll">{_curve(spans, places)}</div>',
            "<h2>Slowest calls</h2>",
            _slowest_table(spans),
            "<h2>Functions</h2>",
            _function_table(spans),
        ]
    else:
        parts.append('<p class="sub">No batch was run: there is no timeline.</p>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="sub">{escape(summary)}</p>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def figures_table(title: str, figures: Mapping[str, str]) -> str:
    """Return the figures as a small table, for a notebook."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:right">{escape(value)}</td></tr>'
        for name, value in figures.items()
    )
    return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def readable_bytes(size: float) -> str:
    """Return a number of bytes as people read it.

    Examples
    --------
    >>> readable_bytes(512), readable_bytes(80_000_000)
    ('512 B', '80.0 MB')
    """
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def readable_seconds(seconds: float) -> str:
    """Return a time as people read it.

    Examples
    --------
    >>> readable_seconds(0.000_012), readable_seconds(0.25), readable_seconds(75)
    ('12 µs', '250 ms', '1 min 15 s')
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _legend(colours: Mapping[str, str], spans: Sequence[Span]) -> str:
    keys = [*list(colours.items())[: len(_PALETTE)]]
    if any(span.failures for span in spans):
        keys.append(("failed", _FAILED))
    return "".join(
        f'<span class="key" style="background:{colour}"></span>{escape(name)}'
        for name, colour in keys
    )


def _svg(height: float, content: Iterable[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {LABEL + WIDTH + 10} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(content)}</svg>'
    )


def _axis(seconds: float, height: float) -> list[str]:
    """Return the lines and labels of the time axis."""
    found = []
    for step in range(6):
        x = LABEL + WIDTH * step / 5
        anchor = "end" if step == 5 else "middle"
        found.append(
            f'<line class="axis" x1="{x}" x2="{x}" y1="0" y2="{height}"/>'
            f'<text x="{x}" y="{height + 14}" text-anchor="{anchor}">'
            f"{readable_seconds(seconds * step / 5)}</text>"
        )
    return found


def _extent(spans: Sequence[Span]) -> tuple[float, float]:
    begin = min(span.started for span in spans)
    return begin, max(max(span.started + span.seconds for span in spans) - begin, 1e-9)


def _timeline(spans: Sequence[Span], colours: Mapping[str, str]) -> str:
    begin, seconds = _extent(spans)
    rows = bars(spans, gap=seconds / WIDTH)
    shown = list(rows.items())[:MOST_WORKERS]
    height = ROW * len(shown)
    content = _axis(seconds, height)
    for number, (worker, mine) in enumerate(shown):
        y = ROW * number
        content.append(
            f'<text x="{LABEL - 8}" y="{y + 12}" text-anchor="end">{escape(_short(worker))}</text>'
        )
        content += [_bar(bar, begin, seconds, y, colours) for bar in mine]
    if len(rows) > len(shown):
        content.append(
            f'<text x="0" y="{height + 28}">and {len(rows) - len(shown)} more workers</text>'
        )
    return _svg(height + 32, content, "timeline of batches by worker")


def _bar(bar: Bar, begin: float, seconds: float, y: int, colours: Mapping[str, str]) -> str:
    x = LABEL + WIDTH * (bar.begin - begin) / seconds
    width = max(WIDTH * (bar.end - bar.begin) / seconds, 0.75)
    colour = _FAILED if bar.failures else colours[bar.function]
    batches = "a batch" if bar.batches == 1 else f"{bar.batches} batches"
    failed = f", {bar.failures} failed" if bar.failures else ""
    told = (
        f"{bar.function}: {batches} of {bar.calls} calls{failed}, "
        f"{readable_seconds(bar.end - bar.begin)} from {readable_seconds(bar.begin - begin)} on"
    )
    return (
        f'<rect class="bar" x="{x:.2f}" y="{y + 2}" width="{width:.2f}" height="{ROW - 4}" rx="2" '
        f'fill="{colour}"><title>{escape(told)}</title></rect>'
    )


def _curve(spans: Sequence[Span], places: int) -> str:
    _, seconds = _extent(spans)
    shares = utilisation_curve(spans, places, CURVE_BINS)
    step = WIDTH / len(shares)
    points = [f"{LABEL},{CURVE_HEIGHT}"]
    for number, share in enumerate(shares):
        y = 4 + (CURVE_HEIGHT - 4) * (1 - share)
        points.append(f"{LABEL + number * step:.1f},{y:.1f}")
        points.append(f"{LABEL + (number + 1) * step:.1f},{y:.1f}")
    points.append(f"{LABEL + WIDTH},{CURVE_HEIGHT}")
    content = _axis(seconds, CURVE_HEIGHT)
    content += [
        f'<text x="{LABEL - 8}" y="12" text-anchor="end">100 %</text>',
        f'<text x="{LABEL - 8}" y="{CURVE_HEIGHT}" text-anchor="end">0 %</text>',
        f'<polygon class="area" points="{" ".join(points)}"/>',
    ]
    return _svg(CURVE_HEIGHT + 20, content, "share of busy workers over time")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(
        f'<th class="{"name" if place == 0 else "number"}">{escape(title)}</th>'
        for place, title in enumerate(head)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"name" if place == 0 else "number"}">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _slowest_table(spans: Sequence[Span]) -> str:
    return _table(
        ("function", "call", "time a call", "worker"),
        (
            (
                span.function,
                str(span.first)
                if span.calls == 1
                else f"{span.first} to {span.first + span.calls - 1}",
                readable_seconds(span.seconds / span.calls),
                _short(span.worker),
            )
            for span in slowest(spans, SLOWEST)
        ),
    )


def _function_table(spans: Sequence[Span]) -> str:
    return _table(
        ("function", "calls", "failures", "time", "time a call"),
        (
            (
                figures.function,
                f"{figures.calls:,}",
                f"{figures.failures:,}",
                readable_seconds(figures.seconds),
                readable_seconds(figures.seconds / figures.calls),
            )
            for figures in by_function(spans)
        ),
    )


def _short(worker: str) -> str:
    return worker if len(worker) <= 24 else "…" + worker[-23:]
