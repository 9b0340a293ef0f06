"""What the calls of the suite call, and what they pass and raise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jobspan import Parallel, delayed

__all__ = [
    "Unpicklable",
    "UnpicklableError",
    "Unreadable",
    "UserError",
    "answer",
    "answers",
    "be",
    "calls_of_nothing",
    "come_after",
    "count_deep",
    "count_nested",
    "die",
    "fail_at",
    "leave_mark",
    "log_and_fail",
    "make_array",
    "mark_and_return",
    "refuse",
    "sleep_and_return",
    "square",
    "tenant",
    "total",
    "write_into",
]

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


class UserError(Exception):
    """An error with two arguments, which a careless pickle would not survive."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code


class Unpicklable:
    """A value that refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this value stays where it is")


class Unreadable:
    """A value that can be pickled, but not read again."""

    def __reduce__(self) -> Any:
        return refuse, ("this value cannot be read",)


def refuse(reason: str) -> Any:
    """Raise what says so."""
    raise ValueError(reason)


class UnpicklableError(Exception):
    """An exception that refuses to be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("this exception stays where it is")


def square(x: int) -> int:
    """Return a square."""
    return x * x


def fail_at(x: int, bad: int) -> int:
    """Return `x`, but fail where it is `bad`."""
    if x == bad:
        raise UserError(x, "as asked")
    return x


def sleep_and_return(seconds: float, value: int) -> int:
    """Take so long."""
    time.sleep(seconds)
    return value


def log_and_fail(folder: str, name: str, failures: int) -> int:
    """Fail so many times, then return how often it was called; calls are counted in files."""
    path = Path(folder) / name
    with path.open("a") as file:
        file.write("x")
    calls = len(path.read_text())
    if calls <= failures:
        raise UserError(calls, "not yet")
    return calls


def be(name: str) -> str:
    """Take a name, and tell the one before."""
    before = tenant.get()
    tenant.set(name)
    return before


def leave_mark(folder: str) -> None:
    """Leave one file a call, named by the worker."""
    mark = f"{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    (Path(folder) / mark).touch()


def mark_and_return(folder: str, value: int) -> int:
    """Leave a mark that says that this call has run."""
    (Path(folder) / str(value)).touch()
    return value


def come_after(folder: str, others: int) -> int:
    """Return 0 when so many others have left their mark, but soon enough in any case."""
    patience = time.monotonic() + 10
    while len(list(Path(folder).iterdir())) < others and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(0.1)  # their results travel
    return 0


def count_nested(n: int) -> int:
    """Add squares that nested calls return."""
    return sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(n)))


def count_deep(depth: int) -> int:
    """Nest calls so deep, and count the innermost."""
    if depth == 0:
        return 1
    return sum(Parallel(n_jobs=2)(delayed(count_deep)(depth - 1) for _ in range(2)))


def write_into(array: Any) -> float:
    """Write into what was passed."""
    array[0] = 1.0
    return float(array[0])


def total(holder: Any) -> float:
    """Sum an array, wherever in `holder` it is."""
    array = holder["deep"][0] if isinstance(holder, dict) else holder
    return float(array.sum())


def make_array(rows: int, value: float) -> Any:
    """Return a large array."""
    import numpy as np

    return {"array": np.full((rows, 1024), value)}


def die(x: int, bad: int) -> int:
    """Return `x`, but end the worker where it is `bad`."""
    if x == bad:
        os._exit(3)
    return x


async def answer(x: int) -> int:
    """Be a coroutine function."""
    return x


async def answers(x: int) -> AsyncIterator[int]:
    """Be an async generator function."""
    yield x


def calls_of_nothing() -> Iterator[None]:
    """Be a generator function."""
    yield None
