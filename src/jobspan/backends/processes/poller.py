"""A persistent selector for descriptors of several kinds, which another thread can wake."""

from __future__ import annotations

import os
import select
import selectors
import threading
from contextlib import suppress
from typing import Protocol

from jobspan.descriptors import Descriptor, Pipe

__all__ = ["READABLE", "WRITABLE", "Poller", "Waker", "new_poller"]

READABLE = 1
WRITABLE = 4
"""As ``EPOLLIN`` and ``EPOLLOUT`` have it."""


class Poller(Protocol):
    """Waits for descriptors."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Watch a descriptor."""
        ...

    def unregister(self, fd: int, /) -> None:
        """Watch a descriptor no more."""
        ...

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Return the descriptors that are ready; wait for one at most `timeout` seconds."""
        ...

    def close(self) -> None:
        """Give the selector back to the system."""
        ...


class _Selector:
    """A `Poller` where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        self._selector.register(fd, _selector_events(eventmask))

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        return [
            (key.fd, READABLE if events & selectors.EVENT_READ else WRITABLE)
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        self._selector.close()


def _selector_events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READABLE else 0) | (
        selectors.EVENT_WRITE if mask & WRITABLE else 0
    )


def new_poller() -> Poller:
    """Return the best selector of this system."""
    if hasattr(select, "epoll"):
        return select.epoll()
    return _Selector()


class Waker:
    """Makes a poller return, from any thread; its descriptor is to be registered there."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
            self._reading = self._writing = Descriptor(map(os.eventfd, (0,), (flags,)))
        else:
            pipe = Pipe()
            self._reading, self._writing = pipe.reading, pipe.writing
            os.set_blocking(self._reading.number, False)
            os.set_blocking(self._writing.number, False)
        self.descriptor = self._reading.number
        self._open = threading.Lock()
        self._closed = False

    def wake(self) -> None:
        """Make the descriptor readable; does nothing once it is closed."""
        with self._open:
            if not self._closed:
                with suppress(BlockingIOError):  # it is readable already
                    os.write(self._writing.number, (1).to_bytes(8, "little"))

    def clear(self) -> None:
        """Make the descriptor unreadable until the next `wake`."""
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)

    def close(self) -> None:
        """Give the descriptors back."""
        with self._open:
            if self._closed:
                return
            self._closed = True
            self._reading.close()
            self._writing.close()
