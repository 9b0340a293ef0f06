"""``jobspan cache`` where something is looked into or changed: verify, prune, clear, export."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.output import ask, counted, print_json
from jobspan.cli.parameters import (
    AGE,
    SIZE,
    STORAGE_OPTIONS,
    as_json,
    dry_run,
    function_option,
    opened,
    storage_options,
    with_store,
    yes,
)
from jobspan.codecs.signing import read_sign_key
from jobspan.memory.eviction import Policy, evictable
from jobspan.memory.inventory import Survey, problems, survey
from jobspan.parallel.report import readable_bytes, readable_seconds
from jobspan.store import BulkDeletes, ObjectInfo, ObjectStore, Sweeps, open_store

__all__ = ["COMMANDS"]

ENTRIES = ("entry", "entries")


@click.command("verify", short_help="Read every entry and compare its digest.")
@with_store
@function_option
@click.option(
    "--sign-key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The bytes of an HMAC key, or an Ed25519 key in PEM: entries must be signed with it.",
)
@click.option("--delete", is_flag=True, help="Delete what is damaged or not signed.")
@yes
@as_json
def verify(
    url: str,
    function: str | None,
    sign_key_file: Path | None,
    delete: bool,
    yes: bool,
    as_json: bool,
    **where: Any,
) -> int:
    """Read every entry in full and compare digests and signatures; no value is decoded.

    Exit code 1: something is damaged or not signed.
    """
    store = opened(url, **where)
    signer = read_sign_key(sign_key_file.read_bytes()) if sign_key_file else None
    found = survey(store, function)
    bad: dict[str, tuple[ObjectInfo, str]] = {
        info.name: (info, "the header cannot be read") for info in found.damaged
    }
    infos = {entry.info.name: entry.info for entry in found.entries}
    for name, problem in problems(store, infos, signer):
        bad[name] = (infos[name], problem)
    deleted = 0
    if delete and bad:
        ask(f"Delete {counted(len(bad), *ENTRIES)} of {store.url}?", yes=yes)
        deleted = _delete(store, [info for info, _ in bad.values()])
    if as_json:
        print_json(
            {
                "checked": len(found.entries) + len(found.damaged),
                "bad": {name: problem for name, (_, problem) in sorted(bad.items())},
                "deleted": deleted,
            }
        )
    else:
        for name, (_, problem) in sorted(bad.items()):
            click.echo(f"{name}: {problem}")
        read = len(found.entries) + len(found.damaged)
        click.echo(f"{counted(read, *ENTRIES)} read, {len(bad)} bad")
    return ExitCode.FOUND_WRONG if len(bad) > deleted else ExitCode.DONE


@click.command("prune", short_help="Delete entries until the rest keeps within limits.")
@with_store
@click.option("--bytes", "bytes_limit", type=SIZE, help="So many bytes may stay, such as 10G.")
@click.option("--items", "items_limit", type=click.IntRange(min=0), help="So many entries.")
@click.option("--age", "age_limit", type=AGE, help="Entries unused for longer go, such as 30d.")
@click.option(
    "--policy",
    type=click.Choice(["lru", "cost"]),
    default="lru",
    help="Which go first: unused for longest, or cheapest a byte to compute again.",
)
@function_option
@dry_run
@yes
@as_json
def prune(
    url: str,
    bytes_limit: int | None,
    items_limit: int | None,
    age_limit: timedelta | None,
    policy: Policy,
    function: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Delete entries until the rest keeps within the limits; safe beside readers and writers."""
    if bytes_limit is None and items_limit is None and age_limit is None:
        raise click.UsageError("say what may stay: --bytes, --items or --age")
    store = opened(url, **where)
    found = survey(store, function)
    costs = {entry.info.name: entry.header.seconds for entry in found.entries}
    leaving = set(
        evictable(
            [entry.info for entry in found.entries],
            time.time(),
            bytes_limit=bytes_limit,
            items_limit=items_limit,
            age_limit=age_limit,
            costs=costs if policy == "cost" else None,
        )
    )
    chosen = [entry.info for entry in found.entries if entry.info.name in leaving]
    marks = found.marks_without(leaving)
    if isinstance(store, Sweeps) and not dry_run:
        store.sweep()
    _carry_out(store, chosen, costs, marks, dry_run=dry_run, yes=yes, as_json=as_json)


@click.command("clear", short_help="Delete all entries, or those of one function.")
@with_store
@function_option
@dry_run
@yes
@as_json
def clear(
    url: str, function: str | None, dry_run: bool, yes: bool, as_json: bool, **where: Any
) -> None:
    """Delete all entries of a cache or of one function; other objects there are left alone."""
    store = opened(url, **where)
    found: Survey = survey(store, function)
    chosen = [entry.info for entry in found.entries]
    if function is None:
        chosen += [*found.damaged, *found.claims]
    costs = {entry.info.name: entry.header.seconds for entry in found.entries}
    marks = found.marks_without(info.name for info in chosen)
    _carry_out(store, chosen, costs, marks, dry_run=dry_run, yes=yes, as_json=as_json)


def _carry_out(
    store: ObjectStore,
    chosen: Sequence[ObjectInfo],
    costs: dict[str, float],
    marks: Sequence[ObjectInfo],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete what was chosen, after a question, or say what would be deleted."""
    size = sum(info.size for info in chosen)
    seconds = sum(costs.get(info.name, 0.0) for info in chosen)
    what = (
        f"{counted(len(chosen), *ENTRIES)} of {readable_bytes(size)} "
        f"that took {readable_seconds(seconds)} to compute"
    )
    deleted = 0
    if chosen and not dry_run:
        ask(f"Delete {what} from {store.url}?", yes=yes)
        deleted = _delete(store, chosen)
        _delete(store, marks)
    if as_json:
        print_json(
            {
                "chosen": len(chosen),
                "bytes": size,
                "seconds": seconds,
                "deleted": deleted,
                "dry_run": dry_run,
                "names": sorted(info.name for info in chosen),
            }
        )
    elif dry_run and chosen:
        for info in chosen:
            click.echo(info.name)
        click.echo(f"would delete {what}")
    else:
        click.echo(f"deleted {counted(deleted, *ENTRIES)}" if chosen else "nothing to delete")


def _delete(store: ObjectStore, infos: Iterable[ObjectInfo]) -> int:
    """Delete objects in the state that was listed: what was written anew meanwhile stays."""
    if isinstance(store, BulkDeletes):
        return store.delete_many([(info.name, info.token) for info in infos])
    return sum(store.delete(info.name, info.token) for info in infos)


@click.command("export", short_help="Copy entries to another folder or URL.")
@with_store
@click.argument("target")
@click.option(
    "--target-options-file",
    type=STORAGE_OPTIONS,
    help="Storage options of the target as a JSON file; without it, those of the source.",
)
@function_option
@dry_run
@as_json
def export(
    url: str,
    target: str,
    target_options_file: dict[str, Any] | None,
    function: str | None,
    dry_run: bool,
    as_json: bool,
    options: tuple[str, ...],
    options_file: dict[str, Any] | None,
) -> None:
    """Copy entries to TARGET, a folder or URL, where they are used like those of the source.

    What is there already stays as it is. Values are copied, never decoded.
    """
    store = opened(url, options, options_file)
    found = survey(store, function)
    copied = skipped = size = 0
    if not dry_run:
        same = target.partition("://")[0] == url.partition("://")[0]
        given = storage_options(
            options if same else (),
            options_file if target_options_file is None else target_options_file,
        )
        there = open_store(target, storage_options=given if "://" in target else {})
        known = {info.name for info in there.list()}
        for entry in found.entries:
            name = entry.info.name
            try:
                data, _ = store.get(name)
            except KeyError:
                continue  # evicted meanwhile
            if name in known or there.create(name, data) is None:
                skipped += 1
            else:
                copied += 1
                size += len(data)
    if as_json:
        print_json(
            {
                "found": len(found.entries),
                "copied": copied,
                "there_already": skipped,
                "bytes": size,
                "dry_run": dry_run,
            }
        )
    elif dry_run:
        click.echo(
            f"would copy {counted(len(found.entries), *ENTRIES)} of {readable_bytes(found.size)}"
        )
    else:
        click.echo(
            f"copied {counted(copied, *ENTRIES)}, {readable_bytes(size)}; "
            f"{skipped:,} {'was' if skipped == 1 else 'were'} there"
        )


COMMANDS = (verify, prune, clear, export)
