"""Registries: names that stand for classes, loaded when first asked for.

A registry maps a name to an object or to a string ``"module:attribute"``. The string is
imported at the first look-up, so that naming an engine costs nothing until it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping
from typing import TypeVar, cast

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """Names and what they stand for.

    Parameters
    ----------
    kind : str
        What is registered, in the singular, for error messages.

    Notes
    -----
    Threads and processes: a registry is filled at import time or by the user's thread;
    look-ups from several threads are safe, for each is one dictionary operation.

    Examples
    --------
    >>> codecs = Registry[type]("codec")
    >>> codecs.register("decimal", "decimal:Decimal")
    >>> codecs.load("decimal").__name__
    'Decimal'
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, T | str] = {}

    def register(self, name: str, target: T | str, *, replace: bool = True) -> None:
        """Let `name` stand for `target`, an object or ``"module:attribute"``."""
        if not replace and name in self._entries:
            raise ValueError(f"{self._kind} {name!r} is registered already; pass another name")
        self._entries[name] = target

    def unregister(self, name: str) -> None:
        """Forget `name`; a name that is not registered is no error."""
        self._entries.pop(name, None)

    def load(self, name: str) -> T:
        """Return what `name` stands for, importing it if need be.

        Raises
        ------
        KeyError
            If nothing is registered under `name`.
        """
        target = self._entries[name]
        if isinstance(target, str):
            module_name, _, attribute = target.partition(":")
            target = cast("T", getattr(importlib.import_module(module_name), attribute))
            self._entries[name] = target
        return target

    def __getitem__(self, name: str) -> T:
        return self.load(name)

    def __setitem__(self, name: str, target: T) -> None:
        self.register(name, target)

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
