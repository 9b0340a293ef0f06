"""``parallel_config``, ``parallel_backend``: the settings for all ``Parallel`` calls in a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any

from jobspan.ambient import Default, current, replace_current
from jobspan.backends.choosing import make_backend
from jobspan.bridging import Crossing, begin
from jobspan.executors import Backend
from jobspan.parallel.arguments import (
    read_bytes,
    read_choice,
    read_n_jobs,
    read_on_error,
    read_propagate,
    read_retries,
    read_seconds,
    read_verbose,
    read_whole,
)
from jobspan.scheduling.retrying import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DEFAULTS",
    "check_values",
    "meant_by",
    "parallel_backend",
    "parallel_config",
    "refusing_options",
]

DEFAULTS: dict[str, Default[Any]] = {
    "backend": Default(None),
    "n_jobs": Default(None),
    "verbose": Default(0),
    "temp_folder": Default(None),
    "max_nbytes": Default("1M"),
    "mmap_mode": Default("r"),
    "prefer": Default(None),
    "require": Default(None),
    "inner_max_num_threads": Default(None),
    "progress": Default(None),
    "on_error": Default("raise"),
    "retries": Default(None),
    "task_timeout": Default(None),
    "initializer": Default(None),
    "initargs": Default(()),
    "max_pending": Default(None),
    "propagate": Default(()),
    "report": Default(None),
}
"""What holds where neither an argument nor a context says otherwise."""

_PREFER = ("processes", "threads", None)
_REQUIRE = ("sharedmem", None)
_MMAP_MODES = (None, "r", "r+", "w+", "c")


def check_values(values: dict[str, Any]) -> None:
    """Refuse settings that cannot be meant, before any worker starts."""
    if "prefer" in values:
        read_choice("prefer", values["prefer"], _PREFER)
    if "require" in values:
        read_choice("require", values["require"], _REQUIRE)
    if values.get("prefer") == "processes" and values.get("require") == "sharedmem":
        raise ValueError(
            "prefer == 'processes' and require == 'sharedmem' are inconsistent settings"
        )
    if values.get("n_jobs") is not None:
        read_n_jobs(values["n_jobs"])
    if "verbose" in values:
        read_verbose(values["verbose"])
    folder = values.get("temp_folder")
    if folder is not None and not isinstance(folder, str | PathLike):
        raise TypeError(f"temp_folder={folder!r}: pass the path of a folder, or None")
    if "max_nbytes" in values:
        read_bytes("max_nbytes", values["max_nbytes"])
    if values.get("mmap_mode", "r") not in _MMAP_MODES:
        raise ValueError(f"mmap_mode={values['mmap_mode']!r}: pass one of {_MMAP_MODES}")
    if "on_error" in values:
        read_on_error(values["on_error"])
    if "retries" in values:
        read_retries(values["retries"])
    if "task_timeout" in values:
        read_seconds("task_timeout", values["task_timeout"])
    if "propagate" in values:
        read_propagate(values["propagate"])
    for name in ("max_pending", "inner_max_num_threads"):
        read_whole(name, values.get(name))
    progress = values.get("progress")
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise ValueError(f"progress={progress!r}: pass True, False or a callable for events")
    report = values.get("report")
    if report == "" or not (report is None or isinstance(report, str | PathLike)):
        raise TypeError(f"report={report!r}: pass the path of a file to write, such as 'run.html'")
    initializer = values.get("initializer")
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer={initializer!r} is not callable; pass a function, or None")
    initargs = values.get("initargs", ())
    if not isinstance(initargs, tuple | list):
        raise TypeError(f"initargs={initargs!r}: pass the initializer's arguments as a tuple")


def meant_by(options: Iterable[str], taker: Any) -> str:
    """Return a hint at the argument of `taker` that is spelt nearly like one of `options`."""
    import difflib
    import inspect

    taken = inspect.signature(taker).parameters.values()
    names = [each.name for each in taken if each.kind is not each.VAR_KEYWORD]
    for option in options:
        for close in difflib.get_close_matches(option, names, n=1, cutoff=0.75):
            return f". Did you mean {close}=?"
    return ""


@contextmanager
def refusing_options(options: Iterable[str], taker: Any) -> Iterator[None]:
    """Where a backend does not take `options`, say which argument of `taker` was meant."""
    try:
        yield
    except TypeError as error:
        hint = meant_by(options, taker)
        if not hint:
            raise
        raise TypeError(f"{error}{hint}") from error


class parallel_config:  # noqa: N801 - joblib's name
    """Set the backend and other settings for every ``Parallel`` call in a ``with`` block.

    The settings hold from the moment the object is made, as in joblib, until the block ends or
    `unregister` is called.

    Parameters
    ----------
    backend : str, Backend or class, optional
        As for `Parallel`. One that is made for the block is closed with it.
    n_jobs, verbose : int, optional
        As for `Parallel`.
    temp_folder : str, optional
        Where large data goes when shared memory is short.
    max_nbytes : int, str or None, optional
        Arrays and buffers of at least so many bytes are shared with workers instead of sent;
        ``"1M"`` where it is not given; None: never.
    mmap_mode : {"r", "c", "r+", "w+", None}, optional
        How shared arrays arrive: read-only, or as private writable copies with ``"c"``.
    prefer : {"processes", "threads", None}, optional
        A hint for calls that name no backend.
    require : {"sharedmem", None}, optional
        Only a backend whose calls share the caller's memory will do.
    inner_max_num_threads : int, optional
        Threads that BLAS and OpenMP may use in a worker.
    progress : bool or callable, optional
        True draws a progress bar; a callable is given typed events.
    on_error : {"raise", "return", "skip"}, optional
        What becomes of a call that fails: it ends all, leaves a ``TaskFailure``, or is left out.
    retries : int or RetryPolicy, optional
        How often a failed call is tried again.
    task_timeout : float, optional
        Seconds that one call may run.
    initializer : callable, optional
        Runs once in every worker before its first call.
    initargs : tuple, optional
        Its arguments.
    max_pending : int, optional
        How many results may wait for a consumer of a generator.
    propagate : iterable of ContextVar, optional
        Context variables whose values hold in the workers.
    report : str or PathLike, optional
        The file that a page about each call is written to when it ends: a timeline of the batches,
        a utilisation curve, the slowest calls. Calls nested in others write none.
    bridge : bool, optional
        Whether joblib's own calls in the block, scikit-learn's say, run on the backend as well.
    **backend_params
        Further options of the backend, where it is given by name, address or class.

    Examples
    --------
    >>> from jobspan import Parallel, delayed, parallel_config
    >>> with parallel_config(backend="threads", n_jobs=2):
    ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    def __init__(
        self,
        backend: Any = DEFAULTS["backend"],
        *,
        n_jobs: int | Default[Any] | None = DEFAULTS["n_jobs"],
        verbose: int | Default[Any] = DEFAULTS["verbose"],
        temp_folder: str | Default[Any] | None = DEFAULTS["temp_folder"],
        max_nbytes: int | str | Default[Any] | None = DEFAULTS["max_nbytes"],
        mmap_mode: str | Default[Any] | None = DEFAULTS["mmap_mode"],
        prefer: str | Default[Any] | None = DEFAULTS["prefer"],
        require: str | Default[Any] | None = DEFAULTS["require"],
        inner_max_num_threads: int | None = None,
        progress: bool | Callable[[Any], object] | Default[Any] | None = DEFAULTS["progress"],
        on_error: str | Default[Any] = DEFAULTS["on_error"],
        retries: int | RetryPolicy | Default[Any] | None = DEFAULTS["retries"],
        task_timeout: float | Default[Any] | None = DEFAULTS["task_timeout"],
        initializer: Callable[..., object] | Default[Any] | None = DEFAULTS["initializer"],
        initargs: tuple[Any, ...] | Default[Any] = DEFAULTS["initargs"],
        max_pending: int | Default[Any] | None = DEFAULTS["max_pending"],
        propagate: Iterable[ContextVar[Any]] | Default[Any] = DEFAULTS["propagate"],
        report: str | PathLike[str] | Default[Any] | None = DEFAULTS["report"],
        bridge: bool | None = None,
        **backend_params: Any,
    ) -> None:
        before = current()
        given = {
            "n_jobs": n_jobs,
            "verbose": verbose,
            "temp_folder": temp_folder,
            "max_nbytes": max_nbytes,
            "mmap_mode": mmap_mode,
            "prefer": prefer,
            "require": require,
            "progress": progress,
            "on_error": on_error,
            "retries": retries,
            "task_timeout": task_timeout,
            "initializer": initializer,
            "initargs": initargs,
            "max_pending": max_pending,
            "propagate": propagate,
            "report": report,
        }
        values = {name: value for name, value in given.items() if not isinstance(value, Default)}
        if inner_max_num_threads is not None:
            values["inner_max_num_threads"] = inner_max_num_threads
        check_values(values)
        if not (bridge is None or isinstance(bridge, bool)):
            raise TypeError(f"bridge={bridge!r}: pass True, False, or None for what holds already")
        if backend is None or isinstance(backend, Default):
            if inner_max_num_threads is not None or backend_params:
                given = {"inner_max_num_threads": inner_max_num_threads, **backend_params}
                shown = ", ".join(
                    f"{name}={value}" if isinstance(value, int) else name  # others may be secret
                    for name, value in given.items()
                    if value is not None
                )
                raise ValueError(
                    "inner_max_num_threads and other constructor parameters backend_params are "
                    f"only supported when backend is not None. Got {shown}"
                    f"{meant_by(backend_params, parallel_config) or ': pass backend= as well'}"
                )
            made = before.backend
            self._owned: Backend | None = None
        else:
            with refusing_options(backend_params, parallel_config):
                made = make_backend(backend, backend_params)
            self._owned = made if made is not backend else None
        self.old_parallel_config = before
        self.settings = replace(
            before,
            backend=made,
            values={**before.values, **values},
            bridge=before.bridge if bridge is None else bridge,
        )
        replace_current(self.settings)
        self._crossing: Crossing | None = begin(self.settings)

    @property
    def parallel_config(self) -> dict[str, Any]:
        """The settings by name, as joblib has them."""
        known = {name: default.value for name, default in DEFAULTS.items()}
        return {**known, **self.settings.values, "backend": self.settings.backend}

    def __enter__(self) -> Any:
        return self.parallel_config

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unregister()

    def unregister(self) -> None:
        """Let the settings from before hold again, and close the backend made for these."""
        if self._crossing is not None:
            self._crossing.end()
        replace_current(self.old_parallel_config)
        if self._owned is not None:
            self._owned.close()


class parallel_backend(parallel_config):  # noqa: N801 - joblib's name
    """Set the backend for every ``Parallel`` call in a ``with`` block; `n_jobs` is -1 by default.

    `parallel_config` does the same and more.

    Parameters
    ----------
    backend : str, Backend or class
        As for `Parallel`.
    n_jobs : int
        As for `Parallel`.
    inner_max_num_threads : int, optional
        As for `parallel_config`.
    **backend_params
        As for `parallel_config`.

    Examples
    --------
    >>> from jobspan import Parallel, delayed, parallel_backend
    >>> with parallel_backend("threads", n_jobs=2):
    ...     Parallel()(delayed(abs)(x) for x in [-1, -2])
    [1, 2]
    """

    def __init__(
        self,
        backend: Any,
        n_jobs: int = -1,
        inner_max_num_threads: int | None = None,
        **backend_params: Any,
    ) -> None:
        super().__init__(
            backend=backend,
            n_jobs=n_jobs,
            inner_max_num_threads=inner_max_num_threads,
            **backend_params,
        )

    def __enter__(self) -> tuple[Any, Any]:
        return self.settings.backend, self.settings.values.get("n_jobs")
