"""What an object may be called: the same rule on every disk and in every bucket."""

from __future__ import annotations

import re

__all__ = [
    "MAX_NAME_BYTES",
    "MAX_SEGMENT_BYTES",
    "RESERVED_PREFIX",
    "can_name",
    "check_name",
    "check_prefix",
]

MAX_NAME_BYTES = 800
"""Longest name in UTF-8; buckets allow 1024 bytes, of which the store's prefix takes some."""

MAX_SEGMENT_BYTES = 240
"""Longest part between two slashes in UTF-8; file systems allow 255 bytes."""

RESERVED_PREFIX = ".jobspan-"
"""Segments that start with this are the stores' own: temporary files, locks, probes."""

# The common case in one match: short, plain ASCII, no segment that starts with a dot.
_PLAIN = re.compile(r"(?!\.)(?:[A-Za-z0-9_\-=+@,][A-Za-z0-9_.\-=+@,]{0,126}(?:/(?!$)|$)){1,6}\Z")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")


def check_name(name: str) -> None:
    """Raise ValueError where `name` cannot name an object in every store.

    Examples
    --------
    >>> check_name("results/ab/cdef")
    >>> check_name("../secret")
    Traceback (most recent call last):
    ...
    ValueError: '../secret' cannot name an object: '..' is not allowed between slashes
    """
    if _PLAIN.match(name) is None:
        _check_segments(name, name.split("/"))


def can_name(name: str) -> bool:
    """Whether `name` can name an object: buckets hold others too, which are nobody's business here.

    Examples
    --------
    >>> can_name("results/ab/cdef"), can_name("../secret"), can_name("folder/")
    (True, False, False)
    """
    try:
        check_name(name)
    except ValueError:
        return False
    return True


def check_prefix(prefix: str) -> None:
    """Raise ValueError where no name can start with `prefix`; the empty string is a prefix."""
    if prefix:
        segments = prefix.split("/")
        # The last segment is only the start of one, and may be empty or a lone dot.
        _check_segments(prefix, [*segments[:-1], segments[-1] + "x"])


def _check_segments(name: str, segments: list[str]) -> None:
    reason = None
    if _FORBIDDEN.search(name):
        reason = "control characters, backslashes and lone surrogates are not allowed"
    elif len(name.encode()) > MAX_NAME_BYTES:
        reason = f"it is longer than {MAX_NAME_BYTES} bytes"
    else:
        for segment in segments:
            if segment in {"", ".", ".."}:
                reason = f"{segment!r} is not allowed between slashes"
            elif segment.startswith(RESERVED_PREFIX):
                reason = f"segments that start with {RESERVED_PREFIX!r} are the store's own"
            elif len(segment.encode()) > MAX_SEGMENT_BYTES:
                reason = f"a segment is longer than {MAX_SEGMENT_BYTES} bytes"
    if reason is not None:
        raise ValueError(f"{name!r} cannot name an object: {reason}")
