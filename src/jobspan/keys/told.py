"""What is known of code where its source is, told to processes where it is not.

Functions and classes of ``__main__``, and those defined within functions, travel to workers by
value, without their source. They carry with them what stands for it in keys, so that a call has one
key here and there; it holds only for the very bytecode that it was said of.
"""

from __future__ import annotations

from contextlib import suppress
from types import FunctionType
from typing import NamedTuple

from blake3 import blake3

from jobspan.keys.classes import functions_of, written_by_user
from jobspan.keys.origins import known_as
from jobspan.keys.source import bytecode, class_source, source_of_code

__all__ = ["ClassFacts", "class_facts", "source_digest"]

CARRIED = "__jobspan_source__"


class ClassFacts(NamedTuple):
    """What the source of a class tells: its digest, None for one of fields only; its methods."""

    digest: str | None
    written: tuple[str, ...]


def source_digest(function: FunctionType) -> str:
    """Return the digest of what stands for a function's code."""
    code = function.__code__
    compiled = _digest(bytecode(code))
    source = source_of_code(code)
    if source is None:
        told = vars(function).get(CARRIED)
        return str(told[1]) if told is not None and told[0] == compiled else compiled
    digest = _digest(source)
    if _travels_by_value(function):
        vars(function)[CARRIED] = (compiled, digest)
    return digest


def class_facts(kind: type) -> ClassFacts:
    """Return what the source of a class tells."""
    source = class_source(kind)
    told = vars(kind).get(CARRIED)
    if source is None and told is not None:
        return ClassFacts(*told)
    written = [
        name
        for name, member in sorted(vars(kind).items())
        if any(written_by_user(function, source) for function in functions_of(member))
    ]
    digest = None if source is None or not written else _digest(source[1])
    facts = ClassFacts(digest, tuple(written))
    if _travels_by_value(kind) and not hasattr(kind, "_is_protocol"):
        with suppress(AttributeError, TypeError):  # a metaclass may refuse
            setattr(kind, CARRIED, tuple(facts))
    return facts


def _travels_by_value(thing: FunctionType | type) -> bool:
    return known_as(thing.__module__) == "__main__" or "<" in thing.__qualname__


def _digest(text: str) -> str:
    return blake3(text.encode("utf-8", "surrogatepass")).hexdigest()
