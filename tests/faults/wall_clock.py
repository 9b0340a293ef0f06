"""Sets the wall clock of programs, and of nobody else, by a library that they load first."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["WallClock", "own_clock", "reason_why_not", "set_clock"]

VARIABLE = "JOBSPAN_TEST_CLOCK"


def reason_why_not() -> str:
    """Return why clocks cannot be set here; "" where they can."""
    if sys.platform != "linux":
        return "clocks are set by LD_PRELOAD, which Linux has"
    return "" if shutil.which("cc") else "clocks are set by a library, for which there is no cc"


class WallClock:
    """A wall clock of its own for programs.

    Parameters
    ----------
    folder : Path
        Where its files may lie.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set_wrong_by(0)
        library = folder / "wall_clock.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), VARIABLE: str(self._file)}

    def set_wrong_by(self, seconds: int) -> None:
        """Set it."""
        set_clock(self._file, seconds)


def set_clock(file: Path, seconds: int) -> None:
    """Set the clock that a file stands for."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        os.pwrite(descriptor, struct.pack("q", seconds), 0)
    finally:
        os.close(descriptor)


def own_clock() -> Path:
    """Return the file of the clock with which this program runs."""
    return Path(os.environ[VARIABLE])
