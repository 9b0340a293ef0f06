"""Why a call missed: its key compared with those of the stored entries nearest to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jobspan.keys.calls import CallKey

__all__ = ["explain"]


def explain(wanted: CallKey, stored: Iterable[Mapping[str, str]]) -> str:
    """Say in words how a call differs from the nearest stored one.

    Parameters
    ----------
    wanted : CallKey
        The key of the call.
    stored : iterable of mapping
        The components of stored entries.

    Returns
    -------
    str
        One difference a line; a sentence where nothing is stored or nothing differs.
    """
    components = wanted.components
    nearest = min(stored, key=lambda other: len(_differences(components, other)), default=None)
    if nearest is None:
        return f"nothing is stored for {wanted.function}"
    differences = _differences(components, nearest)
    if not differences:
        return "nothing differs: the result is stored"
    return "\n".join(
        _in_words(name, nearest.get(name), components.get(name)) for name in differences
    )


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _in_words(name: str, before: str | None, now: str | None) -> str:
    kind, _, what = name.partition(": ")
    if kind == "argument":
        return f"argument `{what}`: {_value(before)} → {_value(now)}"
    if what.startswith("package "):
        return f"{what.removeprefix('package ')} {before or 'unused'} → {now or 'unused'}"
    if what == "version":
        return f"version: {before} → {now}"
    subject, _, aspect = what.rpartition(" ")
    if aspect in ("source", "defaults", "arguments", "state") and subject:
        who = "the function" if subject == "function" else f"helper `{subject}`"
        if before is None or now is None:
            return f"{who} is {'new' if before is None else 'no longer used'}"
        return f"{who} changed" if aspect == "source" else f"the {aspect} of {who} changed"
    if before is None or now is None:
        return f"`{what}` is {'new' if before is None else 'no longer used'}"
    return f"`{what}` changed"


def _value(component: str | None) -> str:
    return "absent" if component is None else component.partition(" ")[2]
