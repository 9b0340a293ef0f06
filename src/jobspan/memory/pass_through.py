"""What ``Memory(None)`` makes of functions: the same methods, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, cast

from jobspan.memory.result import NotMemorizedResult
from jobspan.memory.wrapping import Bound, global_name, look_like

__all__ = ["AsyncNotMemorizedFunc", "NotMemorizedFunc"]

P = ParamSpec("P")
R = TypeVar("R")


class NotMemorizedFunc(Generic[P, R]):
    """A function with the methods of a cached one, for there is no store.

    Parameters
    ----------
    func : callable
        The function.
    """

    def __init__(self, func: Callable[P, R]) -> None:
        self.func = func
        look_like(self, func)

    @property
    def __jobspan_function__(self) -> Callable[P, R]:
        return self.func

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.func(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else Bound(self, instance)

    def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> NotMemorizedResult:
        """Call the function and return a reference to its result, kept in memory."""
        return NotMemorizedResult(self.func(*args, **kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> tuple[R, dict[str, Any]]:
        """Call the function; return its result and no metadata."""
        return self.func(*args, **kwargs), {}

    def check_call_in_cache(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return False: nothing is stored."""
        return False

    def clear(self, warn: bool = True) -> None:
        """Do nothing: nothing is stored."""

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Return False: nothing is stored."""
        return False

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Say that nothing is stored."""
        return "nothing is stored: the memory has no location"

    def __repr__(self) -> str:
        return f"{type(self).__name__}(func={self.func})"

    def __reduce__(self) -> tuple[Any, ...] | str:
        return global_name(self) or (type(self), (self.func,))


class AsyncNotMemorizedFunc(NotMemorizedFunc[P, R]):
    """The same for a coroutine function."""

    async def call_and_shelve(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Await the function and return a reference to its result, kept in memory."""
        return NotMemorizedResult(
            await cast("Coroutine[Any, Any, Any]", self.func(*args, **kwargs))
        )

    async def call(self, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]
        """Await the function; return its result and no metadata."""
        return await cast("Coroutine[Any, Any, Any]", self.func(*args, **kwargs)), {}
