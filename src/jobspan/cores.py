"""How many cores this process may use: by affinity, by the cgroup's quota, by the user's word."""

from __future__ import annotations

import math
import os
from contextlib import suppress

__all__ = ["cpu_count"]

_LIMITS = ("JOBSPAN_MAX_CPU_COUNT", "LOKY_MAX_CPU_COUNT")
"""Environment variables that set an upper limit, ours and the one that joblib's users know."""


def cpu_count(only_physical_cores: bool = False) -> int:
    """Return the number of cores that this process may use.

    Parameters
    ----------
    only_physical_cores : bool
        Whether two threads of one core count as one.

    Returns
    -------
    int
        At least 1: the least of the machine's cores, the process's affinity, the quota of its
        cgroup (rounded up), and ``JOBSPAN_MAX_CPU_COUNT``.

    Examples
    --------
    >>> cpu_count() >= cpu_count(only_physical_cores=True) >= 1
    True
    """
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = _cgroup_quota()
    if quota is not None:
        limits.append(quota)
    for name in _LIMITS:
        limit = os.environ.get(name, "").strip()
        try:
            limits += [int(limit)] if limit else []
        except ValueError:
            raise ValueError(f"{name}={limit!r} is no whole number; set it to 4, say") from None
    if only_physical_cores:
        physical = _physical_cores()
        if physical is not None:
            limits.append(physical)
    return max(1, min(limits))


def _cgroup_quota() -> int | None:
    """Return the cores that the cgroup's CPU quota amounts to, or None where there is none."""
    with suppress(OSError, ValueError):
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()  # version 2
        return None if quota == "max" else math.ceil(int(quota) / int(period))
    with suppress(OSError, ValueError):
        folder = "/sys/fs/cgroup/cpu/"  # version 1
        micros = int(_read(folder + "cpu.cfs_quota_us"))
        if micros > 0:
            return math.ceil(micros / int(_read(folder + "cpu.cfs_period_us")))
    return None


def _physical_cores() -> int | None:
    """Return the number of distinct cores in ``/proc/cpuinfo``, or None where it cannot be told."""
    cores: set[tuple[str, str]] = set()
    package = ""
    with suppress(OSError):
        for line in _read("/proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "physical id":
                package = value.strip()
            elif name.strip() == "core id":
                cores.add((package, value.strip()))
    return len(cores) or None


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - no pathlib here
        return file.read()
