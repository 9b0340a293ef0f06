"""Batches that wait behind others move to workers with nothing to do, and run once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobspan import Parallel, delayed

pytestmark = pytest.mark.timeout(60)


def be_late(folder: str, seconds: float) -> None:
    """Have the first worker that comes here claim batches late, as on a busy machine."""
    from jobspan.backends.processes.cell import Cell

    try:
        os.close(os.open(f"{folder}/late", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(0.05)
        return
    claim = Cell.claim

    def late(cell: Cell, serial: int) -> bool:
        time.sleep(seconds)
        return claim(cell, serial)

    Cell.claim = late  # type: ignore[method-assign]
    time.sleep(0.05)


def run_once(folder: str, x: int) -> int:
    os.close(os.open(f"{folder}/{x}", os.O_CREAT | os.O_EXCL))
    time.sleep(0.001)
    return x


def test_each_call_runs_once_beside_a_worker_that_is_late(tmp_path: Path) -> None:
    with Parallel(n_jobs=2, batch_size=1, idle_worker_timeout=7) as parallel:
        parallel(delayed(be_late)(str(tmp_path), 0.03) for _ in range(4))
        for first in range(0, 80, 4):
            numbers = range(first, first + 4)
            assert parallel(delayed(run_once)(str(tmp_path), x) for x in numbers) == [*numbers]


class Unreadable:
    """A function that can be pickled, each one otherwise, but not read again."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, x: int) -> int:
        return x

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return refuse, (self.number,)


def refuse(number: int) -> None:
    raise ImportError("no module named secret_sauce")


def test_what_a_late_worker_cannot_read_fails_once(tmp_path: Path) -> None:
    with Parallel(n_jobs=2, batch_size=1, idle_worker_timeout=8, on_error="return") as parallel:
        parallel(delayed(be_late)(str(tmp_path), 0.03) for _ in range(4))
        for _ in range(10):
            readable = [delayed(time.sleep)(0.005)] * 2
            results = parallel([*readable, *(delayed(Unreadable(x))(x) for x in range(2))])
            assert results[:2] == [None, None]
            assert [failure.index for failure in results[2:]] == [2, 3]
            assert all("secret_sauce" in str(failure.exception) for failure in results[2:])
