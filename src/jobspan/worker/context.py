"""Enter the context of a batch: what holds around every call, in whatever worker it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobspan.ambient import activated
from jobspan.calls import CallContext

__all__ = ["entered"]


@contextmanager
def entered(context: CallContext) -> Iterator[None]:
    """Let `context` hold inside a ``with`` block, in this thread."""
    with activated(context.settings):
        yield
