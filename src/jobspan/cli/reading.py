"""``jobspan cache`` where nothing is changed: ls, show, stats, explain, report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.explaining import explain_call, explain_entry, is_call
from jobspan.cli.output import console, counted, moment, print_json, since, table
from jobspan.cli.parameters import AGE, SIZE, as_json, opened, with_store
from jobspan.cli.report import page
from jobspan.errors import EntryNotFoundError
from jobspan.memory import MemorizedResult
from jobspan.memory.eviction import Policy, evictable
from jobspan.memory.inventory import StoredEntry, Survey, folders, survey
from jobspan.memory.recall import Cache
from jobspan.parallel.report import readable_bytes, readable_seconds
from jobspan.store import ObjectStore

__all__ = ["COMMANDS", "find"]

KEY_DIGITS = 12
"""Digits of a key that lists show; as many are typed as tell it from the others."""


@click.command("ls")
@with_store
@click.argument("function", required=False)
@click.option(
    "--sort",
    type=click.Choice(["size", "used", "cost", "created"]),
    default="size",
    help="What comes first: the largest, the last used, the costliest, the newest.",
)
@click.option("--limit", type=click.IntRange(min=1), help="No more rows than these.")
@as_json
def ls(
    url: str,
    function: str | None,
    sort: str,
    limit: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """List the functions of a cache, or the entries of one FUNCTION."""
    store = opened(url, **where)
    if function is None:
        _list_functions(store, limit, as_json=as_json)
    else:
        _list_entries(store, function, sort, limit, as_json=as_json)


def _list_functions(store: ObjectStore, limit: int | None, *, as_json: bool) -> None:
    found = sorted(folders(store), key=lambda folder: -folder.size)[:limit]
    if as_json:
        print_json(
            [
                {
                    "function": folder.function or folder.folder,
                    "entries": len(folder.entries),
                    "bytes": folder.size,
                    "used": moment(folder.used),
                }
                for folder in found
            ]
        )
        return
    now = time.time()
    rows = [
        (
            folder.function or folder.folder,
            f"{len(folder.entries):,}",
            readable_bytes(folder.size),
            since(folder.used, now),
        )
        for folder in found
    ]
    if rows:
        console().print(table(("function", "entries", "size", "last used"), rows))
    else:
        click.echo(f"nothing is stored in {store.url}", err=True)


_ORDERS = {
    "size": lambda entry: -entry.info.size,
    "used": lambda entry: -entry.used,
    "cost": lambda entry: -entry.header.seconds,
    "created": lambda entry: -entry.header.created,
}


def _list_entries(
    store: ObjectStore, function: str, sort: str, limit: int | None, *, as_json: bool
) -> None:
    entries = sorted(_of(store, function).entries, key=_ORDERS[sort])[:limit]
    if as_json:
        print_json([facts(entry) for entry in entries])
        return
    now = time.time()
    rows = (
        (
            entry.header.key[:KEY_DIGITS],
            _arguments_text(entry),
            readable_bytes(entry.info.size),
            readable_seconds(entry.header.seconds),
            since(entry.header.created, now),
            since(entry.used, now),
        )
        for entry in entries
    )
    columns = ("key", "arguments", "size", "took", "stored", "last used")
    console().print(table(columns, rows, left=2))


def _of(store: ObjectStore, function: str) -> Survey:
    found = survey(store, function)
    if not found.entries:
        names = sorted(folder.function for folder in folders(store) if folder.function)
        last = function.rpartition(".")[2]
        close = [name for name in names if name.rpartition(".")[2] == last][:1]
        hint = f" Did you mean {close[0]!r}?" if close else " See: jobspan cache ls"
        raise EntryNotFoundError(f"nothing is stored for {function!r} in {store.url}.{hint}")
    return found


def arguments(entry: StoredEntry) -> dict[str, str]:
    """Return the arguments of a stored call as they are shown."""
    return {
        name.removeprefix("argument: "): text.partition(" ")[2]
        for name, text in entry.header.components.items()
        if name.startswith("argument: ")
    }


def _arguments_text(entry: StoredEntry) -> str:
    text = ", ".join(f"{name}={value}" for name, value in arguments(entry).items())
    return text if len(text) <= 60 else text[:57] + "..."


def facts(entry: StoredEntry) -> dict[str, Any]:
    """Return what JSON tells of an entry."""
    header = entry.header
    return {
        "key": header.key,
        "function": header.function,
        "name": entry.info.name,
        "arguments": arguments(entry),
        "bytes": entry.info.size,
        "seconds": header.seconds,
        "stored": moment(header.created),
        "used": moment(entry.used),
        "codec": header.codec,
        "compression": header.compression,
        "signed": bool(header.signature),
    }


def find(store: ObjectStore, key: str) -> StoredEntry:
    """Return the one entry whose key starts with what was typed.

    Raises
    ------
    EntryNotFoundError
        If there is none, or more than one.
    """
    key = key.rpartition("/")[2].lower()
    infos = [info for info in store.list() if info.name.rpartition("/")[2].startswith(key)]
    found = survey(store, infos=infos).entries
    if len(found) == 1:
        return found[0]
    if not found:
        raise EntryNotFoundError(f"no entry's key starts with {key!r} in {store.url}")
    raise EntryNotFoundError(
        f"{len(found)} entries have keys that start with {key!r}; type more digits: "
        + ", ".join(sorted(entry.header.key[: len(key) + 4] for entry in found)[:4])
    )


@click.command("show")
@with_store
@click.argument("key")
@click.option(
    "--value",
    is_flag=True,
    help="Read the value too and print its repr. Reading a pickle runs code: only where all who "
    "can write to the cache are trusted.",
)
@as_json
def show(url: str, key: str, value: bool, as_json: bool, **where: Any) -> None:
    """Show one entry: type the first digits of its KEY."""
    store = opened(url, **where)
    entry = find(store, key)
    told = facts(entry)
    told["code"] = {
        name.removeprefix("code: "): text
        for name, text in entry.header.components.items()
        if name.startswith("code: ")
    }
    if value:
        looked_at = Cache(store, writable=False)  # notes no use
        told["value"] = repr(
            MemorizedResult(looked_at, (entry.header.function, entry.header.key)).get()
        )
    if as_json:
        print_json(told)
        return
    rows: list[tuple[str, str]] = []
    for name, one in told.items():
        if isinstance(one, dict):
            rows += [(f"{name}: {inner}", str(text)) for inner, text in one.items()]
        elif name == "bytes":
            rows.append(("size", f"{readable_bytes(one)} ({one:,} bytes)"))
        elif name == "seconds":
            rows.append(("took", readable_seconds(one)))
        else:
            rows.append((name, str(one)))
    console().print(table(("", ""), rows, left=2))


@click.command("stats")
@with_store
@as_json
def stats(url: str, as_json: bool, **where: Any) -> None:
    """Sum a cache up: entries, bytes, and how long its results took to compute."""
    store = opened(url, **where)
    found = survey(store)
    functions = found.by_function()
    told = {
        "url": store.url,
        "functions": len(functions),
        "entries": len(found.entries),
        "bytes": found.size,
        "seconds": found.seconds,
        "claims": len(found.claims),
        "damaged": len(found.damaged),
        "codecs": dict(Counter(entry.header.codec for entry in found.entries)),
        "signed": sum(bool(entry.header.signature) for entry in found.entries),
        "oldest": _moment_of(min, found.entries),
        "newest": _moment_of(max, found.entries),
        "by_function": [
            {
                "function": name,
                "entries": len(entries),
                "bytes": sum(entry.info.size for entry in entries),
                "seconds": sum(entry.header.seconds for entry in entries),
                "used": moment(max(entry.used for entry in entries)),
            }
            for name, entries in functions.items()
        ],
    }
    if as_json:
        print_json(told)
        return
    out = console()
    out.print(
        f"{counted(len(found.entries), 'result', 'results')} of "
        f"{counted(len(functions), 'function', 'functions')}, "
        f"{readable_bytes(found.size)}, which took {readable_seconds(found.seconds)} to compute"
    )
    if found.claims:
        out.print(f"{len(found.claims)} being computed just now")
    if found.damaged:
        out.print(f"{len(found.damaged)} damaged: see jobspan cache verify")
    out.print()
    rows = (
        (
            name,
            f"{len(entries):,}",
            readable_bytes(sum(entry.info.size for entry in entries)),
            readable_seconds(sum(entry.header.seconds for entry in entries)),
            since(max(entry.used for entry in entries), time.time()),
        )
        for name, entries in functions.items()
    )
    out.print(table(("function", "entries", "size", "took", "last used"), rows))


def _moment_of(choose: Any, entries: Iterable[StoredEntry]) -> str | None:
    times = [entry.header.created for entry in entries]
    return moment(choose(times)) if times else None


@click.command("explain", short_help="Say why a call would miss.")
@with_store
@click.argument("what")
@as_json
def explain(url: str, what: str, as_json: bool, **where: Any) -> int:
    """Say why a call would miss, or how an entry differs from its nearest neighbour.

    WHAT is a call with literal arguments, 'module:function(1, width=4)' or
    'script.py:function(1)', or the first digits of a key. The module is imported. Exit code 1: the
    call's result is not stored.
    """
    store = opened(url, **where)
    told = explain_call(store, what) if is_call(what) else explain_entry(store, find(store, what))
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(told["differences"]) or "nothing differs: the result is stored")
    return ExitCode.DONE if told["stored"] else ExitCode.FOUND_WRONG


@click.command("report", short_help="Draw a cache as a page of HTML.")
@with_store
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write; one page that needs nothing else.",
)
@click.option("--bytes", "bytes_limit", type=SIZE, help="Show what eviction to this size takes.")
@click.option("--items", "items_limit", type=click.IntRange(min=0), help="... to this many.")
@click.option("--age", "age_limit", type=AGE, help="... of entries unused for longer.")
@click.option("--policy", type=click.Choice(["lru", "cost"]), default="lru")
@as_json
def report(
    url: str,
    html: Path,
    bytes_limit: int | None,
    items_limit: int | None,
    age_limit: timedelta | None,
    policy: Policy,
    as_json: bool,
    **where: Any,
) -> None:
    """Draw a cache: size a function, age, cost saved, what eviction would take."""
    store = opened(url, **where)
    found = survey(store)
    now = time.time()
    leaving = None
    if bytes_limit is not None or items_limit is not None or age_limit is not None:
        costs = None
        if policy == "cost":
            costs = {entry.info.name: entry.header.seconds for entry in found.entries}
        leaving = set(
            evictable(
                [entry.info for entry in found.entries],
                now,
                bytes_limit=bytes_limit,
                items_limit=items_limit,
                age_limit=age_limit,
                costs=costs,
            )
        )
    html.write_text(page(store.url, found, now, leaving), encoding="utf-8")
    if as_json:
        print_json({"html": str(html), "entries": len(found.entries), "bytes": found.size})
    else:
        click.echo(f"wrote {html}")


COMMANDS = (ls, show, stats, explain, report)
