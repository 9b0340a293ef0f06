"""Runs rows of the matrix, each in a process of its own, and counts what it left behind."""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.busyness import busyness
from tests.faults.faults import FAULTS
from tests.faults.leftovers import GONE_SECONDS, MARK, left, marked
from tests.faults.wall_clock import WallClock
from tests.faults.wall_clock import reason_why_not as no_clock

__all__ = ["LIMIT_SECONDS", "Outcome", "Row", "reason_why_not", "rows", "run"]

ROOT = Path(__file__).parents[2]

LIMIT_SECONDS = 90
"""A row that takes longer hangs, on a machine that does nothing else."""


@dataclass(frozen=True)
class Row:
    """A fault on a backend with a store."""

    fault: str
    backend: str
    store: str

    def __str__(self) -> str:
        return f"{self.fault}-{self.backend}-{self.store}"


@dataclass(frozen=True)
class Outcome:
    """What came of a row; `problem` is empty where it holds."""

    row: Row
    ended: str
    seconds: float
    problem: str = ""


def rows() -> list[Row]:
    """Return all rows."""
    return [
        Row(name, backend, store)
        for name, spec in FAULTS.items()
        for backend in spec.backends
        for store in spec.stores
    ]


def reason_why_not(row: Row) -> str:
    """Return why a row cannot run here; "" where it can."""
    spec = FAULTS[row.fault]
    if spec.clock and (reason := no_clock()):
        return reason
    if spec.mounts and not _may_mount():
        return "this user may not mount a small disk (unshare -m)"
    return ""


@functools.cache
def _may_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /dev/shm"]
    return shutil.which("unshare") is not None and not subprocess.call(
        command, stderr=subprocess.DEVNULL
    )


def run(row: Row, server: Any, seed: int = 0) -> Outcome:
    """Run a row.

    Parameters
    ----------
    row : Row
        The row.
    server : Server or None
        An S3 server, for rows that want one.
    seed : int
        For what happens at random moments.
    """
    spec = FAULTS[row.fault]
    folder = Path(tempfile.mkdtemp(prefix="jobspan-fault-"))
    mark = uuid.uuid4().hex
    for name in ("cache", "temp"):
        (folder / name).mkdir()
    told: dict[str, Any] = {
        "fault": row.fault,
        "backend": row.backend,
        "store": row.store,
        "folder": str(folder),
        "cache": str(folder / "cache"),
    }
    if row.store == "s3":
        told["endpoint"] = server.endpoint
        told["bucket"] = f"{server.bucket_url('faults')}/{mark}"
        told["storage_options"] = server.storage_options
    environment = {**os.environ, **spec.environment, MARK: mark, "TMPDIR": str(folder / "temp")}
    if row.backend == "ray":
        # Ray's sockets lie in its temporary folder, and their names have to be short.
        environment["RAY_TMPDIR"] = environment["TMPDIR"] = f"/tmp/jf{mark[:8]}"
        Path(environment["TMPDIR"]).mkdir()
    if spec.clock:
        environment |= WallClock(folder).environment
    command = [sys.executable, "-m", "tests.faults.scene", json.dumps(told)]
    places = {"CACHE": told["cache"], "TEMP": environment["TMPDIR"]}
    if spec.mounts:
        mounting = " && ".join(
            f"mount -t tmpfs -o size=1m tmpfs {places.get(each, each)}" for each in spec.mounts
        )
        command = ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$0" "$@"', *command]
    begin = time.monotonic()
    try:
        with tempfile.TemporaryFile("w+") as errors:
            output, code = _ended(command, environment, errors, spec, row, seed)
            errors.seek(0)
            said = errors.read()
        seconds = time.monotonic() - begin
        ended, problem = _verdict(output, code, said, row)
        return Outcome(
            row, ended, seconds, problem or left(mark, folder, GONE_SECONDS * busyness())
        )
    finally:
        for process in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        if row.backend == "ray":
            shutil.rmtree(environment["TMPDIR"], ignore_errors=True)


def _ended(
    command: list[str], environment: dict[str, str], errors: Any, spec: Any, row: Row, seed: int
) -> tuple[str, int | str]:
    def limit() -> None:
        for name, value in spec.limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))  # Ray raises what it may
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=limit,  # noqa: PLW1509 - no threads here
    ) as process:
        try:
            if row.fault == "Ctrl-C":
                return _interrupt(process, seed)
            output, _ = process.communicate(timeout=LIMIT_SECONDS * min(busyness(), 3))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return "", "hangs"
        return output, process.returncode


def _interrupt(process: Any, seed: int) -> tuple[str, int | str]:
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS * min(busyness(), 3))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "", "hangs after Ctrl-C"
    return output, process.returncode


def _verdict(output: str, code: int | str, said: str, row: Row) -> tuple[str, str]:
    spec = FAULTS[row.fault]
    if isinstance(code, str):
        return code, code
    lines = [line for line in output.splitlines() if line.startswith('{"ended"')]
    if not lines:
        return "crashed", f"exit status {code}: {said[-1500:]}"
    ended = json.loads(lines[-1])["ended"]
    name = ended.partition(":")[0]
    if name != "right" and name not in spec.errors:
        return name, f"{ended}\n{said[-1500:]}"
    if code != 0:
        return name, f"exit status {code}: {said[-1500:]}"
    crashed = "Fatal Python error" in said and "SIGSEGV" not in row.fault
    if crashed or "resource_tracker" in said:
        return name, said[-1500:]
    return name, ""
