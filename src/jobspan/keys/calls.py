"""From a call to its key: arguments bound to names, code to its fingerprint, all to one digest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from blake3 import blake3

from jobspan.keys.canonical import canonical_bytes, digest
from jobspan.keys.fingerprint import fingerprint, function_name, unwrapped

__all__ = ["CallKey", "FunctionKeys", "call_key"]

SCHEMA = "jobspan key 1"
"""Changes whenever the same call would get another key."""

FEW_BYTES = 4096
"""So few are copied sooner than handed over on their own."""

SHOWN = 60
"""Characters of an argument that a component shows."""


class CallKey(NamedTuple):
    """The key of one call.

    A named tuple, for one is made for every call of a cached function.

    Parameters
    ----------
    digest : str
        64 hexadecimal digits of BLAKE3: names the stored result.
    function : str
        Module and qualified name of the function.
    parts : tuple
        What `components` are made of.
    """

    digest: str
    function: str
    parts: tuple[Mapping[str, str], Sequence[tuple[str, bytes, Any]]]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(digest={self.digest!r}, function={self.function!r})"

    @property
    def components(self) -> dict[str, str]:
        """The parts that the key is made of, by name: digests and versions, arguments shown."""
        code, arguments = self.parts
        components = {f"code: {name}": value for name, value in code.items()}
        for name, data, value in arguments:
            components[f"argument: {name}"] = f"{blake3(data).hexdigest()} {_shown(value)}"
        return components


class FunctionKeys:
    """Makes the keys of one function's calls.

    Parameters
    ----------
    function : callable
        The function.
    ignore : sequence of str
        Names of arguments that do not count; ``"*"`` and ``"**"`` for the surplus ones.
    version : str or int or None
        Replaces the fingerprint of the function: a word of the user's own.
    depends : sequence
        What the result depends on besides: functions, modules, values, and files or folders, given
        as `pathlib.Path` and read at each call.

    Raises
    ------
    ValueError
        If `ignore` names an argument that the function does not have.

    Examples
    --------
    >>> def add(x, y=1): return x + y
    >>> keys = FunctionKeys(add)
    >>> keys.key((2,), {}).digest == keys.key((), {"y": 1, "x": 2}).digest
    True
    """

    def __init__(
        self,
        function: Callable[..., Any],
        ignore: Sequence[str] = (),
        version: str | int | None = None,
        depends: Sequence[Any] = (),
    ) -> None:
        self._function = function
        self._bound = function.__self__ if isinstance(function, MethodType) else None
        self._version = version
        self._depends = tuple(depends)
        self.name = function_name(function)
        plain = unwrapped(function)
        try:
            self._signature: inspect.Signature | None = inspect.signature(plain)
        except (ValueError, TypeError):
            self._signature = None
        parameters = {} if self._signature is None else self._signature.parameters
        kinds = {p.kind for p in parameters.values()}
        self._names = tuple(parameters)
        self._simple = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}
        self._surplus = {
            name: "*" if p.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            for name, p in parameters.items()
            if p.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        }
        self._ignore = frozenset(ignore)
        # What stands before an argument's bytes: two lengths and the name, the second one open.
        self._starts = {
            name: b"%d %%d %b" % (len(name), text.replace(b"%", b"%%"))
            for name in (*self._names, "*", "**")
            for text in [name.encode("utf-8", "surrogatepass")]
        }
        self._plain = self._simple and not self._ignore and self._bound is None
        unknown = self._ignore - set(parameters) - {"*", "**"}
        if unknown:
            raise ValueError(
                f"Ignore list: argument {min(unknown)!r} is not defined for function "
                f"{self.name}({', '.join(self._names)})"
            )
        self._prefix: tuple[Mapping[str, str], Any] = ({}, blake3())
        self._fixed: Mapping[str, str] | None = None

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallKey:
        """Return the key of a call.

        Raises
        ------
        TypeError
            If the arguments do not fit the function.
        UnkeyableError
            If an argument has no key.
        """
        code = self.code()
        if code is not self._prefix[0]:
            self._prefix = (code, self._hasher(code))
        if self._plain and not kwargs and len(args) == len(self._names):
            counted: Iterable[tuple[str, Any]] = zip(self._names, args)  # noqa: B905 - they fit
        else:
            counted = self._counted(args, kwargs)
        arguments = []
        hasher = self._prefix[1].copy()
        for name, value in counted:
            data = canonical_bytes(value, name)
            arguments.append((name, data, value))
            start = self._starts[name] % len(data)
            if len(data) < FEW_BYTES:
                hasher.update(start + data)
            else:
                hasher.update(start)
                hasher.update(data)
        return CallKey(hasher.digest().hex(), self.name, (code, arguments))

    def _counted(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Yield name and value of each argument that counts."""
        for name, value in self.bind(args, kwargs).items():
            if name not in self._ignore and self._surplus.get(name) not in self._ignore:
                yield name, value

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults filled in."""
        if self._bound is not None:
            args = (self._bound, *args)
        if self._simple and not kwargs and len(args) == len(self._names):
            return dict(zip(self._names, args, strict=True))
        if self._signature is None:
            return {"*": args, "**": dict(kwargs)}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{self._signature}: {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def fix(self, code: Mapping[str, str]) -> None:
        """Take the parts of the function's code as given, from a process that knows its source."""
        self._fixed = code

    def code(self) -> Mapping[str, str]:
        """Return the parts of the key that stand for the function's code."""
        if self._fixed is not None:
            return self._fixed
        if self._version is None and not self._depends:
            return fingerprint(self._function).components
        code = dict(_depends(self._depends))
        if self._version is not None:
            code["version"] = repr(self._version)
        else:
            code.update(fingerprint(self._function).components)
        return code

    def _hasher(self, code: Mapping[str, str]) -> blake3:
        """Return a hasher that has read what stands for the function."""
        parts = [SCHEMA, self.name, *(f"{name}\0{code[name]}" for name in sorted(code))]
        text = "\1".join(f"{len(part)} {part}" for part in parts)
        return blake3(text.encode("utf-8", "surrogatepass"))


def call_key(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    ignore: Sequence[str] = (),
    version: str | int | None = None,
    depends: Sequence[Any] = (),
) -> CallKey:
    """Return the key of one call; `FunctionKeys` is quicker for many of one function."""
    return FunctionKeys(function, ignore, version, depends).key(args, kwargs)


def _depends(values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield a name and a digest for each thing that a result depends on besides."""
    for number, value in enumerate(values):
        what = f"depends[{number}]"
        plain = unwrapped(value)
        if isinstance(value, ModuleType):
            yield f"{what} {value.__name__}", digest(value, what)
        elif isinstance(value, Path):
            yield f"{what} {value.name}", _content(value)
        elif isinstance(plain, FunctionType | type):
            yield f"{what} {function_name(plain)}", fingerprint(plain).digest
        else:
            yield what, digest(value, what)


def _content(path: Path) -> str:
    """Return the digest of a file, or of all files of a folder with their names."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        return digest([(each.relative_to(path).as_posix(), _content(each)) for each in files])
    hasher = blake3()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            hasher.update(data)
    return hasher.hexdigest()


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {shape}"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a repr may fail in any way, and is only shown
        return type(value).__name__
    if not text.isprintable():  # a repr of one's own may give orders to a terminal
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
