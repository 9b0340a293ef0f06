"""Whose code a module is: the interpreter's, an installed distribution's, or the user's own."""

from __future__ import annotations

import os
from functools import lru_cache

__all__ = ["is_installed"]


def is_installed(name: str, file: str) -> bool:
    """Whether a module belongs to the interpreter or to an installed distribution.

    Parameters
    ----------
    name : str
        The module's full name.
    file : str
        Where it was loaded from.

    Returns
    -------
    bool
        True in the interpreter's folders and in any ``site-packages``; elsewhere, in a folder on
        ``PYTHONPATH`` say, where a distribution that was installed there lists the package as
        its own, as ``pip install --target`` leaves it. What is installed in editable form is
        the user's own.

    Examples
    --------
    >>> import json
    >>> is_installed("json", json.__file__)
    True
    """
    if _in_known_folder(file):
        return True
    levels = name.count(".") + (os.path.basename(file).partition(".")[0] == "__init__")
    folder = os.path.dirname(file)
    for _ in range(levels):
        folder = os.path.dirname(folder)
    try:
        changed = os.stat(folder).st_mtime_ns
        return name.partition(".")[0] in _distributed(folder, changed)
    except OSError:
        return False  # out of an archive, or gone


@lru_cache(maxsize=4096)
def _in_known_folder(file: str) -> bool:
    parts = file.split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts or file.startswith(_known_folders())


@lru_cache(maxsize=1)
def _known_folders() -> tuple[str, ...]:
    import sysconfig  # a script of a few calls has no use for it

    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths.add(os.path.dirname(os.path.abspath(__file__)))
    return tuple(path + os.sep for path in paths)


@lru_cache(maxsize=64)
def _distributed(folder: str, _changed: int) -> frozenset[str]:
    """Return the top-level modules that distributions installed in a folder list as theirs."""
    found = [name for name in os.listdir(folder) if name.endswith(".dist-info")]
    if not found:
        return frozenset()
    from importlib import metadata  # takes long to import
    from pathlib import Path

    names: set[str] = set()
    for name in found:
        distribution = metadata.Distribution.at(Path(folder, name))
        listed = distribution.read_text("RECORD") or distribution.read_text("top_level.txt")
        for line in (listed or name.partition("-")[0]).splitlines():
            first = line.strip('"').partition("/")[0].partition(",")[0]
            names.add(first.partition(".")[0])
    return frozenset(names)
