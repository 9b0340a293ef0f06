"""Descriptors that Ctrl-C cannot leave behind.

Python heeds a signal when a call has returned, before what it returned has a name: what `os.open`
returned would stay open for ever, with its locks, and most of a short call's time is spent there.
Unpacking a `map`, which makes the call, gives it its name first::

    (descriptor,) = map(os.open, (path,), (flags,))

From there on something must own it that closes it when nothing refers to it any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import starmap

__all__ = ["Descriptor", "Pipe", "opened"]


def opened(path: str, flags: int, mode: int = 0o666) -> int:
    """Return the descriptor of a file, as `os.open` does; let `try` follow at once."""
    (descriptor,) = map(os.open, (path,), (flags,), (mode,))
    return descriptor


class Descriptor:
    """Owns a descriptor, which is closed with it.

    Parameters
    ----------
    made : iterable of int
        What makes the one descriptor when it is asked for it, such as a `map` of `os.open`.
    """

    __slots__ = ("number",)

    number: int

    def __init__(self, made: Iterable[int] = (-1,)) -> None:
        self.number = -1
        (self.number,) = made

    def fileno(self) -> int:
        """Return the descriptor; -1 once it is closed."""
        return self.number

    def close(self) -> None:
        """Close it, unless that has been done."""
        number, self.number = self.number, -1
        if number >= 0:
            try:  # noqa: SIM105 - one call more, and Ctrl-C could come before it is closed
                os.close(number)
            except OSError:
                pass  # a call that a user wrote has closed it

    __del__ = close


class Pipe:
    """Owns both ends of a pipe."""

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        self.reading, self.writing = Descriptor(), Descriptor()
        ((self.reading.number, self.writing.number),) = starmap(os.pipe, [()])
