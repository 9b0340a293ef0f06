"""Whether a bucket keeps conditions on writes, and whose write it was that it refused.

An answer can get lost after the bucket has acted. The write is then sent again and meets itself:
the bucket says that the object is there already, or has changed. Each conditional write therefore
carries an identity of its own as metadata, and a refusal that may follow a retry is looked into.
"""

from __future__ import annotations

import secrets
import warnings

from jobspan.errors import JobspanWarning
from jobspan.logger import level_of_user
from jobspan.store.names import RESERVED_PREFIX
from jobspan.store.protocol import Data, Token
from jobspan.store.requests import Condition, Requests, WriteRefusedError

__all__ = ["StoreWithoutConditionsWarning", "probe", "send_if", "warn_without_conditions"]


class StoreWithoutConditionsWarning(JobspanWarning):
    """A store ignores conditions on writes, so nobody can claim anything there."""


def warn_without_conditions(url: str) -> None:
    """Say once a store that nothing can be claimed there."""
    warnings.warn(
        f"{url} does not keep conditions on writes. Results stored there are right, but calls "
        f"that run at the same time may compute one result more than once",
        StoreWithoutConditionsWarning,
        stacklevel=level_of_user(),
    )


def send_if(requests: Requests, key: str, data: Data, token: Token | None) -> Token | None:
    """Write an object if it is in the state `token`, absent for None; None if it is not."""
    condition = Condition(token, secrets.token_hex(16))
    try:
        return requests.send(key, data, condition)
    except WriteRefusedError as refusal:
        if not refusal.retried:
            return None
        found = requests.facts(key)
        return found.token if found is not None and found.write_id == condition.write_id else None


def probe(requests: Requests, prefix: str) -> tuple[bool, bool]:
    """Try on an object of our own whether conditional writes, and deletes, are conditional."""
    key = f"{prefix}{RESERVED_PREFIX}probe/{secrets.token_hex(16)}"
    first = send_if(requests, key, b"jobspan looks whether conditions are kept", None)
    if first is None:
        return False, False
    try:
        if send_if(requests, key, b"one", None) is not None:
            return False, False
        second = send_if(requests, key, b"two", first)
        if second is None or send_if(requests, key, b"three", first) is not None:
            return False, False
        if requests.remove(key, first):
            return True, False
    finally:
        requests.remove(key, None)
    return True, True
