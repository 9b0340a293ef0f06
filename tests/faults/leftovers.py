"""What a program left behind: processes that carry its mark, temporary files, segments."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["GONE_SECONDS", "MARK", "left", "marked"]

MARK = "JOBSPAN_FAULT_ROW"
"""The environment variable with which a program, and all that it starts, is marked."""

GONE_SECONDS = 8
"""What a program started is gone so long after its end."""


def left(mark: str, folder: Path, seconds: float = GONE_SECONDS) -> str:
    """Say what is there of a marked program that has ended; "" where it is nothing.

    Parameters
    ----------
    mark : str
        Its mark.
    folder : Path
        Where "temp" was its temporary folder, and "cache" its cache.
    seconds : float
        How long its processes may take to go.
    """
    deadline = time.monotonic() + seconds
    while processes := list(marked(mark)):
        if time.monotonic() > deadline:
            texts = [_command_line(process) for process in processes]
            return f"left processes: {texts}"
        time.sleep(0.05)
    temporary = [
        str(path.relative_to(folder))
        for path in (folder / "temp").rglob("*")
        if path.is_file() or path.is_socket()
    ]
    temporary += [str(path) for path in (folder / "cache").rglob(".jobspan-tmp-*")]
    segments = [path.name for path in Path("/dev/shm").glob("jobspan*")]
    return f"left files: {temporary + segments}" if temporary or segments else ""


def marked(mark: str) -> Iterator[int]:
    """Yield the processes that a marked program started, whoever their parents are."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and wanted in (entry / "environ").read_bytes():
                    yield int(entry.name)


def _command_line(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:150]
    return str(process)
