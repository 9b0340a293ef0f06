"""The template: a fresh interpreter with the worker's modules loaded, which forks workers.

It has one thread, runs nothing of the user's, and knows nothing but its children: so a fork of it
is clean, takes a millisecond, and shares its memory. It ends when its parent does, however that
ended, and every worker with it.
"""

from __future__ import annotations

import array
import ctypes
import gc
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import NoReturn

from jobspan.backends.processes.requests import OBITUARY, REQUEST, Request
from jobspan.backends.processes.worker_loop import run_worker

__all__ = ["main"]

PR_SET_PDEATHSIG = 1

FAREWELL_SECONDS = 0.1
"""How long workers may take to leave by themselves when their parent has gone."""


class Template:
    """Forks, kills and reaps workers until its parent has gone.

    Parameters
    ----------
    control : int
        The socket on which requests come; its end is the parent's end.
    """

    def __init__(self, control: int) -> None:
        self._control = socket.socket(fileno=control)
        self._numbers: dict[int, int] = {}  # by process id
        self._processes: dict[int, int] = {}  # by the worker's number
        self._obituaries: dict[int, int] = {}  # by process id
        self._prctl = getattr(ctypes.CDLL(None), "prctl", None)
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        self._wake_write = wake_write

    def run(self) -> None:
        """Serve requests until the parent has gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        parent = _process_descriptor(os.getppid())
        if parent is not None:
            # A copy of the socket in somebody else's hands would hide that the parent has gone.
            poll.register(parent, select.POLLIN)
        gc.freeze()
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    with suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                elif descriptor == parent or not self._serve():
                    self._farewell()
                    return

    def _serve(self) -> bool:
        """Serve one request; False when the parent has gone."""
        data, ancillary, _, _ = self._control.recvmsg(REQUEST.size, socket.CMSG_SPACE(7 * 4))
        if len(data) < REQUEST.size:
            return False
        request, number = REQUEST.unpack(data)
        if request == Request.SPAWN:
            descriptors = array.array("i")
            for _, _, received in ancillary:
                descriptors.frombytes(received)
            self._spawn(number, list(descriptors))
        elif number in self._processes:
            self._kill(self._processes[number])
        return True

    def _spawn(self, number: int, descriptors: list[int]) -> None:
        *rest, obituary = descriptors
        try:
            process = os.fork()
        except OSError as error:
            os.write(descriptors[4], f"jobspan: no worker can be started: {error}\n".encode())
            os.write(obituary, OBITUARY.pack(error.errno or 1))
            process = -1
        if process == 0:
            self._become_worker(*rest)
        for descriptor in rest:
            os.close(descriptor)
        if process < 0:
            os.close(obituary)
            return
        self._numbers[process] = number
        self._processes[number] = process
        self._obituaries[process] = obituary

    def _become_worker(
        self, batches: int, results: int, rights: int, stdout: int, stderr: int, cell: int
    ) -> NoReturn:
        code = 1
        try:
            if self._prctl is not None:
                self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # A group of its own: Ctrl-C is the parent's to handle, and what a call started dies
            # with the worker.
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Not SIG_IGN, which programs that a call starts would inherit.
            signal.signal(signal.SIGINT, _nothing)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            self._control.detach()
            _close_all_but({0, 1, 2, batches, results, rights, cell})
            code = run_worker(batches, results, rights, cell)
        finally:
            os._exit(code)

    def _kill(self, process: int) -> None:
        with suppress(ProcessLookupError):
            try:
                os.killpg(process, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)  # it has not made its group yet

    def _reap(self) -> None:
        while self._numbers:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not process:
                return
            number = self._numbers.pop(process)
            del self._processes[number]
            obituary = self._obituaries.pop(process)
            with suppress(BrokenPipeError):
                os.write(obituary, OBITUARY.pack(os.waitstatus_to_exitcode(status)))
            os.close(obituary)

    def _farewell(self) -> None:
        """Give workers a moment to leave by themselves, then kill them."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._numbers and time.monotonic() < deadline:
            select.select([self._wake], [], [], max(0.0, deadline - time.monotonic()))
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._reap()
        for process in list(self._numbers):
            self._kill(process)
        while self._numbers:
            process, _ = os.waitpid(-1, 0)
            self._numbers.pop(process, None)


def _nothing(number: int, frame: object) -> None:
    """Handle a signal by doing nothing."""


def _process_descriptor(process: int) -> int | None:
    """Return a descriptor that is readable once `process` has ended, where there are such."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(process)
    except OSError:
        return None


def _close_all_but(kept: set[int]) -> None:
    """Close every descriptor but `kept`."""
    low = 0
    for descriptor in [*sorted(kept), 1 << 16]:
        if low < descriptor:  # an empty range may be taken for an endless one
            os.closerange(low, descriptor)
        low = descriptor + 1


def main(control: int) -> NoReturn:
    """Run the template on the socket `control`; end when the parent has gone."""
    _close_all_but({0, 1, 2, control})
    sys.argv = ["jobspan-worker"]
    template = Template(control)
    template.run()
    os._exit(0)
