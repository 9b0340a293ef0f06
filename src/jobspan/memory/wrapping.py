"""What stands for a function in its module and in its class: its name, its methods, its pickle."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Sequence
from operator import attrgetter
from types import MethodType
from typing import Any

from jobspan.calls import Missed, Recallable, Recalled

__all__ = ["Bound", "Unlooked", "global_name", "look_like"]


class Bound:
    """A cached method of one object: every method of the cached function, the object put first.

    Parameters
    ----------
    function : MemorizedFunc or NotMemorizedFunc
        What the class has.
    instance : object
        The object.
    """

    __slots__ = ("_function", "_instance")

    def __init__(self, function: Any, instance: Any) -> None:
        self._function = function
        self._instance = instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self._function(self._instance, *args, **kwargs)

    @property
    def __jobspan_function__(self) -> MethodType:
        return MethodType(self._function.__jobspan_function__, self._instance)

    def recall_many(
        self, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]
    ) -> list[Recalled | Missed | None]:
        """Look up the results of many calls at once; None: that is for the call to find out."""
        if not isinstance(self._function, Recallable):
            return [None] * len(calls)
        answers = self._function.recall_many(
            [((self._instance, *args), kwargs) for args, kwargs in calls]
        )
        missed: dict[int, Missed] = {}  # one for all calls: what they have in common travels once
        for index, answer in enumerate(answers):
            if isinstance(answer, Missed):
                function = answer.function
                if id(function) not in missed:
                    missed[id(function)] = Missed(Bound(function, self._instance))
                answers[index] = missed[id(function)]
        return answers

    def stored_only_here(self) -> str | None:
        """Return where results are stored if other machines do not see that place, else None."""
        function = self._function
        return function.stored_only_here() if isinstance(function, Recallable) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        value = getattr(self._function, name)
        if name in _WITH_ARGUMENTS:
            return functools.partial(value, self._instance)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._function, self._instance)

    def __repr__(self) -> str:
        return f"<bound {self._function!r} of {self._instance!r}>"


class Unlooked:
    """A cached function for calls whose results are known not to be stored.

    It claims the key without a look at what is there: should there be something by now, the claim
    is refused.

    Parameters
    ----------
    function : MemorizedFunc
        The cached function.
    """

    __slots__ = ("__weakref__", "_function")

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and store what it returns, unless that is stored meanwhile."""
        return self._function.call_unlooked(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__qualname__", "__module__"):
            raise AttributeError(name)
        return getattr(self._function, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._function,)

    def __repr__(self) -> str:
        return repr(self._function)


_WITH_ARGUMENTS = frozenset(
    ("call", "call_and_shelve", "check_call_in_cache", "explain", "invalidate")
)


def look_like(wrapper: Any, func: Any) -> None:
    """Give a wrapper the name and the documentation of a function."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        if hasattr(func, name):
            setattr(wrapper, name, getattr(func, name))
    if not inspect.isclass(func):
        wrapper.__wrapped__ = func


def global_name(wrapper: Any) -> str | None:
    """Return the name under which a wrapper stands in a module that others can import, too.

    A decorated function is found where its module says the plain one is, so that pickle cannot
    take the plain one; it takes the decorated one by name, as it takes functions.
    """
    module, name = getattr(wrapper, "__module__", None), getattr(wrapper, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None and module in cloudpickle.list_registry_pickle_by_value():
        return None
    try:
        found = attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
    return name if found is wrapper else None
