"""``jobspan demo``: a small real job, computed, recalled, and explained."""

from __future__ import annotations

import io
import os
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from jobspan.calls import delayed
from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.output import console, print_json, table
from jobspan.cli.parameters import as_json
from jobspan.memory import Memory
from jobspan.parallel import Parallel, parallel_config
from jobspan.parallel.report import readable_seconds

__all__ = ["count_words", "demo"]


def count_words(text: str) -> dict[str, int]:
    """Count the names in a file of Python source."""
    words: Counter[str] = Counter()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                words[token.string] += 1
    except (tokenize.TokenError, SyntaxError):
        pass  # some of the library's own test files are not meant to be read
    return dict(words)


def _corpus(limit: int) -> list[str]:
    folder = Path(os.__file__).parent
    paths = (path for path in folder.rglob("*.py") if "site-packages" not in path.parts)
    return [path.read_text("utf-8", "replace") for path in sorted(paths)[:limit]]


@click.command("demo", short_help="Run a small real job, with and without a cache.")
@click.option(
    "--backend",
    "-b",
    "backends",
    multiple=True,
    help="Where to run, such as processes, dask or ray://host:10001; several one after another.",
)
@click.option("--n-jobs", "-j", type=int, default=2, show_default=True)
@click.option("--files", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--cache", "location", help="Where results are stored; a temporary folder else.")
@as_json
def demo(
    backends: Sequence[str], n_jobs: int, files: int, location: str | None, as_json: bool
) -> int:
    """Count words of Python's own library: plainly, in parallel, and from the cache."""
    texts = _corpus(files)
    begin = time.perf_counter()
    expected = [count_words(text) for text in texts]
    rows: list[dict[str, Any]] = [_row("plain loop", "", time.perf_counter() - begin, 0)]
    with tempfile.TemporaryDirectory(prefix="jobspan-demo-") as temporary:
        extract = Memory(location or temporary, verbose=0).cache(count_words)
        for backend in backends or ("processes",):
            with parallel_config(backend=backend, n_jobs=n_jobs):
                Parallel()([delayed(abs)(-1)])  # workers start outside of the time
                for name in ("first time", "second time"):
                    parallel = Parallel()
                    begin = time.perf_counter()
                    results = parallel(delayed(extract)(text) for text in texts)
                    seconds = time.perf_counter() - begin
                    if results != expected:
                        click.echo(f"{backend}: the results differ from the plain loop's", err=True)
                        return ExitCode.FOUND_WRONG
                    rows.append(_row(backend, name, seconds, parallel.stats.recalled))
    words: Counter[str] = Counter()
    for result in expected:
        words.update(result)
    if as_json:
        print_json({"files": len(texts), "runs": rows, "words": dict(words.most_common(5))})
        return ExitCode.DONE
    out = console()
    out.print(f"{len(texts)} files of Python's standard library, the same results everywhere:\n")
    shown = (
        (row["where"], row["when"], readable_seconds(row["seconds"]), str(row["from_cache"]))
        for row in rows
    )
    out.print(table(("where", "", "time", "from the cache"), shown, left=2))
    out.print("\nmost common: " + ", ".join(f"{word} {n:,}" for word, n in words.most_common(5)))
    return ExitCode.DONE


def _row(where: str, when: str, seconds: float, recalled: int) -> dict[str, Any]:
    return {"where": where, "when": when, "seconds": seconds, "from_cache": recalled}
