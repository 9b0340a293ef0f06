"""What joblib's users know and jobspan itself needs not: the wrapper that pickles by value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["wrap_non_picklable_objects"]


class _Wrapper:
    """Holds an object and pickles it by value."""

    def __init__(self, wrapped: Any, keep_wrapper: bool) -> None:
        self._obj = wrapped
        self._keep_wrapper = keep_wrapper

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        import cloudpickle

        return _unwrapped, (cloudpickle.dumps(self._obj), self._keep_wrapper)

    def __getattr__(self, name: str) -> Any:
        if name in ("_obj", "_keep_wrapper"):
            raise AttributeError(name)
        return getattr(self._obj, name)


class _CallableWrapper(_Wrapper):
    """The same for what can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj(*args, **kwargs)


def _wrapped(obj: Any, keep_wrapper: bool) -> _Wrapper:
    return (_CallableWrapper if callable(obj) else _Wrapper)(obj, keep_wrapper)


def _unwrapped(pickled: bytes, keep_wrapper: bool) -> Any:
    import cloudpickle

    obj = cloudpickle.loads(pickled)
    return _wrapped(obj, keep_wrapper) if keep_wrapper else obj


def wrap_non_picklable_objects(obj: Any, keep_wrapper: bool = True) -> Any:
    """Wrap an object, or a class whose instances are to be wrapped, so that pickle can take it.

    jobspan's workers need no such wrapper; other users of pickle may.

    Parameters
    ----------
    obj : object or class
        What is pickled by value.
    keep_wrapper : bool
        Whether what is unpickled is wrapped again.

    Examples
    --------
    >>> import pickle
    >>> pickle.loads(pickle.dumps(wrap_non_picklable_objects(lambda x: x + 1)))(1)
    2
    """
    if not inspect.isclass(obj):
        return _wrapped(obj, keep_wrapper)

    base = _CallableWrapper if "__call__" in dir(obj) else _Wrapper

    class WrappedClass(base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(obj(*args, **kwargs), keep_wrapper)

    WrappedClass.__name__ = obj.__name__
    return WrappedClass
