"""Canonical structures for values of the standard library."""

from __future__ import annotations

from typing import Any

from jobspan.keys.encoding import FOREIGN, Encoder, tagged, unkeyable


def _datetime(encoder: Encoder, value: Any) -> Any | None:
    import datetime as dt

    kind = type(value)
    if kind is dt.datetime:
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        return tagged("datetime", naive, value.fold, encoder.step(".tzinfo", value.tzinfo))
    if kind is dt.time:
        naive = value.replace(tzinfo=None, fold=0).isoformat()
        return tagged("time", naive, value.fold, encoder.step(".tzinfo", value.tzinfo))
    if kind is dt.date:
        return tagged("date", value.isoformat())
    if kind is dt.timedelta:
        return tagged("timedelta", value.days, value.seconds, value.microseconds)
    if kind is dt.timezone:
        return tagged("timezone", encoder.plain(value.utcoffset(None)), value.tzname(None))
    return None


def _zoneinfo(_encoder: Encoder, value: Any) -> Any | None:
    key = getattr(value, "key", None)
    return None if key is None else tagged("zone", key)


def _numbers(_encoder: Encoder, value: Any) -> Any | None:
    name = type(value).__name__
    if name == "Decimal":
        sign, digits, exponent = value.as_tuple()
        return tagged("decimal", sign, tuple(digits), exponent)
    if name == "Fraction":
        return tagged("fraction", value.numerator, value.denominator)
    return None


def _path(_encoder: Encoder, value: Any) -> Any | None:
    if hasattr(value, "as_posix"):
        flavour = "windows" if "Windows" in type(value).__name__ else "posix"
        return tagged("path", flavour, value.as_posix())
    return None


def _uuid(_encoder: Encoder, value: Any) -> Any | None:
    return tagged("uuid", value.int) if type(value).__name__ == "UUID" else None


def _pattern(encoder: Encoder, value: Any) -> Any | None:
    if type(value).__name__ == "Pattern":
        return tagged("pattern", encoder.plain(value.pattern), value.flags)
    return None


def _enum(encoder: Encoder, value: Any) -> Any | None:
    import enum

    if isinstance(value, enum.Enum):
        return tagged("enum", encoder.kind(type(value)), encoder.plain(value.value))
    return None


def _io(_encoder: Encoder, value: Any) -> Any | None:
    if type(value).__name__ in ("BytesIO", "StringIO"):
        return None  # in memory: by content and position
    if hasattr(value, "fileno") or hasattr(value, "read"):
        raise unkeyable(f"an open file ({type(value).__qualname__}) has no value of its own")
    return None


FOREIGN.update(
    {
        "datetime": _datetime,
        "zoneinfo": _zoneinfo,
        "decimal": _numbers,
        "_decimal": _numbers,
        "fractions": _numbers,
        "pathlib": _path,
        "uuid": _uuid,
        "re": _pattern,
        "enum": _enum,
        "_io": _io,
        "io": _io,
    }
)
