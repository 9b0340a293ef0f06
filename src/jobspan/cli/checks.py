"""The doctor's checks: each looks at one thing and says what it found and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata

from jobspan._version import __version__
from jobspan.backends.addresses import without_credentials
from jobspan.backends.choosing import make_backend
from jobspan.calls import delayed
from jobspan.cores import cpu_count
from jobspan.errors import JobspanError, StoreError
from jobspan.parallel import Parallel, parallel_config
from jobspan.parallel.report import readable_bytes, readable_seconds
from jobspan.store import ObjectStore

__all__ = ["Check", "Verdict", "cluster_checks", "machine_checks", "store_checks"]

SMALL_MEMORY = 256 << 20
"""Less shared memory than this is soon full: containers have 64 MB unless told otherwise."""

FEW_FILES = 1024
"""Fewer open files than this end a pool of some hundred workers."""


class Verdict(Enum):
    """What a check came to."""

    GOOD = "good"
    INFORMATION = "information"
    DOUBTFUL = "doubtful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at.

    Parameters
    ----------
    name : str
        What.
    verdict : Verdict
        Whether it is well.
    found : str
        What was found.
    advice : str
        What to do; empty where nothing needs doing.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def machine_checks() -> Iterator[Check]:
    """Look at this machine and this Python."""
    yield Check("jobspan", Verdict.INFORMATION, __version__)
    yield Check(
        "Python",
        Verdict.INFORMATION,
        f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}",
    )
    yield Check("system", Verdict.INFORMATION, platform.platform())
    yield from extras()
    yield _cores()
    yield from _memory()
    yield _temporary()
    yield _open_files()
    yield _workers()


def extras() -> Iterator[Check]:
    """Say which extras are installed, from what the distribution itself declares."""
    wanted: dict[str, list[str]] = {}
    for requirement in metadata.requires("jobspan") or ():
        match = re.match(r"([\w.-]+).*;.*extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if match is not None and match[1] != "jobspan":
            wanted.setdefault(match[2], []).append(match[1])
    for extra in sorted(wanted):
        if extra in {"all", "bench", "docs", "lint", "test"}:
            continue
        found, missing = [], []
        for package in wanted[extra]:
            try:
                found.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                missing.append(package)
        name = f"extra {extra}"
        if missing:
            told = f"not installed: {', '.join(missing)}"
            advice = f"pip install 'jobspan[{extra}]' where it is needed"
            yield Check(name, Verdict.INFORMATION, told, advice)
        else:
            yield Check(name, Verdict.GOOD, ", ".join(found))


def _cores() -> Check:
    machine = os.cpu_count()
    try:
        usable, physical = cpu_count(), cpu_count(only_physical_cores=True)
    except ValueError as error:
        return Check("cores", Verdict.WRONG, str(error))
    found = f"{usable} usable ({physical} physical) of {machine}"
    if machine is not None and usable < machine:
        found += ": affinity, a cgroup's quota or JOBSPAN_MAX_CPU_COUNT sets the limit"
    return Check("cores", Verdict.GOOD, found)


def _memory() -> Iterator[Check]:
    from jobspan.room import available_memory

    yield Check("memory", Verdict.INFORMATION, f"{readable_bytes(available_memory())} available")
    if os.path.isdir("/dev/shm"):  # noqa: PTH112 - no path of ours
        usage = shutil.disk_usage("/dev/shm")
        small = usage.total < SMALL_MEMORY
        yield Check(
            "shared memory",
            Verdict.DOUBTFUL if small else Verdict.GOOD,
            f"/dev/shm has {readable_bytes(usage.total)}, {readable_bytes(usage.free)} free",
            "jobspan's own processes do not need it, Ray does: docker run --shm-size=2g"
            if small
            else "",
        )


def _temporary() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    short = free < 1 << 30
    return Check(
        "temporary folder",
        Verdict.DOUBTFUL if short else Verdict.GOOD,
        f"{folder}, {readable_bytes(free)} free",
        "large data that shared memory cannot hold goes there; pass temp_folder=" if short else "",
    )


def _open_files() -> Check:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Check("open files", Verdict.INFORMATION, "no limit is known here")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FEW_FILES
    return Check(
        "open files",
        Verdict.DOUBTFUL if few else Verdict.GOOD,
        f"{soft} at most",
        f"raise it for many workers: ulimit -n {hard}" if few else "",
    )


def _workers() -> Check:
    begin = time.perf_counter()
    try:
        with parallel_config("processes", n_jobs=2):
            answers = Parallel()(delayed(abs)(number) for number in (-1, -2))
    except (JobspanError, OSError, ValueError) as error:
        return Check("worker processes", Verdict.WRONG, str(error))
    seconds = readable_seconds(time.perf_counter() - begin)
    verdict = Verdict.GOOD if answers == [1, 2] else Verdict.WRONG
    return Check("worker processes", verdict, f"two started and answered in {seconds}")


def store_checks(connect: Callable[[], ObjectStore]) -> Iterator[Check]:
    """Look at a store: does it answer, may we write, are its conditions kept, how quick is it?

    Parameters
    ----------
    connect : callable
        Opens the store.
    """
    begin = time.perf_counter()
    try:
        store = connect()
    except (StoreError, ImportError, OSError) as error:
        yield Check("cache", Verdict.WRONG, str(error))
        return
    yield Check(
        "cache", Verdict.GOOD, f"{store.url} answers in {_passed(begin)}, through {_kind(store)}"
    )
    name = f"doctor/{secrets.token_hex(16)}"
    try:
        begin = time.perf_counter()
        store.put(name, b"jobspan doctor looks whether it can write")
        wrote = _passed(begin)
    except OSError as error:
        yield Check(
            "writing",
            Verdict.DOUBTFUL,
            f"refused: {error}",
            "results can be used and not stored: pass Memory(mode='ro')",
        )
        return
    try:
        begin = time.perf_counter()
        store.get(name)
        yield Check("writing", Verdict.GOOD, f"a small object is written in {wrote}")
        yield Check("reading", Verdict.GOOD, f"a small object is read in {_passed(begin)}")
        yield _conditions(store)
    finally:
        store.delete(name)


def _conditions(store: ObjectStore) -> Check:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would say stands below
        kept = store.conditional
    if kept:
        return Check("conditional writes", Verdict.GOOD, "kept: each result is computed once")
    return Check(
        "conditional writes",
        Verdict.DOUBTFUL,
        "ignored: callers at the same time may compute one result more than once",
        "results are right all the same; a newer server or library may keep conditions",
    )


def _kind(store: ObjectStore) -> str:
    return type(store).__name__


def _passed(begin: float) -> str:
    return readable_seconds(time.perf_counter() - begin)


def versions() -> dict[str, str | None]:
    """Return the versions that client and workers should share."""
    found: dict[str, str | None] = {"Python": platform.python_version()}
    for package in ("jobspan", "cloudpickle", "numpy", "pandas", "scikit-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def cluster_checks(spec: str) -> Iterator[Check]:
    """Look at a backend: does it answer, how much runs at once, do versions match?

    Parameters
    ----------
    spec : str
        A backend's name or address.
    """
    begin = time.perf_counter()
    try:
        with parallel_config(make_backend(spec), n_jobs=-1) as config:
            places = config["backend"].effective_n_jobs(-1)
            there = Parallel()(delayed(versions)() for _ in range(2 * places))
    except (JobspanError, OSError) as error:
        yield Check("cluster", Verdict.WRONG, str(error))
        return
    yield Check(
        "cluster",
        Verdict.GOOD,
        f"{without_credentials(spec)} runs {places} calls at once; answered in {_passed(begin)}",
    )
    here = versions()
    for package, version in here.items():
        others = sorted({str(found[package]) for found in there} - {str(version)})
        if not others:
            yield Check(f"{package} there", Verdict.GOOD, str(version))
            continue
        severe = package in {"jobspan", "cloudpickle"} or (
            package == "Python"
            and any(other.split(".")[:2] != str(version).split(".")[:2] for other in others)
        )
        yield Check(
            f"{package} there",
            Verdict.WRONG if severe else Verdict.DOUBTFUL,
            f"{', '.join(others)}; here {version}",
            f"install {package} {version} on the workers, or theirs here",
        )
