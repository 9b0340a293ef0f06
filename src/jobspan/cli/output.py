"""What the command prints: tables for people, JSON for programs, questions before it deletes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobspan.cli.exit_codes import ExitCode

__all__ = ["ask", "console", "counted", "moment", "print_json", "since", "table"]

PIPED_WIDTH = 200
"""Columns where the output goes into a file or a pipe, which have no width of their own."""


_FIRST, _LAST = "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"


def console() -> Console:
    """Return where results are printed."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(width=width, highlight=False, soft_wrap=not sys.stdout.isatty())


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the noun that goes with it.

    Examples
    --------
    >>> counted(1, "entry", "entries"), counted(2000, "entry", "entries")
    ('1 entry', '2,000 entries')
    """
    return f"{number:,} {one if number == 1 else many}"


def print_json(value: Any) -> None:
    """Print a value as JSON, keys in the order that they were given."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """Return a table whose first `left` columns are text and the others figures.

    What users named is shown as it is: it is never read as markup.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        made.add_column(
            column, justify="left" if place < left else "right", no_wrap=place > 0, overflow="fold"
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def moment(seconds: float) -> str:
    """Return a time for programs: ISO 8601 with this machine's offset.

    Files may have times that calendars have not, for anybody may set them.

    Examples
    --------
    >>> moment(1e15), moment(-1e15)
    ('9999-12-31T23:59:59+00:00', '0001-01-01T00:00:00+00:00')
    """
    try:
        told = datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return _LAST if seconds > 0 else _FIRST
    return told.isoformat(timespec="seconds")


def since(seconds: float, now: float) -> str:
    """Return how long ago something was, for people.

    Examples
    --------
    >>> since(0, 30), since(0, 7300), since(0, 400_000)
    ('just now', '2 h ago', '5 d ago')
    """
    passed = now - seconds
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= length:
            return f"{passed / length:.0f} {unit} ago"
    return "just now"


def ask(question: str, *, yes: bool) -> None:
    """Ask before something is deleted; a no ends the command.

    Where nobody can answer, for input is no terminal, the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        click.echo(f"{question} Nobody can be asked here: type --yes to do it.", err=True)
        raise click.exceptions.Exit(ExitCode.DECLINED)
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(ExitCode.DECLINED)
