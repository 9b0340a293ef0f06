"""The claim that stands under a key while its result is computed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from jobspan.codecs.values import Part

__all__ = ["Lease"]

LEASE_MAGIC = b"joblease"

LONGEST_LEASE = 300.0
"""No claim holds for more seconds without a sign of life, whatever it says."""

LARGEST_LEASE = 4096
"""Bytes of a claim; what is larger is none."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim on computing one key.

    Parameters
    ----------
    holder : str
        Names who claims; no two claims have the same.
    seconds : float
        For how long it holds after it was last written, by the store's clock.
    """

    holder: str
    seconds: float

    @staticmethod
    def is_packed(data: Part) -> bool:
        """Whether the bytes are a claim, not an entry."""
        return data[: len(LEASE_MAGIC)] == LEASE_MAGIC

    def pack(self) -> bytes:
        """Return the bytes that stand under the key while it is computed."""
        return LEASE_MAGIC + json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: Part) -> Lease:
        """Return the claim that was read; one that cannot be read has expired."""
        try:
            if len(data) > LARGEST_LEASE:
                return cls("", 0.0)
            fields = json.loads(bytes(data)[len(LEASE_MAGIC) :])
            holder, seconds = str(fields["holder"]), float(fields["seconds"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return cls("", 0.0)
        if not math.isfinite(seconds) or seconds < 0:
            return cls("", 0.0)
        return cls(holder, min(seconds, LONGEST_LEASE))
