"""Syntax trees as text: the same on every Python, without what cannot change behaviour.

Left out are docstrings and whatever the tree does not hold (comments, formatting, positions).
Variables of a function get numbers for names, so that renaming one changes nothing; what can be
seen from outside keeps its name: parameters, nested functions and classes, imports, attributes. A
function that looks at its variables by name (``locals``, ``eval``) keeps them all.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["dump"]

_LEFT_OUT = {"type_comment", "kind", "ctx", "type_ignores", "type_params"}
_LOOKS_AT_NAMES = {"locals", "vars", "eval", "exec", "dir", "_getframe", "currentframe"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def dump(node: ast.AST) -> str:
    """Return a syntax tree as text.

    Parameters
    ----------
    node : AST
        A function, whose own name and decorators are left out, a class, or a module.
    """
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    dumper = _Dumper(renames=not names & _LOOKS_AT_NAMES)
    dumper.root(node)
    return "".join(dumper.parts)


@dataclass(slots=True)
class _Scope:
    """The names that a function, class or comprehension binds."""

    renamed: dict[str, str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    module_wide: set[str] = field(default_factory=set)
    is_class: bool = False


class _Dumper:
    """Writes a tree; knows the scopes around the node that it is at."""

    def __init__(self, *, renames: bool) -> None:
        self.parts: list[str] = []
        self._renames = renames
        self._scopes: list[_Scope] = []
        self._count = 0

    def root(self, node: ast.AST) -> None:
        """Write the tree that is asked for."""
        if isinstance(node, _FUNCTIONS):
            self._function(node, own=True)
        else:
            self._any(node)

    def _any(self, node: Any) -> None:
        if isinstance(node, _FUNCTIONS):
            self._function(node, own=False)
        elif isinstance(node, ast.ClassDef):
            self._class(node)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node)
        elif isinstance(node, ast.JoinedStr):
            self._joined(node)
        elif isinstance(node, ast.AST):
            self._fields(node)
        elif isinstance(node, list):
            self._list(node)
        else:
            self.parts.append(f"{type(node).__name__}:{node!a}")

    def _joined(self, node: ast.JoinedStr) -> None:
        """Write an f-string; how its text is split into pieces changes with Python."""
        pieces: list[Any] = []
        for piece in node.values:
            text = str(piece.value) if isinstance(piece, ast.Constant) else None
            if text is None:
                pieces.append(piece)
            elif pieces and isinstance(pieces[-1], str):
                pieces[-1] += text
            elif text:
                pieces.append(text)
        self.parts.append("JoinedStr(")
        self._list(pieces)
        self.parts.append(")")

    def _list(self, nodes: list[Any]) -> None:
        self.parts.append("[")
        for node in nodes:
            self._any(node)
            self.parts.append(",")
        self.parts.append("]")

    def _fields(self, node: ast.AST, without: frozenset[str] = frozenset()) -> None:
        self.parts.append(type(node).__name__ + "(")
        for name, value in sorted(ast.iter_fields(node), key=lambda item: item[0]):
            if name in _LEFT_OUT or name in without or value == []:
                continue
            if value is None and not isinstance(node, ast.Constant):
                continue
            self.parts.append(name + "=")
            if name == "body" and isinstance(node, ast.Module):
                self._list(_without_docstring(value))
            else:
                self._any(self._named(node, name, value))
            self.parts.append(",")
        self.parts.append(")")

    def _named(self, node: ast.AST, name: str, value: Any) -> Any:
        """Return a field's value, with the number of a variable for its name."""
        if isinstance(value, str) and (name, type(node)) in _VARIABLES:
            return self._resolved(value)
        if isinstance(node, ast.Nonlocal):
            return [self._resolved(each) for each in value]
        return value

    def _resolved(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if scope.is_class and scope is not self._scopes[-1]:
                continue
            if name in scope.renamed:
                if not scope.renamed[name]:
                    scope.renamed[name] = f"·{self._count}"
                    self._count += 1
                return scope.renamed[name]
            if name in scope.kept or name in scope.module_wide:
                return name
        return name

    def _function(self, node: _Function, *, own: bool) -> None:
        self.parts.append(type(node).__name__ + "(")
        if not own and not isinstance(node, ast.Lambda):
            self.parts.append(f"name={node.name},")
            self._list(node.decorator_list)
        # Defaults and annotations are evaluated outside.
        self._fields(node.args)
        if not isinstance(node, ast.Lambda) and node.returns is not None:
            self.parts.append("returns=")
            self._any(node.returns)
        body = [node.body] if isinstance(node, ast.Lambda) else _without_docstring(node.body)
        self._scopes.append(self._scope_of(body, _Scope(kept=_parameters(node))))
        self.parts.append(",body=")
        self._list(body)
        self._scopes.pop()
        self.parts.append(")")

    def _class(self, node: ast.ClassDef) -> None:
        self.parts.append(f"ClassDef(name={node.name},")
        for outside in (node.decorator_list, node.bases, node.keywords):
            self._list(outside)
        self._scopes.append(self._scope_of(node.body, _Scope(is_class=True)))
        self._list(_without_docstring(node.body))
        self._scopes.pop()
        self.parts.append(")")

    def _comprehension(self, node: _Comprehension) -> None:
        first = node.generators[0]
        self.parts.append(type(node).__name__ + "(first=")
        self._any(first.iter)  # evaluated outside
        scope = _Scope()
        for generator in node.generators:
            for target in ast.walk(generator.target):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    if self._renames:
                        scope.renamed[target.id] = ""
                    else:
                        scope.kept.add(target.id)
        self._scopes.append(scope)
        self._fields(first, without=frozenset({"iter"}))
        self._list(node.generators[1:])
        self._fields(node, without=frozenset({"generators"}))
        self._scopes.pop()
        self.parts.append(")")

    def _scope_of(self, body: list[Any], scope: _Scope) -> _Scope:
        """Fill a scope with what code binds."""
        variables = set()
        for name, binding in _bound(body):
            if binding is _Binding.MODULE_WIDE:
                scope.module_wide.add(name)
            elif binding is _Binding.OUTSIDE:
                scope.outside.add(name)
            elif binding is _Binding.SEEN or scope.is_class or not self._renames:
                scope.kept.add(name)
            else:
                variables.add(name)
        elsewhere = scope.outside | scope.module_wide
        scope.renamed = dict.fromkeys(variables - scope.kept - elsewhere, "")
        scope.kept -= elsewhere
        return scope


def _parameters(node: _Function) -> set[str]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return {each.arg for each in every}


_VARIABLES = {
    ("id", ast.Name),
    ("name", ast.ExceptHandler),
    ("name", ast.MatchAs),
    ("name", ast.MatchStar),
    ("rest", ast.MatchMapping),
}
"""Fields that hold the name of a variable."""


class _Binding(Enum):
    """How code binds a name."""

    VARIABLE = "variable"
    SEEN = "seen from outside"
    OUTSIDE = "declared to be a function's around it"
    MODULE_WIDE = "declared to be the module's"


def _bound(nodes: list[Any]) -> Iterator[tuple[str, _Binding]]:
    """Yield the names that code binds in its own scope."""
    for node in nodes:
        if isinstance(node, ast.Global):
            yield from ((name, _Binding.MODULE_WIDE) for name in node.names)
        elif isinstance(node, ast.Nonlocal):
            yield from ((name, _Binding.OUTSIDE) for name in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, _Binding.SEEN
            yield from _bound(node.decorator_list)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], _Binding.SEEN
        elif isinstance(node, _COMPREHENSIONS):
            # Only what `:=` binds in it is the function's.
            for inner in ast.walk(node):
                if isinstance(inner, ast.NamedExpr) and isinstance(inner.target, ast.Name):
                    yield inner.target.id, _Binding.VARIABLE
        elif isinstance(node, ast.Lambda):
            continue
        else:
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                yield node.id, _Binding.VARIABLE
            for name in ("name", "rest"):
                value = getattr(node, name, None)
                if isinstance(value, str) and (name, type(node)) in _VARIABLES:
                    yield value, _Binding.VARIABLE
            yield from _bound(list(ast.iter_child_nodes(node)))


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body
