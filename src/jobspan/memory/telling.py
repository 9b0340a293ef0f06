"""The lines that cached functions print, worded as joblib words them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobspan.logger import format_time, pformat

__all__ = ["called", "ended", "loading", "signature"]

SHOWN, LONGEST = 700, 1500
"""An argument whose text has more than `LONGEST` characters is cut off after `SHOWN`."""


def signature(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return a call as it might be written.

    Examples
    --------
    >>> signature("project.double", (21,), {"scale": 0.5})
    'double(21, scale=0.5)'
    """
    shown: list[str] = []
    for value in args:
        text = _shown(value)
        long = bool(shown) and len(shown[-1]) > 80
        shown.append("\n" + text if long else text)
    shown += [f"{argument}={_shown(value)}" for argument, value in kwargs.items()]
    return f"{_last(name)}({', '.join(shown)})"


def called(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return what is printed before a function is called."""
    return f"{80 * '_'}\n[Memory] Calling {name}...\n{signature(name, args, kwargs)}"


def ended(name: str, seconds: float, what: str = "") -> str:
    """Return what is printed after a function was called, or its result loaded.

    Examples
    --------
    >>> ended("project.double", 90.0)[-24:]
    '__double - 90.0s, 1.5min'
    """
    text = f"{_last(name)} {what}- {format_time(seconds)}"
    return max(0, 80 - len(text)) * "_" + text


def loading(
    name: str, verbose: int, place: str, age: float | None, arguments: Mapping[str, str] | None
) -> str:
    """Return what is printed when a result is loaded.

    Parameters
    ----------
    name : str
        Module and qualified name of the function.
    verbose : int
        From 10 up, the place is named.
    place : str
        Where the entry is.
    age : float or None
        Seconds since the memory was made.
    arguments : mapping or None
        Texts of the arguments, where they are known.

    Examples
    --------
    >>> loading("project.double", 2, "", 0.0, {"x": "21"})
    '[Memory]0.0s, 0.0min    : Loading double(x=21)...'
    """
    since = "" if age is None else f"{format_time(age): <16}"
    text = _last(name)
    if arguments is not None:
        text += f"({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    line = f"[Memory]{since}: Loading {text}"
    return f"{line} from {place}" if verbose >= 10 else f"{line}..."


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(value: Any) -> str:
    try:
        text = pformat(value, indent=2)
    except Exception:  # noqa: BLE001 - a repr may fail in any way, and is only shown
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else text[:SHOWN] + "..."
