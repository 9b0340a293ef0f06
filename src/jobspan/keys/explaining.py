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
    nearest = min(stored, key=lambda other: _distance(components, other), default=None)
    if nearest is None:
        return f"nothing is stored for {wanted.function}"
    differences = _differences(components, nearest)
    if not differences:
        return "nothing differs: the result is stored"
    # What names stand for changes whenever a helper comes or goes; by itself it says too little.
    telling = [name for name in differences if not name.endswith(" names")]
    return "\n".join(
        _in_words(name, nearest.get(name), components.get(name)) for name in telling or differences
    )


def _distance(components: Mapping[str, str], other: Mapping[str, str]) -> tuple[int, list[str]]:
    """Return how far a stored entry is; of those as far, what they show tells which comes first."""
    differences = _differences(components, other)
    return len(differences), [_shown(other.get(name)) for name in differences]


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _in_words(name: str, before: str | None, now: str | None) -> str:
    kind, _, what = name.partition(": ")
    if kind == "argument":
        return f"argument `{what}`: {_values(before, now)}"
    if what.startswith("package "):
        return f"{what.removeprefix('package ')} {before or 'unused'} → {now or 'unused'}"
    if what == "version":
        return f"version: {before or 'not given'} → {now or 'not given'}"
    if what.startswith("depends"):
        subject = what.partition(" ")[2] or what
        return f"`{subject}`, on which the result depends, {_changed(before, now)}"
    if what.startswith("global "):
        return f"the value of `{what.removeprefix('global ')}` {_changed(before, now)}"
    subject, _, aspect = what.rpartition(" ")
    if aspect not in ("source", "defaults", "arguments", "state", "fields", "names") or not subject:
        return f"`{what}` {_changed(before, now)}"
    who = "the function" if subject == "function" else f"helper `{subject}`"
    if aspect == "names":
        return f"{who} reads other things under the same names"
    if aspect == "source":
        return f"{who} {_changed(before, now)}"
    return f"the {aspect} of {who} changed"


def _changed(before: str | None, now: str | None) -> str:
    if before is None:
        return "is new"
    return "is no longer used" if now is None else "changed"


def _values(before: str | None, now: str | None) -> str:
    old, new = _shown(before), _shown(now)
    return f"{old} → {new}" if old != new else f"another {new}"


def _shown(component: str | None) -> str:
    return "absent" if component is None else component.partition(" ")[2]
