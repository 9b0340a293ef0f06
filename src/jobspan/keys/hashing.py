"""``jobspan.hash``: the digest of any value."""

from __future__ import annotations

import hashlib
from typing import Any

from jobspan.keys.canonical import canonical_bytes

__all__ = ["hash"]


def hash(obj: Any, hash_name: str = "md5", coerce_mmap: bool = False) -> str:  # noqa: ARG001
    """Return the digest of a value, the same for equal values in any process.

    Parameters
    ----------
    obj : object
        Any value that has a key.
    hash_name : {"md5", "sha1", "sha256", "blake3"}
        The hash function over the value's canonical bytes.
    coerce_mmap : bool
        Kept for joblib's signature: a memory-mapped array always has the digest of its array.

    Returns
    -------
    str
        Hexadecimal digits.

    Raises
    ------
    UnkeyableError
        If a part of the value cannot be encoded by value; the message names the path to it.

    Examples
    --------
    >>> hash({"a": 1, "b": [2.0]}) == hash({"b": [2.0], "a": 1})
    True
    """
    data = canonical_bytes(obj)
    if hash_name == "blake3":
        from blake3 import blake3

        return blake3(data).hexdigest()
    if hash_name not in ("md5", "sha1", "sha256"):
        raise ValueError(
            f"Valid options for 'hash_name' are 'md5', 'sha1', 'sha256' and 'blake3'. "
            f"Got hash_name={hash_name!r} instead."
        )
    return hashlib.new(hash_name, data, usedforsecurity=False).hexdigest()
