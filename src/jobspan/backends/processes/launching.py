"""The parent's side of the template: start it, have it fork and kill workers, see it off."""

from __future__ import annotations

import array
import atexit
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import NamedTuple

from jobspan.backends.processes.cell import Cell, new_cell
from jobspan.backends.processes.requests import REQUEST, Request
from jobspan.descriptors import Descriptor, Pipe
from jobspan.errors import BackendError

__all__ = [
    "Launched",
    "kill_worker",
    "launch_worker",
    "own_stdout",
    "start_template",
    "stop_template",
]

_CODE = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from jobspan.backends.processes.template import main; main(int(sys.argv[1]))"
)

GOODBYE_SECONDS = 2.0
"""How long the template may take to see the workers off before it is killed."""


class Launched(NamedTuple):
    """What the executor's side holds of a worker, which leaves when nobody holds it any more."""

    number: int
    batches: Descriptor
    results: Descriptor
    rights: socket.socket
    cell: Cell
    stderr: Descriptor
    obituary: Descriptor


class _Template:
    """A running template; `process` is its id, `control` our end of its socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        child_end = 3 if theirs.fileno() != 3 else 4
        command = [sys.executable, *_interpreter_flags(), "-P", "-c", _CODE, str(child_end)]
        try:
            self.process = os.posix_spawn(
                sys.executable,
                [*command, *sys.path],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), child_end),
                ],
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.control = ours

    def request(self, request: Request, number: int, descriptors: Sequence[int]) -> None:
        # One message of a few bytes: the kernel keeps it whole, whoever else is sending.
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self.control.sendmsg([REQUEST.pack(request, number)], rights if descriptors else [])

    def stop(self) -> None:
        self.control.close()
        deadline = time.monotonic() + GOODBYE_SECONDS
        pause = 0.0005
        with suppress(ChildProcessError):
            while os.waitpid(self.process, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(self.process, signal.SIGKILL)
                    os.waitpid(self.process, 0)
                    return
                time.sleep(pause)
                pause = min(pause * 2, 0.01)


# A worker may be killed by the garbage collector, which runs at any moment, in this very thread.
_lock = threading.RLock()
_template: _Template | None = None
_numbers = count(1)


def launch_worker() -> Launched:
    """Start a worker; it comes up while the caller goes on.

    Raises
    ------
    BackendError
        If no process can be started.
    """
    number = next(_numbers)
    rights, their_rights = socket.socketpair()
    batches, results, stderr, obituary = Pipe(), Pipe(), Pipe(), Pipe()
    cell = new_cell()
    with their_rights, own_stdout() as stdout:
        given = (
            batches.reading.number,
            results.writing.number,
            their_rights.fileno(),
            stdout,
            stderr.writing.number,
            cell.number,
            obituary.writing.number,
        )
        _request_spawn(number, given)
    rights.setblocking(False)
    ours = (batches.writing, results.reading, stderr.reading, obituary.reading)
    for descriptor in ours:
        os.set_blocking(descriptor.number, False)
    return Launched(
        number,
        batches.writing,
        results.reading,
        rights,
        Cell(cell.number),
        stderr.reading,
        obituary.reading,
    )


@contextmanager
def own_stdout() -> Iterator[int]:
    """Give the stdout of this process, or a sink where that was closed."""
    sink: Descriptor | None = None
    try:
        os.fstat(1)
    except OSError:
        sink = Descriptor(map(os.open, (os.devnull,), (os.O_WRONLY,)))
    yield 1 if sink is None else sink.number


def start_template() -> None:
    """Start the template if there is none; it comes up while the caller goes on."""
    global _template
    with _lock:
        if _template is None:
            with suppress(OSError):  # whoever needs a worker tries again and says what is wrong
                _template = _Template()


def _request_spawn(number: int, descriptors: Sequence[int]) -> None:
    global _template
    with _lock:
        for attempt in (1, 2):
            try:
                if _template is None:
                    _template = _Template()
                _template.request(Request.SPAWN, number, descriptors)
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                # Somebody killed it; its workers have gone with it.
                if _template is not None:
                    _template.stop()
                    _template = None
                if attempt == 2:
                    raise BackendError(
                        "the process that starts workers ends as soon as it is asked for one; its "
                        "stderr above may say why. Use backend='threads' meanwhile."
                    ) from error
            except OSError as error:
                raise BackendError(
                    f"no worker can be started: {error}. Ask for fewer with n_jobs=, or raise the "
                    "limits on processes and open files (ulimit -u, ulimit -n)."
                ) from error


def kill_worker(number: int) -> None:
    """Kill a worker and what it started; one that has ended already is left in peace.

    The template does it, for it alone knows that a process id still means the same process.
    """
    with _lock:
        if _template is not None:
            with suppress(BrokenPipeError, ConnectionResetError):
                _template.request(Request.KILL, number, ())


def stop_template() -> None:
    """Stop the template and with it every worker; the next worker starts another one."""
    global _template
    with _lock:
        template, _template = _template, None
    if template is not None:
        template.stop()


def _forget_template() -> None:
    """Forget the parent's template, in a forked child: it is not ours to use or to stop."""
    global _lock, _template
    _lock = threading.RLock()
    if _template is not None:
        _template.control.close()
        _template = None


def _interpreter_flags() -> list[str]:
    """Return the options this interpreter was started with, as far as workers should share them."""
    flags = sys.flags
    letters = {
        "-O": flags.optimize,
        "-B": flags.dont_write_bytecode,
        "-s": flags.no_user_site,
        "-E": flags.ignore_environment,
        "-b": flags.bytes_warning,
    }
    options = [letter for letter, times in letters.items() for _ in range(times)]
    options += [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        options += ["-X", name if value is True else f"{name}={value}"]
    return options


atexit.register(stop_template)
os.register_at_fork(after_in_child=_forget_template)
