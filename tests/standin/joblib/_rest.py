"""What jobspan has no counterpart of, taken from the joblib that is installed, where it may be."""

import importlib
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

HERE = Path(__file__).parent
ITSELF = "joblib_itself"


def folders() -> list[str]:
    """Return where the rest of the package is."""
    if os.environ.get("STAND_IN_REST") != "1":
        return []
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != HERE.parent]
    found = PathFinder.find_spec("joblib", elsewhere)
    return [] if found is None else list(found.submodule_search_locations or ())


def itself(module: str):
    """Return a module of the installed joblib, which goes by another name beside the stand-in."""
    if ITSELF not in sys.modules:
        where = folders()
        spec = importlib.util.spec_from_file_location(
            ITSELF, Path(where[0], "__init__.py"), submodule_search_locations=where
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[ITSELF] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[ITSELF])
    return importlib.import_module(f"{ITSELF}.{module}")


def rest_of(module: str):
    """Return the ``__getattr__`` of a module: names that it has not are the installed joblib's."""

    def found(name: str):
        if name.startswith("__") or not folders():
            raise AttributeError(f"module 'joblib.{module}' has no attribute {name!r}")
        return getattr(itself(module), name)

    return found
