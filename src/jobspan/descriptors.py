"""Opening a file so that Ctrl-C leaves no descriptor behind."""

from __future__ import annotations

import os

__all__ = ["opened"]


def opened(path: str, flags: int, mode: int = 0o666) -> int:
    """Return the descriptor of a file, as `os.open` does.

    Python heeds a signal when a call has returned, before what it returned has a name: what
    `os.open` returned would stay open for ever, with its locks, and most of a short call's time is
    spent there. Unpacking gives it its name first. Let `try` follow at once.
    """
    (descriptor,) = map(os.open, (path,), (flags,), (mode,))
    return descriptor
