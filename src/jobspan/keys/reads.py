"""What code reads from outside: globals with their attributes, and modules that it imports."""

from __future__ import annotations

import ast
import dis
from functools import lru_cache
from pathlib import Path
from types import CodeType

__all__ = ["global_reads", "imported", "imports_of_file"]


@lru_cache(maxsize=4096)
def global_reads(code: CodeType) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the globals that code reads, each with the attributes that it reads of it in a row.

    In order of their names, for that of the bytecode changes with Python.
    """
    reads: set[tuple[str, tuple[str, ...]]] = set()
    name = ""
    attributes: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and name:
            attributes.append(instruction.argval)
            continue
        if name:
            reads.add((name, tuple(attributes)))
            name, attributes = "", []
        if instruction.opname in _GLOBALS:
            name = instruction.argval
    for inner in _inner(code):
        reads.update(global_reads(inner))
    return tuple(sorted(reads))


_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


@lru_cache(maxsize=4096)
def imported(code: CodeType) -> tuple[tuple[str, int], ...]:
    """Return the modules that code imports when it runs: names, and how many dots are before."""
    found: set[tuple[str, int]] = set()
    level, module, depth = 0, "", 0
    previous: list[object] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level = previous[0] if isinstance(previous[0], int) else 0
            module, depth = instruction.argval, level
            found.add((module, depth))
        elif instruction.opname == "IMPORT_FROM":
            found.add((f"{module}.{instruction.argval}" if module else instruction.argval, depth))
        if instruction.opname.startswith("LOAD_"):
            previous = [previous[1], instruction.argval]
    for inner in _inner(code):
        found.update(imported(inner))
    return tuple(sorted(found))


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def imports_of_file(path: str) -> list[tuple[str, int]]:
    """Return the modules that a source file imports anywhere, as `imported` does."""
    found = []
    for node in ast.walk(ast.parse(Path(path).read_bytes())):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found.append((module, node.level))
            dot = "." if module else ""
            found += [(f"{module}{dot}{alias.name}", node.level) for alias in node.names]
    return sorted(set(found))
