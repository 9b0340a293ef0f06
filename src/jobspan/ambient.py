"""Ambient settings: what ``parallel_config`` sets and ``Parallel`` finds.

One context variable holds one frozen value. It follows threads of :mod:`asyncio` and the
contexts that jobspan enters in workers; a new thread starts from the defaults, as in joblib.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

__all__ = ["Default", "Settings", "activated", "current", "replace_current"]

T = TypeVar("T")


class Default(Generic[T]):
    """A default that tells "not given" from the same value given by the user.

    Parameters
    ----------
    value : object
        What holds where neither the user nor a context says otherwise.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"default({self.value!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that hold where ``Parallel`` is called, unless its arguments say otherwise.

    Parameters
    ----------
    backend : object
        Where calls run: a :class:`~jobspan.executors.Backend`, or a name or URL where the settings
        have travelled to a worker; None: not set.
    level : int
        How many parallel calls enclose this one.
    values : mapping
        What was given of the arguments that ``Parallel`` and ``parallel_config`` share.
    bridge : bool
        Whether other libraries that have a bridge, such as joblib, run their calls there too.
    cores : int or None
        How many cores are for the call that runs here and what it calls; None: all there are.
    waiting : frozenset of str
        The modules whose import waits for the call that runs here.
    """

    backend: Any = None
    level: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    bridge: bool = True
    cores: int | None = None
    waiting: frozenset[str] = frozenset()


_settings: ContextVar[Settings] = ContextVar("jobspan_settings")
_DEFAULT = Settings()


def current() -> Settings:
    """Return the settings that hold here."""
    return _settings.get(_DEFAULT)


def replace_current(settings: Settings) -> Settings:
    """Let `settings` hold from here on; return those that held before."""
    before = current()
    _settings.set(settings)
    return before


@contextmanager
def activated(settings: Settings) -> Iterator[None]:
    """Let `settings` hold inside a ``with`` block."""
    token = _settings.set(settings)
    try:
        yield
    finally:
        _settings.reset(token)
