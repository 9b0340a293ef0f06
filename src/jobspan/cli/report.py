"""A picture of a cache: one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from jobspan.memory.inventory import StoredEntry, Survey
from jobspan.parallel.report import readable_bytes, readable_seconds

__all__ = ["page"]

DAYS = (1, 7, 30, 90, 365)
"""The ages at which the histogram's bins end."""

LARGEST = 15

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e6ec;
  --ground: #ffffff; --panel: #f7f8fa; --accent: #4269d0; --leaving: #d97706; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3340;
  --ground: #12151c; --panel: #1a1f29; --accent: #7d9cf0; --leaving: #f0a13c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 1000px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.25rem 0 .5rem; }
p.sub { margin: 0 0 1rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: .75rem; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem .9rem; } .tile b { display: block; font-size: 1.2rem;
  font-variant-numeric: tabular-nums; } .tile span { color: var(--soft); font-size: .82rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px;
  background: var(--panel); padding: .5rem .75rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 500; font-size: .85rem; }
td.name, th.name { text-align: left; overflow-wrap: anywhere; white-space: normal;
  min-width: 11rem; }
td.bar { width: 30%; min-width: 110px; }
.bar i { display: block; height: .75rem; border-radius: 3px; background: var(--accent);
  min-width: 1px; float: left; } .bar i.leaving { background: var(--leaving); }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 3px; margin: 0 .35em 0 .9em;
  background: var(--accent); vertical-align: -.06em; } .key.leaving { background: var(--leaving); }
"""


def page(url: str, found: Survey, now: float, leaving: Collection[str] | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    url : str
        Where the cache is.
    found : Survey
        What it holds.
    now : float
        The time, in seconds since the epoch.
    leaving : collection of str or None
        Names of the entries that eviction would take; None: nobody asked.
    """
    chosen = frozenset(leaving or ())
    figures = {
        "results": f"{len(found.entries):,}",
        "functions": f"{len(found.by_function()):,}",
        "in all": readable_bytes(found.size),
        "to compute it all again": readable_seconds(found.seconds),
    }
    if found.claims:
        figures["computed just now"] = f"{len(found.claims):,}"
    if found.damaged:
        figures["damaged"] = f"{len(found.damaged):,}"
    if leaving is not None:
        gone = [entry for entry in found.entries if entry.info.name in chosen]
        figures["eviction frees"] = readable_bytes(sum(entry.info.size for entry in gone))
        figures["eviction loses"] = readable_seconds(sum(entry.header.seconds for entry in gone))
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in figures.items()
    )
    legend = ""
    if leaving is not None:
        legend = (
            '<span class="key"></span>stays<span class="key leaving"></span>eviction would take it'
        )
    parts = [f'<div class="tiles">{tiles}</div>']
    if found.entries:
        parts += [
            "<h2>Functions</h2>",
            f'<p class="sub">The bar is the size of the function\'s results.{legend}</p>',
            _functions(found, now, chosen),
            "<h2>Last use</h2>",
            '<p class="sub">Where the store keeps no last use, when results were stored.</p>',
            _ages(found.entries, now, chosen),
            "<h2>Largest results</h2>",
            _largest(found.entries, now),
        ]
    else:
        parts.append('<p class="sub">Nothing is stored here.</p>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(url)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(url)}</h1><p class="sub">A cache of results.</p>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _functions(found: Survey, now: float, leaving: Collection[str]) -> str:
    groups = found.by_function()
    most = max(sum(entry.info.size for entry in entries) for entries in groups.values())
    rows = []
    for name, entries in groups.items():
        seconds = sum(entry.header.seconds for entry in entries)
        rows.append(
            (
                escape(name),
                _bar(entries, most, leaving),
                readable_bytes(sum(entry.info.size for entry in entries)),
                f"{len(entries):,}",
                readable_seconds(seconds),
                readable_seconds(seconds / len(entries)),
                _age(now - max(entry.used for entry in entries)),
            )
        )
    head = ("function", "", "size", "results", "took in all", "saved a hit", "last used")
    return _table(head, rows, bar=1)


def _ages(entries: Sequence[StoredEntry], now: float, leaving: Collection[str]) -> str:
    bins: list[list[StoredEntry]] = [[] for _ in range(len(DAYS) + 1)]
    for entry in entries:
        days = (now - entry.used) / 86400
        bins[sum(days >= end for end in DAYS)].append(entry)
    most = max(sum(entry.info.size for entry in group) for group in bins)
    names = ["today", "this week", "this month", "3 months", "this year", "longer ago"]
    rows = [
        (
            name,
            _bar(group, most, leaving),
            readable_bytes(sum(entry.info.size for entry in group)),
            f"{len(group):,}",
        )
        for name, group in zip(names, bins, strict=True)
    ]
    return _table(("last used", "", "size", "results"), rows, bar=1)


def _largest(entries: Sequence[StoredEntry], now: float) -> str:
    chosen = sorted(entries, key=lambda entry: -entry.info.size)[:LARGEST]
    rows = [
        (
            f"{escape(entry.header.function)} <code>{escape(entry.header.key[:12])}</code>",
            readable_bytes(entry.info.size),
            readable_seconds(entry.header.seconds),
            _age(now - entry.header.created),
        )
        for entry in chosen
    ]
    return _table(("result", "size", "took", "stored"), rows)


def _bar(entries: Iterable[StoredEntry], most: int, leaving: Collection[str]) -> str:
    """Return the bar of a group's bytes: what stays, then what would leave."""
    stays = goes = 0
    for entry in entries:
        if entry.info.name in leaving:
            goes += entry.info.size
        else:
            stays += entry.info.size
    return "".join(
        f'<i class="{kind}" style="width:{100 * size / max(most, 1):.2f}%" '
        f'title="{readable_bytes(size)}"></i>'
        for kind, size in (("stays", stays), ("leaving", goes))
        if size
    )


def _age(seconds: float) -> str:
    days = seconds / 86400
    return f"{days:.0f} d ago" if days >= 1 else "today"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], bar: int | None = None) -> str:
    """Return a table; its cells are HTML already."""

    def kind(place: int) -> str:
        if place == 0:
            return ' class="name"'
        return ' class="bar"' if place == bar else ""

    titles = "".join(f"<th{kind(place)}>{escape(title)}</th>" for place, title in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind(place)}>{cell}</td>" for place, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'
