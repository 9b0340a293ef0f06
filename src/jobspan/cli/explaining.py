"""Why did it miss? A call typed as text, or a stored entry, beside what else is stored."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import click

from jobspan.cli.running import compiled
from jobspan.keys import CallKey, FunctionKeys
from jobspan.keys import explain as in_words
from jobspan.memory import MemorizedFunc
from jobspan.memory.inventory import StoredEntry, survey
from jobspan.store import ObjectStore

__all__ = ["explain_call", "explain_entry", "is_call", "key_of"]


def is_call(text: str) -> bool:
    """Whether what was typed is a call and not a key.

    Examples
    --------
    >>> is_call("project.features:count('a')"), is_call("8c3f01")
    (True, False)
    """
    return "(" in text


def explain_call(store: ObjectStore, text: str) -> dict[str, Any]:
    """Say how a call differs from the nearest stored one.

    Parameters
    ----------
    store : ObjectStore
        Where results are stored.
    text : str
        ``module:function(...)`` or ``file.py:function(...)`` with literals for arguments.
    """
    function, args, kwargs = _read_call(text)
    ignore: tuple[str, ...] = ()
    version: str | int | None = None
    depends: tuple[Any, ...] = ()
    if isinstance(function, MemorizedFunc):
        ignore, version, depends = tuple(function.ignore), function.version, function.depends
        function = function.func
    keys = FunctionKeys(function, ignore, version, depends)
    key = keys.key(args, kwargs)
    # What a script defines is stored under the name that it has there.
    names = (keys.name, f"__main__.{function.__qualname__}")
    for name in names:
        entries = survey(store, name).entries
        if entries:
            break
    told = in_words(key, [entry.header.components for entry in entries])
    differences = [] if told.startswith("nothing differs") else told.splitlines()
    return {"function": names[0], "stored": not differences, "differences": differences}


def explain_entry(store: ObjectStore, entry: StoredEntry) -> dict[str, Any]:
    """Say how a stored entry differs from the nearest other one of its function."""
    function = entry.header.function
    others = [
        other.header.components
        for other in survey(store, function).entries
        if other.header.key != entry.header.key
    ]
    if not others:
        differences = [f"no other call of {function} is stored"]
    else:
        differences = in_words(key_of(entry), others).splitlines()
    return {"function": function, "stored": True, "differences": differences}


@dataclass(frozen=True, slots=True)
class _StoredKey:
    """The key of a stored entry, as far as its header tells it."""

    digest: str
    function: str
    components: Mapping[str, str]


def key_of(entry: StoredEntry) -> CallKey:
    """Return the key of an entry, of whose call only the header is known."""
    header = entry.header
    return cast("CallKey", _StoredKey(header.key, header.function, header.components))


def _read_call(text: str) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    try:
        where, call = _split(text)
        args = tuple(ast.literal_eval(argument) for argument in call.args)
        kwargs = {
            str(keyword.arg): ast.literal_eval(keyword.value)
            for keyword in call.keywords
            if keyword.arg is not None
        }
    except (ValueError, SyntaxError) as error:
        raise click.BadParameter(
            f"{text!r}: type 'module:function(1, name=\"x\")' with literals for arguments; for "
            "others, call f.explain(...) in Python"
        ) from error
    with contextlib.redirect_stdout(sys.stderr):  # what a module prints is no answer of ours
        found: Any = _module(where)
    for part in ast.unparse(call.func).split("."):
        if not hasattr(found, part):
            raise click.BadParameter(f"{where} has no {part!r}")
        found = getattr(found, part)
    return found, args, kwargs


def _split(text: str) -> tuple[str, ast.Call]:
    before, _, arguments = text.partition("(")
    where, separator, name = before.rpartition(":")
    node = ast.parse(f"{name}({arguments}", mode="eval").body
    if not separator or not isinstance(node, ast.Call):
        raise ValueError(text)
    return where, node


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, "")
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise click.BadParameter(f"{where!r} cannot be imported: {error}") from error
    path = Path(where).resolve()
    if not path.is_file():
        raise click.BadParameter(f"there is no file {where!r}")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    # Prepared as `jobspan run` does it: a script of joblib has its results stored by jobspan.
    exec(compiled(path.read_bytes(), str(path), replace_joblib=True), module.__dict__)
    return module
