"""What stands in a class: functions behind their descriptors, and fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property, partialmethod
from types import FunctionType
from typing import Any

from jobspan.keys.origins import home, is_users

__all__ = ["fields_of", "functions_of", "short_name", "written_by_user"]


def short_name(thing: Any) -> str:
    """Return a function's or class's name within its module, or within the function around it."""
    name: str = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    return name.rpartition("<locals>.")[2]


def functions_of(member: Any) -> Iterator[FunctionType]:
    """Yield the functions that stand in a class body as methods, properties and the like."""
    if isinstance(member, property):
        candidates: tuple[Any, ...] = (member.fget, member.fset, member.fdel)
    elif isinstance(member, cached_property | partialmethod):
        candidates = (member.func,)
    else:
        candidates = (getattr(member, "__func__", member),)
    for candidate in candidates:
        function = getattr(candidate, "__jobspan_function__", candidate)
        if not isinstance(function, FunctionType):
            function = getattr(function, "__wrapped__", None)
        if isinstance(function, FunctionType):
            yield function


def written_by_user(member: FunctionType, source: tuple[str, str] | None) -> bool:
    """Whether the user wrote a member of a class, as opposed to a package or a decorator."""
    module = home(member)
    if not is_users(module) or (module or "").startswith("namedtuple_"):
        return False
    # What a decorator generated (dataclass, attrs) follows from the class.
    code = member.__code__
    file: str = code.co_filename
    if code.co_qualname.startswith("__create_fn__.") or file.startswith("<attrs generated"):
        return False
    return source is None or file == source[0] or not file.startswith("<")


def fields_of(kind: type) -> list[Any]:
    """Return what a decorator that made a class was told of its fields."""
    if not dataclasses.is_dataclass(kind):
        attributes = getattr(kind, "__attrs_attrs__", ())
        return [(each.name, getattr(each.default, "factory", each.default)) for each in attributes]
    told: Any = vars(kind).get("__dataclass_params__")
    names = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
    missing = type(dataclasses.MISSING)  # a class that was pickled has another instance of it
    fields = []
    for each in dataclasses.fields(kind):
        defaults = [d for d in (each.default, each.default_factory) if type(d) is not missing]
        has_factory = type(each.default_factory) is not missing
        fields.append((each.name, has_factory, defaults, each.init, each.compare, each.kw_only))
    return [[getattr(told, name, None) for name in names], fields]
