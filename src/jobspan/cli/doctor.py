"""``jobspan doctor``: what this machine, a store and a cluster can do, and what to change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from jobspan.cli.checks import Check, Verdict, cluster_checks, machine_checks, store_checks
from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.output import console, print_json
from jobspan.cli.parameters import as_json, opened, options_file

__all__ = ["doctor"]

_MARKS = {
    Verdict.GOOD: "[green]✓[/]",
    Verdict.INFORMATION: "[dim]·[/]",
    Verdict.DOUBTFUL: "[yellow]![/]",
    Verdict.WRONG: "[red]✗[/]",
}


@click.command("doctor", short_help="Check this machine, a cache, a cluster.")
@click.option("--cache", "url", help="A cache's URL: can it be reached, are claims safe there?")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE")
@options_file
@click.option("--backend", "-b", help="A cluster: does it answer, do versions match?")
@as_json
def doctor(
    url: str | None,
    options: tuple[str, ...],
    options_file: dict[str, Any] | None,
    backend: str | None,
    as_json: bool,
) -> int:
    """Look at this machine, and where asked for, at a cache and a cluster.

    Exit code 1: something is wrong. Doubtful things are marked and are no failure.
    """
    checks = list(machine_checks())
    if url is not None:
        checks += store_checks(lambda: opened(url, options, options_file))
    if backend is not None:
        checks += cluster_checks(backend)
    if as_json:
        print_json(
            [
                {
                    "check": check.name,
                    "verdict": check.verdict.value,
                    "found": check.found,
                    "advice": check.advice,
                }
                for check in checks
            ]
        )
    else:
        _draw(checks)
    wrong = any(check.verdict is Verdict.WRONG for check in checks)
    return ExitCode.FOUND_WRONG if wrong else ExitCode.DONE


def _draw(checks: Iterable[Check]) -> None:
    from rich.markup import escape

    out = console()
    for check in checks:
        out.print(f"{_MARKS[check.verdict]} [bold]{escape(check.name)}[/]  {escape(check.found)}")
        if check.advice:
            out.print(f"    {escape(check.advice)}", style="yellow")
