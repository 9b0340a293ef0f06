"""Run a command for as long as standard input stays open, then end it and clean up after it.

Run as ``python -m jobspan.testing.supervisor FOLDER COMMAND...``. Whoever starts this holds the
other end of the pipe; when they die, however they die, the pipe closes, and with it goes the
command and the folder it works in.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading

__all__ = ["main"]


def main(folder: str, command: list[str]) -> int:
    """Run `command` until standard input ends; its exit status, 0 where it was told to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)

    def follow_the_pipe() -> None:
        with contextlib.suppress(OSError):
            while sys.stdin.buffer.read(4096):
                pass
        process.terminate()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()

    threading.Thread(target=follow_the_pipe, daemon=True).start()
    try:
        return process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
