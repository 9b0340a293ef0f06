"""Which backend a ``Parallel`` call gets: its argument, the context, the environment, the hints."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobspan.ambient import Default, Settings, current
from jobspan.backends.choosing import default_backend_name, make_backend, shared_backend
from jobspan.executors import Backend
from jobspan.parallel.arguments import read_n_jobs
from jobspan.parallel.config import DEFAULTS, check_values, meant_by, refusing_options

__all__ = [
    "Choice",
    "choose",
    "default_n_jobs",
    "effective_n_jobs",
    "get_active_backend",
    "resolve",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The backend for a ``Parallel`` call and the settings that hold for it.

    Parameters
    ----------
    backend : Backend
        Where calls run.
    owned : bool
        Whether it was made for this one ``Parallel`` object, which then closes it.
    n_jobs : int
        What the user asked for, in joblib's notation.
    values : mapping
        Every shared setting: the argument's value, else the context's, else the default.
    level : int
        How many parallel calls enclose this one.
    options : mapping
        Options for this call of a backend that the context made.
    """

    backend: Backend
    owned: bool
    n_jobs: int
    values: Mapping[str, Any]
    level: int
    options: Mapping[str, Any] = field(default_factory=dict)


def resolve(arguments: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return each shared setting: as given, else as the context has it, else its default."""
    values: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        given = arguments.get(name, default)
        if isinstance(given, Default):
            given = settings.values.get(name, default.value)
        values[name] = given
    return values


def choose(
    backend: Any,
    arguments: Mapping[str, Any],
    options: dict[str, Any],
    taker: Any = None,
) -> Choice:
    """Choose the backend for a ``Parallel`` call.

    Parameters
    ----------
    backend : object
        The argument ``backend=``, or a `Default`.
    arguments : mapping
        The arguments that a context may give as well, with `Default` where not given.
    options : dict
        Further options for the backend.
    taker : callable
        What took them: a misspelt one may have been meant for an argument of its own.
    """
    settings = current()
    values = resolve(arguments, settings)
    check_values(values)
    explicit = not isinstance(backend, Default) and backend is not None
    owned = False
    call_options: Mapping[str, Any] = {}
    sharing = values["require"] == "sharedmem"
    if explicit:
        chosen, owned = _make(backend, options, taker)
        if sharing and not chosen.capabilities.shared_memory:
            raise ValueError(
                f"Backend {chosen.name} does not support shared memory; pass backend='threads', "
                "or leave require='sharedmem' out"
            )
    elif options:
        spec = settings.backend if settings.backend is not None else default_backend_name()
        if isinstance(spec, str):
            chosen, owned = _make(spec, options, taker)
        else:
            chosen, call_options = spec, _options_of_a_call(spec, options, taker)
    else:
        chosen = _ambient(settings, values)
    n_jobs = values["n_jobs"]
    if sharing and not explicit and settings.backend is not None:
        ambient = _instance(settings.backend)
        if not ambient.capabilities.shared_memory and isinstance(
            arguments.get("n_jobs", DEFAULTS["n_jobs"]), Default
        ):
            n_jobs = 1  # as joblib: the context's number was meant for its own backend
    if n_jobs is None:
        n_jobs = default_n_jobs(chosen)
    return Choice(
        backend=chosen,
        owned=owned,
        n_jobs=read_n_jobs(n_jobs),
        values=values,
        level=settings.level,
        options=call_options,
    )


def _make(spec: Any, options: dict[str, Any], taker: Any) -> tuple[Backend, bool]:
    if isinstance(spec, str) and not options:
        return shared_backend(spec), False
    with refusing_options(options, taker):
        made = make_backend(spec, options)
    return made, made is not spec


def _options_of_a_call(backend: Backend, options: dict[str, Any], taker: Any) -> dict[str, Any]:
    """Return the options if the context's backend takes them for a single call."""
    taken = getattr(backend, "call_options", ())
    unknown = sorted(options.keys() - set(taken))
    if unknown:
        advice = (
            meant_by(unknown, taker) or "; pass it to parallel_config, together with the backend"
        )
        raise TypeError(
            f"Parallel({unknown[0]}={options[unknown[0]]!r}): backend {backend.name!r} of the "
            f"context takes {', '.join(taken) or 'no options'} for a single call{advice}"
        )
    return options


def _instance(backend: Any) -> Backend:
    return shared_backend(backend) if isinstance(backend, str) else backend


def _ambient(settings: Settings, values: Mapping[str, Any]) -> Backend:
    """Return the backend of the context or the default, bent by the hints as joblib bends it."""
    prefer, sharing = values["prefer"], values["require"] == "sharedmem"
    if settings.backend is None:
        backend = shared_backend(default_backend_name())
        if prefer == "threads" and "JOBSPAN_BACKEND" not in os.environ:
            return shared_backend("threads")
    else:
        backend = _instance(settings.backend)
    if sharing and not backend.capabilities.shared_memory:
        if values["verbose"] >= 10 and settings.backend is not None:
            sys.stdout.write(
                f"Using ThreadBackend as joblib backend instead of {type(backend).__name__} as "
                "the latter does not provide shared memory semantics.\n"
            )
        return shared_backend("threads")
    return backend


def default_n_jobs(backend: Backend) -> int:
    """Return the number of jobs where nobody says: the environment's, all of a cluster, else 1."""
    asked = os.environ.get("JOBSPAN_N_JOBS", "").strip()
    if asked:
        try:
            return read_n_jobs(asked)
        except ValueError as error:
            raise ValueError(
                f"JOBSPAN_N_JOBS={asked!r} is no whole number other than 0; set it to 4, say, or "
                "to -1"
            ) from error
    return -1 if backend.capabilities.remote else 1


def effective_n_jobs(n_jobs: int | None = -1) -> int:
    """Return how many calls would run at once here for a request in joblib's notation.

    Parameters
    ----------
    n_jobs : int or None
        What would be asked of ``Parallel``; None: what holds here.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> effective_n_jobs(3)
    3
    """
    if n_jobs == 1:
        return 1
    choice = choose(DEFAULTS["backend"], {} if n_jobs is None else {"n_jobs": n_jobs}, {})
    return choice.backend.effective_n_jobs(choice.n_jobs)


def get_active_backend(
    prefer: str | Default[Any] | None = DEFAULTS["prefer"],
    require: str | Default[Any] | None = DEFAULTS["require"],
    verbose: int | Default[Any] = DEFAULTS["verbose"],
) -> tuple[Backend, int | None]:
    """Return the backend that holds here, and the number of jobs that a context sets, if one does.

    Parameters
    ----------
    prefer, require, verbose
        As for `parallel_config`.

    Examples
    --------
    >>> from jobspan import parallel_config
    >>> with parallel_config("threads", n_jobs=2):
    ...     backend, n_jobs = get_active_backend()
    >>> backend.name, n_jobs
    ('threads', 2)
    """
    arguments = {"prefer": prefer, "require": require, "verbose": verbose}
    choice = choose(DEFAULTS["backend"], arguments, {})
    return choice.backend, None if choice.values["n_jobs"] is None else choice.n_jobs
