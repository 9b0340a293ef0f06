"""A script's imports from joblib, turned into imports from jobspan."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from typing import TypeVar

__all__ = ["from_jobspan"]

Tree = TypeVar("Tree", bound=ast.AST)


def from_jobspan(tree: Tree) -> Tree:
    """Turn imports from joblib into the same from jobspan, where it has the names.

    What it has not, such as joblib's own helpers, is still imported from joblib.

    Parameters
    ----------
    tree : ast.AST
        A script; it is changed.

    Examples
    --------
    >>> script = "import joblib; from joblib.parallel import Parallel, AutoBatchingMixin"
    >>> print(ast.unparse(from_jobspan(ast.parse(script))))
    import jobspan as joblib
    from jobspan import Parallel
    from joblib.parallel import AutoBatchingMixin
    """
    return ast.fix_missing_locations(_FromJobspan().visit(tree))  # type: ignore[no-any-return]


class _FromJobspan(ast.NodeTransformer):
    """Visits a script's imports."""

    def visit_Import(self, node: ast.Import) -> ast.Import:
        """Turn ``import joblib`` into ``import jobspan as joblib``, and modules of it as well."""
        for alias in node.names:
            ours = _module(alias.name)
            if ours is None:
                continue
            if alias.asname is None:
                # jobspan loads its modules when they are asked for.
                alias.name, alias.asname = "jobspan", "joblib"
            else:
                alias.name = ours
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | list[ast.stmt]:
        """Turn ``from joblib import ...`` into the same from jobspan, name by name."""
        if node.level or node.module is None or node.module.split(".")[0] != "joblib":
            return node
        by_home: dict[str, list[ast.alias]] = {}
        for alias in node.names:
            by_home.setdefault(_home(node.module, alias.name), []).append(alias)
        return [
            ast.copy_location(ast.ImportFrom(home, names, 0), node)
            for home, names in by_home.items()
        ]


def _module(name: str) -> str | None:
    """Return jobspan's counterpart of a module of joblib, None where there is none."""
    root, _, rest = name.partition(".")
    if root != "joblib":
        return None
    import jobspan

    if rest and rest not in jobspan.JOBLIB_MODULES:
        return None
    return f"jobspan.{rest}" if rest else "jobspan"


def _home(module: str, name: str) -> str:
    """Return from where a name is imported that a script imports from a module of joblib."""
    import jobspan

    of_package = name == "*" or name in jobspan.JOBLIB_MODULES
    if name in jobspan.__all__ or (module == "joblib" and of_package):
        return "jobspan"
    ours = _module(module)
    if ours is not None and ours != "jobspan" and hasattr(importlib.import_module(ours), name):
        return ours
    return module
