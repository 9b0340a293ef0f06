"""Where code comes from: the user's own, the interpreter's, an installed package of a version."""

from __future__ import annotations

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from types import FunctionType

from jobspan.installed import is_installed

__all__ = ["find_source", "home", "is_users", "known_as", "version_of"]


def home(function: FunctionType) -> str | None:
    """Return the module whose code a function is; ``functools.wraps`` does not change it."""
    name = function.__globals__.get("__name__")
    return name if isinstance(name, str) else None


def known_as(module: str) -> str:
    """Return what a module is called in keys: a script's name is another one in multiprocessing."""
    return "__main__" if module == "__mp_main__" else module


@lru_cache(maxsize=4096)
def is_users(module: str | None) -> bool:
    """Whether a module is the user's own: neither the interpreter's nor of a distribution."""
    if module is None or module in ("__main__", "__mp_main__"):
        return True
    top = module.partition(".")[0]
    if top == "jobspan" or top in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(module) or sys.modules.get(top)
    file = getattr(loaded, "__file__", None)
    if file is None and loaded is None:
        found = find_source(module)
        file = None if found is None else str(found)
        if file is None and _spec(top) is not None:
            return False  # an extension module, or one out of an archive
    if file is None:
        return True
    return not is_installed(module if loaded is None else loaded.__name__, file)


def _spec(top: str) -> object | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def find_source(module: str) -> Path | None:
    """Return the source file of a module, found without importing anything."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is not None:
        return Path(file) if file.endswith(".py") else None
    top, *rest = module.split(".")
    spec = _spec(top)
    places = [Path(place) for place in getattr(spec, "submodule_search_locations", None) or ()]
    if not rest:
        origin = getattr(spec, "origin", None)
        return Path(origin) if origin and origin.endswith(".py") else None
    for place in places:
        path = place.joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@lru_cache(maxsize=1024)
def version_of(module: str | None) -> str:
    """Return the version of the distribution that a module belongs to; "" for the interpreter's."""
    top = (module or "").partition(".")[0]
    if not top or top in sys.stdlib_module_names or top == "__main__":
        return ""
    from importlib import metadata  # takes longer to import than the rest of keys

    try:
        return metadata.version(top)
    except (metadata.PackageNotFoundError, ValueError):
        pass  # the distribution has another name than its package
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return version
    for distribution in metadata.packages_distributions().get(top, ()):
        return metadata.version(distribution)
    return ""
