"""What is being imported just now: modules whose import has called us, and waits for what we do."""

from __future__ import annotations

import sys
from types import FrameType, ModuleType

__all__ = ["modules_being_imported"]


def modules_being_imported() -> dict[str, ModuleType]:
    """Return the modules whose import has called us, by name; the script is none."""
    found: dict[str, ModuleType] = {}
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = frame.f_globals.get("__name__")
            module = sys.modules.get(name) if isinstance(name, str) else None
            if module is not None and name != "__main__" and vars(module) is frame.f_globals:
                found[module.__name__] = module
        frame = frame.f_back
    return found
