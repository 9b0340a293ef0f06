"""Canonical structures for Python's own values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from jobspan.keys.bulk import LEAVES, MANY, Plain, kinds_of
from jobspan.keys.encoding import ENCODERS, Encoder, tagged, unkeyable
from jobspan.keys.origins import version_of


def _list(encoder: Encoder, value: list[Any]) -> Plain:
    if len(value) < MANY:
        for item in value:  # for so few, quicker than to set up anything that runs in C
            if type(item) not in LEAVES:
                return encoder.items(value)
        return value
    kinds = kinds_of(value)
    if kinds <= LEAVES:
        return value
    if len(kinds) == 1:
        columns = encoder.column(value, *kinds)
        if columns is not None:
            return columns
    return encoder.items(value)


def _tuple(encoder: Encoder, value: tuple[Any, ...]) -> Plain:
    if len(value) >= MANY:
        return {"tuple": _list(encoder, list(value))}
    for item in value:
        if type(item) not in LEAVES:
            return tuple(encoder.items(value))
    return value


def _dict(encoder: Encoder, value: dict[Any, Any]) -> Plain:
    if len(value) < MANY and _TEXT.issuperset(map(type, value)):  # most are
        names = sorted(value)
        return {"dict": (names, encoder.values_at(names, map(value.__getitem__, names)))}
    return {"dict": encoder.pairs(value)}


_TEXT = frozenset({str})


def _builtin(encoder: Encoder, value: Any) -> Plain:
    owner = value.__self__
    if owner is None or type(owner).__name__ == "module":
        module = value.__module__ or "builtins"
        return tagged("builtin", module, value.__qualname__, version_of(module))
    return tagged("method", value.__name__, encoder.step(".__self__", owner))


def _partial(encoder: Encoder, value: Any) -> Plain:
    return tagged(
        "partial",
        encoder.step(".func", value.func),
        encoder.step(".args", value.args),
        encoder.step(".keywords", value.keywords),
    )


def _refused(what: str) -> Callable[[Encoder, Any], Plain]:
    def refuse(_encoder: Encoder, _value: Any) -> Plain:
        raise unkeyable(f"{what} has no value of its own")

    return refuse


def _encoders() -> dict[type, Callable[[Encoder, Any], Plain]]:
    from collections import deque
    from functools import partial
    from types import (
        AsyncGeneratorType,
        BuiltinFunctionType,
        CoroutineType,
        FrameType,
        GeneratorType,
        MappingProxyType,
        MethodType,
        UnionType,
    )

    return {
        list: _list,
        tuple: _tuple,
        dict: _dict,
        set: lambda encoder, value: tagged("set", encoder.members(value)),
        frozenset: lambda encoder, value: tagged("frozenset", encoder.members(value)),
        complex: lambda _encoder, value: tagged("complex", value.real, value.imag),
        bytearray: lambda _encoder, value: tagged("bytearray", bytes(value)),
        memoryview: lambda _encoder, value: tagged(
            "memoryview",
            value.format,
            value.shape,
            value.tobytes(),
        ),
        range: lambda _encoder, value: tagged("range", value.start, value.stop, value.step),
        slice: lambda encoder, value: tagged(
            "slice",
            encoder.items((value.start, value.stop, value.step)),
        ),
        type(...): lambda _encoder, _value: tagged("ellipsis"),
        type(NotImplemented): lambda _encoder, _value: tagged("not implemented"),
        OrderedDict: lambda encoder, value: tagged(
            "ordered",
            encoder.items(value),
            [encoder.step(f"[{key!r}]", item) for key, item in value.items()],
        ),
        MappingProxyType: lambda encoder, value: tagged("proxy", *encoder.pairs(value)),
        deque: lambda encoder, value: tagged("deque", encoder.items(value), value.maxlen),
        partial: _partial,
        BuiltinFunctionType: _builtin,
        MethodType: lambda encoder, value: tagged(
            "bound",
            encoder.step(".__self__", value.__self__),
            encoder.step(".__func__", value.__func__),
        ),
        UnionType: lambda encoder, value: tagged("union", encoder.items(value.__args__)),
        object: _refused("a bare object()"),
        GeneratorType: _refused("a generator"),
        CoroutineType: _refused("a coroutine"),
        AsyncGeneratorType: _refused("an asynchronous generator"),
        FrameType: _refused("a frame"),
    }


ENCODERS.update(_encoders())
