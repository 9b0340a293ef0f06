"""Normalised source: code as its syntax tree, without comments, positions and docstrings."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from jobspan.keys.normalising import dump

__all__ = ["bytecode", "class_source", "file_source", "source_of_code"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@dataclass(frozen=True, slots=True)
class _File:
    """A source file, parsed and compiled once."""

    functions: dict[tuple[str, int], list[Definition]]
    classes: dict[tuple[str, int], ast.ClassDef]
    codes: dict[tuple[str, int], list[CodeType]]


def source_of_code(code: CodeType) -> str | None:
    """Return the dump of the syntax tree of a function's code.

    Parameters
    ----------
    code : code object
        The function's ``__code__``.

    Returns
    -------
    str or None
        None where the source cannot be had, or is not what was compiled (an edited file, say).
    """
    file = _file_of(code.co_filename)
    if file is None:
        return None
    where = (code.co_name, code.co_firstlineno)
    if not any(_same(candidate, code) for candidate in file.codes.get(where, [])):
        return None
    nodes = file.functions.get(where, [])
    if len(nodes) > 1:
        nodes = [node for node in nodes if _covers(node, code)]
    return dump(nodes[0]) if len(nodes) == 1 else None


def class_source(kind: type) -> tuple[str, str] | None:
    """Return a class's file and the dump of its syntax tree; None where it has no source."""
    filename = getattr(sys.modules.get(kind.__module__), "__file__", None)
    line = 0
    for member in vars(kind).values():
        code = getattr(getattr(member, "__func__", member), "__code__", None)
        if code is not None and code.co_qualname.startswith(kind.__qualname__ + "."):
            filename, line = code.co_filename, code.co_firstlineno
            break
    file = None if filename is None else _file_of(filename)
    if file is None:
        return None
    found = [node for (name, _), node in file.classes.items() if name == kind.__qualname__]
    if len(found) > 1 and line:  # defined in one branch or the other
        found = [node for node in found if node.lineno <= line <= (node.end_lineno or 0)]
    return (str(filename), dump(found[-1])) if found else None


def _file_of(filename: str) -> _File | None:
    lines = linecache.getlines(filename)
    return _parsed("".join(lines), filename) if lines else None


@lru_cache(maxsize=256)
def _parsed(source: str, filename: str) -> _File | None:
    try:
        # Notebook cells may await outside of functions; a function's code is the same for it.
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        code = compile(tree, filename, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    functions: dict[tuple[str, int], list[Definition]] = {}
    classes: dict[tuple[str, int], ast.ClassDef] = {}
    for node, qualified in _definitions(tree, ""):
        if isinstance(node, ast.ClassDef):
            classes[qualified, node.lineno] = node
            continue
        name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        line = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        functions.setdefault((name, line), []).append(node)
    codes: dict[tuple[str, int], list[CodeType]] = {}
    for inner in _codes(code):
        codes.setdefault((inner.co_name, inner.co_firstlineno), []).append(inner)
    return _File(functions, classes, codes)


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[Definition, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child, prefix + child.name
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, prefix + child.name
            yield from _definitions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.Lambda):
            yield child, prefix + "<lambda>"
            yield from _definitions(child, prefix + "<lambda>.<locals>.")
        else:
            yield from _definitions(child, prefix)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _same(one: CodeType, other: CodeType) -> bool:
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and _constants(one) == _constants(other)
        and all(map(_same, _inner(one), _inner(other)))
    )


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _constants(code: CodeType) -> list[Any]:
    return [
        CodeType if isinstance(constant, CodeType) else (type(constant), repr(constant))
        for constant in code.co_consts
    ]


def _covers(node: Definition, code: CodeType) -> bool:
    """Whether the positions of a code object lie in a node: tells lambdas of one line apart."""
    for line, end_line, column, end_column in code.co_positions():
        if None in (line, end_line, column, end_column) or (
            line == end_line and column == end_column
        ):
            continue
        assert line is not None
        assert column is not None
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begins = (node.lineno, node.col_offset) <= (line, column)
        return begins and (line, column) < (node.end_lineno, node.end_col_offset)
    return False


def bytecode(code: CodeType) -> str:
    """Return what stands for code without source, tagged with the version of Python."""
    inner = [
        bytecode(constant) if isinstance(constant, CodeType) else _constant(constant)
        for constant in code.co_consts
    ]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    shape = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    table = code.co_exceptiontable.hex()
    return f"bytecode {version} {code.co_code.hex()} {table} {shape} {names} {inner}"


def _constant(constant: Any) -> str:
    if isinstance(constant, frozenset):  # has another order in every process
        return f"frozenset({sorted(map(_constant, constant))})"
    if isinstance(constant, tuple):
        return f"({', '.join(map(_constant, constant))})"
    return f"{type(constant).__name__} {constant!a}"


def file_source(path: str) -> str | None:
    """Return the dump of a whole file's syntax tree, or None where it cannot be parsed."""
    lines = linecache.getlines(path)
    try:
        return dump(ast.parse("".join(lines)))
    except (SyntaxError, ValueError):
        return None
