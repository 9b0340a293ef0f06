"""How a memory and a stored result show themselves in a notebook: from what is known, unasked.

Nothing here asks a store: a cell's output must not wait for a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

__all__ = ["memory_table", "result_table"]

_NAMES = {
    "hits": "hits",
    "misses": "misses",
    "seconds_saved": "time saved",
    "bytes_read": "read",
    "bytes_written": "written",
    "failures": "failures",
}


def memory_table(url: str | None, stats: Mapping[str, float]) -> str:
    """Return what a memory has done in this process, as a table.

    Parameters
    ----------
    url : str or None
        Where results are stored; None: nowhere.
    stats : mapping
        The figures of :meth:`jobspan.Memory.stats`.

    Examples
    --------
    >>> "2 s" in memory_table("memory://here", {"hits": 3, "seconds_saved": 2.0})
    True
    """
    if url is None:
        return "<table><caption>Memory that stores nothing</caption></table>"
    rows = {name: _figure(key, stats[key]) for key, name in _NAMES.items() if key in stats}
    if not stats.get("failures"):
        rows.pop("failures", None)
    return _table(f"Memory at <code>{escape(url)}</code>, in this process", rows)


def result_table(function: str, key: str, metadata: Mapping[str, Any]) -> str:
    """Return which call's result is stored, as a table.

    Parameters
    ----------
    function : str
        Module and qualified name of the function.
    key : str
        The key's digest.
    metadata : mapping
        ``duration``, ``time`` and ``input_args``, as far as they are known.
    """
    arguments = metadata.get("input_args") or {}
    rows = {str(name): str(value) for name, value in arguments.items()}
    if metadata.get("duration") is not None:
        rows["took"] = _figure("seconds_saved", metadata["duration"])
    if metadata.get("time") is not None:
        moment = datetime.fromtimestamp(metadata["time"]).astimezone()
        rows["stored"] = moment.strftime("%Y-%m-%d %H:%M:%S")
    return _table(f"<code>{escape(function)}</code> <small>{escape(key[:12])}…</small>", rows)


def _figure(key: str, value: float) -> str:
    if key.startswith("seconds"):
        return f"{value:.3g} s"
    if key.startswith("bytes"):
        return f"{value / 1e6:,.1f} MB"
    return f"{value:,.0f}"


def _table(caption: str, rows: Mapping[str, str]) -> str:
    """Return a table under a caption that is HTML already."""
    body = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:right">{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f'<table><caption style="text-align:left">{caption}</caption>{body}</table>'
