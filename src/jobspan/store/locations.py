"""What a user passes as a location, taken apart: no store is opened and no package loaded here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from jobspan.errors import StoreLocationError

__all__ = ["Location", "parse_location", "scrub", "without_secrets"]

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?P<slashes>//|:)")
_SECRET_OPTION = re.compile(
    r"secret|token|passw|passphrase|pwd|credential|connection_string|sas|key(_?id)?$|auth|header"
    r"|cookie|private|signature",
    re.IGNORECASE,
)
_PASSWORD_IN_URL = re.compile(r"://[^/?#@\s]*:([^/?#@\s]+)@")
_NO_PORT = re.compile(r"[^:\[]*:(?!\d*$)")
"""How an address begins whose "port" is the start of a password, with a slash, ? or # in it."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is.

    Parameters
    ----------
    scheme : str
        The URL's scheme in lower case; ``"file"`` for a path.
    bucket : str
        Bucket or container; empty for a path.
    prefix : str
        The folder in the bucket without slashes at its ends; for a path the path.
    url : str
        The location as a URL without user, password and query.
    """

    scheme: str
    bucket: str
    prefix: str
    url: str


def parse_location(location: str | os.PathLike[str]) -> Location:
    """Take a path or a URL apart.

    Raises
    ------
    StoreLocationError
        If there is nothing in it, or a password in the URL of a bucket.

    Examples
    --------
    >>> parse_location("s3://team-cache/models/v2/").prefix
    'models/v2'
    >>> parse_location("/tmp/cache").scheme
    'file'
    """
    text = os.fspath(location)
    if not isinstance(text, str):
        raise StoreLocationError(
            f"a location is a str or a path, not {type(text).__name__}. Pass os.fsdecode(location)"
        )
    if not text.strip():
        raise StoreLocationError(
            "the location is empty. Pass a folder such as '~/.cache/jobspan' "
            "or a URL such as 's3://bucket/prefix'"
        )
    match = _URL.match(text)
    # A single letter and a colon is a drive of Windows.
    if match is None or len(match["scheme"]) == 1:
        return Location("file", "", text, "")
    scheme = match["scheme"].lower()
    if match["slashes"] == ":":  # chained file systems, "simplecache::s3://..."
        return Location(scheme, "", text, without_secrets(text))
    rest = text[match.end() :]
    if scheme in {"file", "local"}:
        path = unquote(urlsplit(f"file://{rest}").path) if scheme == "file" else rest
        if os.name == "nt":  # pragma: no cover - needs Windows
            path = re.sub(r"^/(?=[A-Za-z]:)", "", path)
        return Location("file", "", path, "")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket and scheme in {"s3", "s3a", "gs", "gcs"}:
        raise StoreLocationError(
            f"{without_secrets(text)}: the URL of a bucket takes no user and password. "
            "Pass them as storage_options={'key': ..., 'secret': ...}"
        )
    return Location(scheme, bucket, prefix.strip("/"), without_secrets(text))


def without_secrets(url: str) -> str:
    """Return a URL without its user, password, query and fragment.

    Examples
    --------
    >>> without_secrets("simplecache::sftp://user:password@host/folder?sig=x")
    'simplecache::sftp://host/folder'
    """
    plain = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, separator, rest = plain.rpartition("://")
    authority, slash, path = rest.partition("/")
    # abfs://container@account.dfs... has no password: what is before the @ names the container.
    if "@" in authority and (":" in authority.rpartition("@")[0] or not _is_azure(scheme)):
        authority = authority.rpartition("@")[2]
    elif "@" in url and _NO_PORT.match(authority):
        authority, slash, path = re.split(r"[?#]", url.rpartition("@")[2])[0].partition("/")
    # Of a chain, each link may have its own.
    scheme = _PASSWORD_IN_URL.sub("://", scheme)
    return f"{scheme}{separator}{authority}{slash}{path}"


def _is_azure(scheme: str) -> bool:
    return scheme.rpartition("::")[2].lower() in {"abfs", "abfss", "az", "adl", "wasb", "wasbs"}


def scrub(text: str, options: Mapping[str, Any]) -> str:
    """Return `text` without the secrets among a store's options."""
    for secret in sorted(set(_secrets(options, inside=False)), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(value: object, *, inside: bool) -> Iterator[str]:
    """Yield each string that stands, at any depth, under a name that tells of a secret."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, inside=inside or _SECRET_OPTION.search(str(key)) is not None)
    elif isinstance(value, str):
        if inside and len(value) >= 4:
            yield value
        for found in _PASSWORD_IN_URL.findall(value):
            yield from (form for form in (found, unquote(found)) if len(form) >= 4)
    elif isinstance(value, bytes):
        if inside and len(value) >= 4:
            yield value.decode(errors="replace")
    elif isinstance(value, Iterable):
        for item in value:
            yield from _secrets(item, inside=inside)
