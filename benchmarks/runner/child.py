"""One round of a contestant: a fresh interpreter, a time limit, the memory of its whole tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any, Self

import psutil

from benchmarks.contest import Contestant

__all__ = ["ContestantError", "measure"]

SET = ("seconds", "megabytes", "requests", "points")
_TELL = f"""
import json
print("\\n" + json.dumps({{k: v for k, v in globals().items() if k in {SET}}}))
"""


class ContestantError(Exception):
    """A contestant gave no figure."""


class _Watch:
    """What looks at a tree of processes until it is told to stop."""

    def __init__(self, process: int, interval: float, limit: float) -> None:
        self.peak = 0
        self.stopped_it = False
        self._root = psutil.Process(process)
        self._interval = interval
        self._deadline = time.monotonic() + limit
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        interval = self._interval or 1.0
        while not self._stop.wait(min(interval, max(0.0, self._deadline - time.monotonic()))):
            if self._interval:
                self.peak = max(self.peak, sum(map(_resident, _tree(self._root))))
            if time.monotonic() >= self._deadline:
                self.stopped_it = True
                self.end()
                return

    def end(self) -> None:
        """Kill the tree."""
        for each in _tree(self._root):
            with suppress(psutil.Error):
                each.kill()


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return [root]


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def measure(contestant: Contestant, limit: float, *, memory: bool = False) -> dict[str, Any]:
    """Run a contestant once in a fresh interpreter; return what it set.

    Parameters
    ----------
    contestant : Contestant
        What to run.
    limit : float
        Seconds after which it is killed, its descendants too.
    memory : bool
        Whether to take ``tree_megabytes``, which costs a look at all processes every 20 ms.

    Raises
    ------
    ContestantError
        It failed, took too long, or needs a package that is not installed.
    """
    source = contestant.source if contestant.cold else contestant.source + _TELL
    # An installed package comes with its bytecode; the checkout must be allowed to write its own.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    # Files, not pipes: a pipe stays open as long as any descendant lives.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
        ) as process:
            with _Watch(process.pid, 0.02 if memory else 0.0, limit) as watch:
                try:
                    code = process.wait()
                except BaseException:
                    watch.end()
                    raise
            seconds = time.perf_counter() - begin
        output.seek(0)
        errors.seek(0)
        told, complaint = output.read().decode(), errors.read().decode(errors="replace")
    if watch.stopped_it:
        raise ContestantError(f"not done after {limit:g} s")
    if code:
        raise ContestantError(_reason(complaint, code))
    result: dict[str, Any] = (
        {"seconds": seconds} if contestant.cold else json.loads(told.splitlines()[-1])
    )
    if memory:
        result["tree_megabytes"] = watch.peak / 2**20
    return result


def _reason(complaint: str, code: int) -> str:
    lines = complaint.strip().splitlines() or [f"ended with {code}"]
    last = next((line for line in reversed(lines) if "Error" in line), lines[-1])
    package = last.removeprefix("ModuleNotFoundError: No module named ")
    return f"{package.strip(chr(39))} is not installed" if package != last else last[:300]
