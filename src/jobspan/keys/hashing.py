"""``jobspan.hash``: the digest of any value."""

from __future__ import annotations

from typing import Any

from blake3 import blake3

from jobspan.keys.canonical import canonical_bytes

__all__ = ["hash"]

_SIZES = {"md5": 16, "sha1": 20, "sha256": 32, "blake3": 32}
"""Bytes of a digest."""


def hash(obj: Any, hash_name: str = "md5", coerce_mmap: bool = False) -> str:  # noqa: ARG001
    """Return the digest of a value, the same for equal values in any process.

    Parameters
    ----------
    obj : object
        Any value that has a key.
    hash_name : {"md5", "sha1", "sha256", "blake3"}
        How long the digest is: as long as that function's. What is computed is BLAKE3.
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
    size = _SIZES.get(hash_name)
    if size is None:
        raise ValueError(
            f"Valid options for 'hash_name' are 'md5', 'sha1', 'sha256' and 'blake3'. "
            f"Got hash_name={hash_name!r} instead."
        )
    return blake3(canonical_bytes(obj)).hexdigest(size)
