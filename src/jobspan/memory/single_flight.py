"""Single flight: of all who want one key, on any number of hosts, one computes and the rest wait.

In a bucket a claim stands under the key itself, made by `create`, renewed by a heartbeat, written
over by the result. On a disk it is a lock, which the system undoes when its holder dies.
Correctness never rests on either: who waits too long computes by himself, a dead holder's claim is
taken over, and a store without conditional writes does without.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from jobspan.codecs.lease import Lease
from jobspan.keys import CallKey
from jobspan.memory.claims import Claim, LeaseClaim, LockClaim, died_here, new_lease
from jobspan.memory.naming import entry_name
from jobspan.memory.reading import Found, Usable
from jobspan.memory.recall import Cache
from jobspan.store import NameLocks, ObjectStore, StoreClock

__all__ = ["Flight", "Step", "Turn", "turns"]


@dataclass(frozen=True, slots=True)
class Flight:
    """How those who want the same key wait for the one who computes it.

    Parameters
    ----------
    single : bool
        Whether they do.
    lease_seconds : float
        How long a claim in a bucket holds without a sign of life.
    patience_seconds : float
        How long anybody waits for another's result before computing it himself.
    """

    single: bool = True
    lease_seconds: float = 30.0
    patience_seconds: float = 900.0

    def claims_in(self, cache: Cache) -> bool:
        """Whether keys are claimed by what stands under them, so that a claim tells what is there.

        Asks the store, once a process.
        """
        return (
            self.single
            and cache.writable
            and cache.locks is None
            and cache.silence.is_over()
            and _conditional(cache.store)
        )


FIRST_PAUSE, LONGEST_PAUSE = 0.01, 2.0
"""Seconds between two looks at another's claim: short at first, with jitter, then longer."""


class Turn(Enum):
    """What is to be done next by one who wants a key."""

    FOUND = "found"
    COMPUTE = "compute"
    WAIT = "wait"


Step: TypeAlias = tuple[Turn, Any]
"""What to do, with what was found, the claim to compute under, or the seconds to wait."""


def turns(
    cache: Cache,
    key: CallKey,
    found: Found | None,
    usable: Usable,
    flight: Flight,
) -> Iterator[Step]:
    """Yield what to do for a key: use what was found, compute under a claim, or wait so long.

    The caller does as it is told and comes back: after ``FOUND`` and ``COMPUTE`` it need not.

    Parameters
    ----------
    cache : Cache
        Where the key is looked up.
    key : CallKey
        The key.
    found : Found or None
        What was found under it a moment ago.
    usable : callable
        Whether an entry that was found is still good.
    flight : Flight
        How long to wait for whom.
    """
    store, name = cache.store, entry_name(key)
    if _is_good(found, usable):
        yield Turn.FOUND, found
        return
    silence = cache.silence
    if not cache.writable or not silence.is_over() or not _conditional(store):
        yield Turn.COMPUTE, Claim()
        return
    attempts: _Locks | _Leases
    locks = cache.locks
    if locks is not None and locks.locks_names:
        attempts = _Locks(locks, name)
    else:
        attempts = _Leases(store, name, flight.lease_seconds)
    deadline = time.monotonic() + flight.patience_seconds
    pause = FIRST_PAUSE
    while True:
        claim = attempts.attempt(found) if silence.is_over() else Claim()
        if claim is None or attempts.look_again:
            # Published since we looked?
            found = cache.look_up(key, usable)
            if _is_good(found, usable):
                if claim is not None:
                    claim.release(published=True)
                yield Turn.FOUND, found
                return
        if claim is not None or time.monotonic() > deadline:
            yield Turn.COMPUTE, claim or Claim()
            return
        yield Turn.WAIT, pause * (0.5 + random.random())
        pause = min(pause * 1.5, LONGEST_PAUSE)
        found = cache.look_up(key, usable)
        if _is_good(found, usable):
            yield Turn.FOUND, found
            return


def _is_good(found: Found | None, usable: Usable) -> bool:
    return found is not None and found.header is not None and usable(found)


class _Locks:
    """Attempts to claim a key in a store that locks names."""

    look_again = True

    def __init__(self, store: NameLocks, name: str) -> None:
        self._store = store
        self._name = name

    def attempt(self, found: Found | None) -> Claim | None:
        """Return a claim, or None where another one has it."""
        try:
            lock = self._store.try_lock(self._name)
        except Exception:  # noqa: BLE001 - the store fails: better computed twice than not at all
            return Claim()
        return None if lock is None else LockClaim(lock, fresh=found is None)


class _Leases:
    """Attempts to claim a key by a lease that stands under it."""

    look_again = False

    def __init__(self, store: ObjectStore, name: str, seconds: float) -> None:
        self._store = store
        self._name = name
        self._seconds = seconds
        self._taken = False
        self._seen: tuple[str, float] = ("", 0.0)

    def attempt(self, found: Found | None) -> Claim | None:
        """Return a claim, or None where another one has it."""
        lease = new_lease(self._seconds)
        try:
            token = self._token(lease, found)
        except Exception:  # noqa: BLE001 - the store fails: better computed twice than not at all
            return Claim()
        return None if token is None else LeaseClaim(self._store, self._name, lease, token)

    def _token(self, lease: Lease, found: Found | None) -> str | None:
        store, name = self._store, self._name
        if found is None:
            token = store.create(name, lease.pack())
            if token is not None or not self._taken:
                # Who was first may have published by now: look before anything else.
                self._taken = True
                return token
            data, state = store.get(name)
            # What cannot be used is written over.
            return None if Lease.is_packed(data) else store.swap(name, lease.pack(), state)
        if found.header is not None:  # an entry that is no longer good
            return store.swap(name, lease.pack(), found.token or store.get(name, 0, 1)[1])
        if self._expired(found):
            return store.swap(name, lease.pack(), found.token)
        if found.token != self._seen[0]:
            self._seen = (found.token, time.monotonic())
        return None

    def _expired(self, found: Found) -> bool:
        """Whether a claim has not been renewed for as long as it says it holds.

        At once where its holder was a process of this machine that has ended. Else by how long we
        have seen it unchanged, which needs no clock but our own steady one; earlier by the store's
        clock, where it has one.
        """
        lease = Lease.unpack(found.data)
        if died_here(lease.holder):
            return True
        seconds = lease.seconds
        if found.token == self._seen[0] and time.monotonic() - self._seen[1] > seconds:
            return True
        if not isinstance(self._store, StoreClock):
            return False
        age = self._store.age(self._name)
        return age is not None and age > seconds


def _conditional(store: ObjectStore) -> bool:
    try:
        return store.conditional
    except Exception:  # noqa: BLE001 - what is wrong shows when the result is stored
        return False
