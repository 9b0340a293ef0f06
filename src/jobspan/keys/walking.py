"""The walk from a function to all that it reads: helpers, classes, values, packages.

Each function and class is met once and gets a label; whoever reads it refers to the label. So
functions that call each other, or a table that holds the function that reads it, have an end.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from blake3 import blake3

from jobspan.errors import UnkeyableError
from jobspan.keys.bulk import LEAVES
from jobspan.keys.canonical import canonical_bytes
from jobspan.keys.classes import fields_of, functions_of, short_name
from jobspan.keys.encoding import class_name
from jobspan.keys.origins import find_source, home, is_users, version_of
from jobspan.keys.reads import global_reads, imported, imports_of_file
from jobspan.keys.source import file_source
from jobspan.keys.told import ClassFacts, class_facts, source_digest

__all__ = ["MISSING", "Mode", "Walk", "cell_value", "mode", "value_digest"]

MISSING = object()

_INFRASTRUCTURE = ("jobspan.memory.memory", "jobspan.parallel.")
"""Where calls run and results are stored does not change them."""


class Mode(threading.local):
    """How functions and classes within values are encoded in this thread just now.

    A function; None: by their own fingerprint.
    """

    reference: Callable[[Any], Any] | None = None


mode = Mode()


def value_digest(value: Any, name: str, reference: Callable[[Any], Any]) -> str:
    """Return the digest of a value whose functions and classes are encoded by `reference`."""
    before, mode.reference = mode.reference, reference
    try:
        return blake3(canonical_bytes(value, name)).hexdigest()
    finally:
        mode.reference = before


def cell_value(cell: Any) -> Any:
    """Return what a cell of a closure holds, `MISSING` while it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


class Walk:
    """Follows code to all that it reads.

    Parameters
    ----------
    start : callable
        Where the walk begins.
    label : str
        What it is called in the components.
    """

    def __init__(self, start: Any = None, label: str = "") -> None:
        self.components: dict[str, str] = {}
        self.codes: list[tuple[FunctionType, CodeType, Any, Any]] = []
        self.names: list[tuple[Mapping[str, Any], str, Any]] = []
        self.cells: list[tuple[Any, Any]] = []
        self.mutable: list[tuple[Any, str]] = []
        self._labels: dict[int, str] = {}
        self._values: dict[tuple[int, str], str] = {}
        self._met: list[Any] = []
        self._queue: deque[tuple[Any, str]] = deque()
        self._start = start
        if start is not None:
            self._follow(start, label)
        while self._queue:
            self._look_at(*self._queue.popleft())

    @classmethod
    def of_module(cls, name: str) -> dict[str, str]:
        """Return the components of a module of the user's: its source and what it imports."""
        walk = cls()
        walk._module(name)
        return walk.components

    def forget(self) -> None:
        """Let go of what only the walk itself needed, the start among it."""
        self._start = None
        self._met.clear()
        self._labels.clear()
        self._values.clear()

    def _free(self, name: str, taken: Mapping[Any, Any] | None = None) -> str:
        """Return a name that is not taken: two helpers of one name must not hide each other."""
        taken = self.components if taken is None else taken
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name} ({number})"
        return free

    def _add(self, name: str, value: str) -> str:
        name = self._free(name)
        self.components[name] = value
        return name

    def _package(self, module: str) -> str:
        package = module.partition(".")[0]
        version = version_of(module)
        if version:
            self.components[f"package {package}"] = version
        return package

    def _follow(self, thing: Any, name: str) -> str:
        """Return the label of a function or class, to be looked at later if it is new."""
        thing = getattr(thing, "__jobspan_function__", thing)
        label = self._labels.get(id(thing))
        if label is None:
            taken = dict.fromkeys(self._labels.values())
            label = self._labels[id(thing)] = self._free(name, taken)
            self._met.append(thing)  # or another might get its id
            self._queue.append((thing, label))
        return label

    def _look_at(self, thing: Any, label: str) -> None:
        if isinstance(thing, FunctionType):
            self._function(thing, label)
        elif isinstance(thing, type):
            self._class(thing, label)
        elif isinstance(thing, partial):
            arguments = self._digest((thing.args, thing.keywords), f"the arguments of {label}")
            self._add(f"{label} arguments", arguments)
            self._look_at(getattr(thing.func, "__jobspan_function__", thing.func), label)
        elif callable(getattr(thing, "__wrapped__", None)):
            self._add(label, f"{class_name(type(thing))} {version_of(type(thing).__module__)}")
            self._look_at(thing.__wrapped__, label)
        elif is_extension(thing):
            self._add(label, self._installed(thing))
        elif isinstance(thing, MethodType):
            self._add(f"{label} state", self._digest(thing.__self__, f"the object of {label}"))
            self._look_at(thing.__func__, label)
        else:
            self._add(f"{label} state", self._digest(thing, label))

    def _installed(self, thing: Any) -> str:
        module = getattr(thing, "__module__", None) or type(thing).__module__
        name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", "")
        return f"{module}.{name} {version_of(module)}".rstrip()

    # --- functions -------------------------------------------------------------------------

    def _function(self, function: FunctionType, label: str) -> None:
        code = function.__code__
        if function is not self._start:  # who waits for the end of a function must not hold it
            kept = (function, code, function.__defaults__, function.__kwdefaults__)
            self.codes.append(kept)
        module = home(function)
        if not is_users(module):
            self._package(module or "")
            self._add(label, f"{module}.{code.co_name}")
            self._add_names(label, self._inside_installed(function, label))
            return
        self._add(f"{label} source", source_digest(function))
        if function.__defaults__ or function.__kwdefaults__:
            defaults = (function.__defaults__, function.__kwdefaults__)
            self._add(f"{label} defaults", self._digest(defaults, f"the defaults of {label}"))
        references = []
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = cell_value(cell)
            self.cells.append((cell, value))
            references.append(("closure", name, self._reference(cell, name, value)))
        for name, attributes in global_reads(code):
            references.append(("global", name, self._global(function, name, attributes)))
        wrapped = getattr(function, "__wrapped__", None)
        if callable(wrapped):
            references.append(("wraps", "", self._follow(wrapped, short_name(wrapped))))
        for name, level in imported(code):
            references.append(("import", name, self._imported(function, name, level)))
        self._add_names(label, references)

    def _add_names(self, label: str, references: list[Any]) -> None:
        if references:
            text = ascii(references)
            self._add(f"{label} names", blake3(text.encode()).hexdigest())

    def _inside_installed(self, function: FunctionType, label: str) -> list[tuple[str, str]]:
        """Return the user's functions that an installed wrapper closes over, however deep."""
        users: list[FunctionType] = []
        met = {id(function)}
        queue: list[Any] = [function]
        while queue:
            wrapper = queue.pop(0)
            values = [getattr(wrapper, "__wrapped__", None)]
            values += map(cell_value, wrapper.__closure__ or ())
            for value in values:
                parts = value.values() if type(value) is dict else (value,)  # of singledispatch
                for part in parts:
                    if isinstance(part, FunctionType) and id(part) not in met:
                        met.add(id(part))
                        (users if is_users(home(part)) else queue).append(part)
        if users and id(users[0]) not in self._labels:
            self._labels[id(users[0])] = label  # to users, it is what the wrapper's name means
            self._met.append(users[0])
            self._queue.append((users[0], label))
        return [("wraps", self._follow(part, short_name(part))) for part in users]

    def _global(self, function: FunctionType, name: str, attributes: tuple[str, ...]) -> str:
        scope: Mapping[str, Any] = function.__globals__
        value = scope.get(name, MISSING)
        self.names.append((scope, name, value))
        path = name
        for attribute in attributes:
            if not isinstance(value, ModuleType) or not is_users(value.__name__):
                break
            scope, name = vars(value), attribute
            path = f"{path}.{attribute}"
            value = scope.get(name, MISSING)
            self.names.append((scope, name, value))
        return self._reference(scope, name, value, path)

    def _reference(self, scope: Any, name: str, value: Any, path: str | None = None) -> str:
        """Return what code refers to by a name."""
        path = path or name
        if value is MISSING:
            return "missing"
        if isinstance(value, ModuleType):
            if is_users(value.__name__):
                return self._module(value.__name__)
            return f"{self._package(value.__name__)}: {value.__name__}"
        if isinstance(value, FunctionType | type | partial) or (
            callable(value)
            and (
                hasattr(type(value), "__jobspan_function__")
                or callable(getattr(value, "__wrapped__", None))
            )
        ):
            return self._follow(value, short_name(value) if name == "__class__" else path)
        if value is os.environ or type(value).__module__.startswith(_INFRASTRUCTURE):
            return class_name(type(value))
        if is_extension(value):
            self._package(getattr(value, "__module__", None) or type(value).__module__)
            return self._installed(value)
        known = self._values.get((id(scope), name))
        if known is None:
            if not is_users(type(value).__module__):
                self._package(type(value).__module__)
            known = self._add(f"global {path}", self._digest(value, path))
            self._values[id(scope), name] = known
        return known

    def _imported(self, function: FunctionType, name: str, level: int) -> str:
        if level:
            package = function.__globals__.get("__package__") or ""
            try:
                name = importlib.util.resolve_name("." * level + name, package)
            except ImportError:
                return "missing"
        if not is_users(name):
            return f"{self._package(name)}: {name}"
        return self._module(name)

    def _module(self, name: str) -> str:
        """Add the source of a whole module, for any part of it may be used."""
        label = f"{name} source"
        if label not in self.components:
            path = find_source(name)
            source = None if path is None else file_source(str(path))
            if source is None:
                return "missing"
            self.components[label] = blake3(source.encode()).hexdigest()
            for other, level in imports_of_file(str(path)):
                package = (
                    name
                    if path is not None and path.stem == "__init__"
                    else (name.rpartition(".")[0])
                )
                try:
                    resolved = importlib.util.resolve_name("." * level + other, package)
                except ImportError:
                    continue
                if is_users(resolved):
                    self._module(resolved)
                else:
                    self._package(resolved)
        return name

    # --- classes ---------------------------------------------------------------------------

    def _class(self, kind: type, label: str) -> None:
        if not is_users(kind.__module__):
            self._package(kind.__module__)
            self._add(label, class_name(kind))
            return
        facts = class_facts(kind)
        if facts.digest is not None:
            self._add(f"{label} source", facts.digest)
        else:  # all there is to it can be seen, in workers that have no source, too
            fields = self._digest(fields_of(kind), f"the fields of {label}", watched=False)
            self._add(f"{label} fields", fields)
        references = [
            ("member", name, reference)
            for name, member in sorted(vars(kind).items())
            if (reference := self._member(kind, name, member, facts, label)) is not None
        ]
        if issubclass(kind, Enum):
            named = [(member.name, member.value) for member in kind]
            members_digest = self._digest(named, f"the members of {label}", watched=False)
            self._add(f"{label} state", members_digest)
        for base in (type(kind), *kind.__bases__):
            if is_users(base.__module__):
                references.append(("base", "", self._follow(base, short_name(base))))
            elif base not in (object, type):
                self._package(base.__module__)
                references.append(("base", "", class_name(base)))
        self._add_names(label, references)

    def _member(
        self, kind: type, name: str, member: Any, facts: ClassFacts, label: str
    ) -> str | None:
        """Return what a class refers to by a name of its body; None where it does not count."""
        functions: list[Any] = list(functions_of(member))
        if functions or isinstance(member, type):
            counts = name in facts.written if functions else is_users(member.__module__)
            parts = (functions or [member]) if counts else []
            labels = [self._follow(each, f"{label}.{name}") for each in parts]
            self.names.append((vars(kind), name, member))
            return ascii(labels) if labels else None
        if (name.startswith("_") and name.endswith("_")) or name.startswith(("_abc_", "_is_")):
            return None  # the machinery's, of enum, typing, attrs and the like
        if hasattr(type(member), "__get__") or isinstance(member, kind):
            return None
        self.names.append((vars(kind), name, member))
        try:
            digest = self._digest(member, f"{label}.{name}")
        except UnkeyableError:
            return class_name(type(member))  # its source says what it is: a lock, say
        return self._add(f"global {label}.{name}", digest)

    # --- values ----------------------------------------------------------------------------

    def _digest(self, value: Any, name: str, *, watched: bool = True) -> str:
        try:
            digest = value_digest(value, name, self._label_within)
        except UnkeyableError as error:
            error.add_note(
                f"The function reads {name}. Pass it as an argument, or give version= to replace "
                "the fingerprint by a word of your own."
            )
            raise
        if watched and not _fixed(value):
            self.mutable.append((value, value_digest(value, name, id)))
        return digest

    def _label_within(self, thing: Any) -> str:
        return self._follow(thing, short_name(thing))


def is_extension(value: Any) -> bool:
    """Whether a value is a function that is not written in Python: it has a name and no state."""
    if isinstance(value, BuiltinFunctionType):
        return value.__self__ is None or isinstance(value.__self__, ModuleType | type)
    kind = type(value)
    if not callable(value) or kind.__module__ == "__main__" or is_users(kind.__module__):
        return False
    try:
        return isinstance(value.__reduce_ex__(4), str)
    except Exception:  # noqa: BLE001 - a reduction may fail in any way; then it is a value
        return False


def _fixed(value: Any) -> bool:
    """Whether a value can never change, so that its identity tells all."""
    kind = type(value)
    return kind in LEAVES or (kind in (tuple, frozenset) and all(map(_fixed, value)))
