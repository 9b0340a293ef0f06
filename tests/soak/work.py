"""What a soak calls: functions of their arguments alone; some harm their worker once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from jobspan import Parallel, TaskFailure, delayed

__all__ = ["WORKS", "dies_once", "plain", "reduced", "same", "stops_once"]


def small(x, seed):
    return x * 31 + seed


def text(x, seed):
    return {"x": x, "text": "abc" * (seed % 400), "list": list(range(seed % 50))}


def array(x, seed):
    return np.full(1 + seed % 60_000, x, dtype=float)


def slow(x, seed):
    time.sleep((seed % 20) / 1000)
    return x


def raises(x, seed):
    if (x + seed) % 5 == 0:
        raise ValueError(f"{x} of {seed}")
    return x


def nested(x, seed):
    return sum(Parallel(n_jobs=2)(delayed(small)(y, seed) for y in range(x % 4)))


WORKS = [small, text, array, slow, raises, nested]


def reduced(values, x):
    return float(values.sum()) + x


def _harm_once(x, seed, folder, signal_number):
    mark = Path(folder, f"{seed}-{x}")
    if (x + seed) % 17 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal_number)


def dies_once(x, seed, folder):
    """Kill the worker the first time; only where workers are processes."""
    _harm_once(x, seed, folder, signal.SIGKILL)
    return x + seed


def stops_once(x, seed, folder):
    """Stop the worker the first time; only where `task_timeout` ends a call."""
    _harm_once(x, seed, folder, signal.SIGSTOP)
    return x + seed


def plain(work: Any, x: int, seed: int) -> Any:
    """Return what the plain loop gives, or the error that it raises."""
    if work in (dies_once, stops_once):
        return x + seed
    try:
        return work(x, seed)
    except ValueError as error:
        return error


def same(found: Any, wanted: Any) -> bool:
    """Return whether a result is that of the plain loop."""
    if isinstance(wanted, ValueError):
        return isinstance(found, TaskFailure) and str(found.exception) == str(wanted)
    if isinstance(wanted, np.ndarray):
        return isinstance(found, np.ndarray) and np.array_equal(found, wanted)
    return type(found) is type(wanted) and bool(found == wanted)
