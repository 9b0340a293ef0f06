"""Bridges: the ambient settings of other libraries, kept in step with ours.

A library that has parallel calls of its own, as joblib has, is served by a bridge: while settings
of ours hold in a thread, its calls in that thread run where ours would. A bridge is loaded once
its library is there, imported before or while settings hold; nothing here imports the library.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from jobspan.ambient import Settings
from jobspan.registry import Registry

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["BRIDGES", "Bridge", "Crossing", "begin"]


class Bridge(Protocol):
    """What keeps one library in step."""

    def cross(self, settings: Settings) -> Callable[[], None]:
        """Let `settings` hold for the library in this thread; return what undoes it."""
        ...

    def serve_other_threads(self) -> Callable[[], None]:
        """Serve threads in which settings held before the library was there; return the undoing."""
        ...


BRIDGES: Registry[Bridge] = Registry("bridge")
"""Every bridge, by the name of the module that it is for."""

BRIDGES.register("joblib", "jobspan.integrations.crossing:bridge")


class Crossing:
    """A block or a batch in which settings hold, in one thread.

    Parameters
    ----------
    settings : Settings
        What holds.
    """

    __slots__ = ("_stack", "_undo", "settings")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = _here.crossings
        self._undo: dict[str, Callable[[], None]] = {}
        self._stack.append(self)
        _watch.enter()
        for name in BRIDGES:
            if name in sys.modules and name not in _watch.loading:
                self.cross(name)

    def cross(self, name: str) -> None:
        """Let the settings hold for a library that is there now."""
        if name not in self._undo:
            self._undo[name] = BRIDGES.load(name).cross(self.settings)

    def end(self) -> None:
        """Put everything back; a second call does nothing."""
        if self not in self._stack:
            return
        self._stack.remove(self)
        try:
            for undo in self._undo.values():
                undo()
        finally:
            _watch.leave()


class _Here(threading.local):
    """The crossings of this thread, the innermost one last."""

    def __init__(self) -> None:
        self.crossings: list[Crossing] = []


_here = _Here()


def begin(settings: Settings) -> Crossing | None:
    """Let `settings` hold for other libraries in this thread, where they name a backend.

    Returns
    -------
    Crossing or None
        What to end; None where there is nothing to bridge.
    """
    if settings.backend is None or not settings.bridge:
        return None
    return Crossing(settings)


class _Watch:
    """Notices the import of a library that has a bridge, while crossings last in any thread.

    It stands in ``sys.meta_path`` only for as long, finds nothing itself, and leaves no trace in
    the module that it saw.
    """

    def __init__(self) -> None:
        self.loading: set[str] = set()
        self._lock = threading.Lock()
        self._open = 0
        self._undo: list[Callable[[], None]] = []

    def enter(self) -> None:
        with self._lock:
            self._open += 1
            if self._open == 1:
                sys.meta_path.insert(0, self)

    def leave(self) -> None:
        with self._lock:
            self._open -= 1
            if self._open:
                return
            sys.meta_path.remove(self)
            undoing, self._undo = self._undo, []
            for undo in undoing:
                undo()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in BRIDGES:
            return None
        for finder in list(sys.meta_path):
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Announcing(spec.loader, self))
                return spec
        return None

    def imported(self, name: str) -> None:
        """Serve a library that is there from now on."""
        bridge = BRIDGES.load(name)
        with self._lock:
            if not self._open:
                return
            # A thread in which settings hold already is told nothing of an import elsewhere.
            self._undo.append(bridge.serve_other_threads())
        for crossing in _here.crossings:
            crossing.cross(name)


class _Announcing:
    """Loads a module as its own loader does, and tells when that is done."""

    def __init__(self, loader: Any, watch: _Watch) -> None:
        self._loader = loader
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__loader__ = self._loader
        assert module.__spec__ is not None
        module.__spec__.loader = self._loader
        self._watch.loading.add(name)
        try:
            self._loader.exec_module(module)
        finally:
            self._watch.loading.discard(name)
        self._watch.imported(name)


_watch = _Watch()
