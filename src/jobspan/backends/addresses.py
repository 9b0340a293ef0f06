"""Addresses of clusters as they may be shown: without user and password."""

from __future__ import annotations

import re

__all__ = ["shown_address", "without_credentials"]

_CREDENTIALS = re.compile(
    r"(?<=://)[^/@\s'\":]*:[^@\s'\"]+@(?=[\w.\[-])"  # there may be slashes in a password
    r"|[^/@\s'\"]+@(?=[\w.\[-])"
)


def shown_address(address: str | None) -> str | None:
    """Return an address without user and password.

    Examples
    --------
    >>> shown_address("tls://user:password@host:8786")
    'tls://host:8786'
    """
    return None if address is None else without_credentials(address)


def without_credentials(text: object) -> str:
    """Return a text without what stands before an ``@`` of the addresses in it."""
    return _CREDENTIALS.sub("", str(text))
