"""Read ``pre_dispatch=``: arithmetic on the number of jobs."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

__all__ = ["evaluate"]

LONGEST = 100
"""No expression is longer, in characters: one nested deeply would end the interpreter."""

LARGEST = 1_000_000
"""No power is raised that is larger: one with many digits takes for ever."""


def _power(base: float, exponent: float) -> Any:
    if exponent > 0 and abs(base) > 1 and exponent * math.log(abs(base)) > math.log(LARGEST):
        raise OverflowError(f"{base} ** {exponent} is too large")
    return base**exponent


_OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def evaluate(text: str, n_jobs: int) -> float:
    """Return the value of an expression of numbers, ``n_jobs`` and arithmetic; nothing else.

    Raises
    ------
    ValueError, SyntaxError, ZeroDivisionError
        If it is no such expression.

    Examples
    --------
    >>> evaluate("2 * (n_jobs + 1)", n_jobs=4)
    10
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST} characters")
    return _value(ast.parse(text.strip(), mode="eval").body, n_jobs)


def _value(node: ast.expr, n_jobs: int) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return cast("float", node.value)
    if isinstance(node, ast.Name) and node.id == "n_jobs":
        return n_jobs
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, n_jobs), _value(node.right, n_jobs)
        return cast("float", _OPERATORS[type(node.op)](left, right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return cast("float", _OPERATORS[type(node.op)](_value(node.operand, n_jobs)))
    raise ValueError(f"not arithmetic on n_jobs: {ast.unparse(node)}")
