"""Single flight: of all who want one key, on any number of hosts, one computes and the rest wait.

In a bucket a claim stands under the key itself, made by `create`, renewed by a heartbeat, written
over by the result. On a disk it is a lock, which the system undoes when its holder dies.
Correctness never rests on either: who waits too long computes by himself, a dead holder's claim is
taken over, and a store without conditional writes does without.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Any, TypeAlias

from jobspan.codecs.entry import Lease
from jobspan.keys import CallKey
from jobspan.memory.recall import Cache, Found, Usable, entry_name
from jobspan.store import Lock, NameLocks, ObjectStore, StoreClock

__all__ = ["Claim", "LeaseClaim", "Turn", "turns"]

LEASE_SECONDS = 30.0
"""How long a claim holds without a sign of life."""

PATIENCE_SECONDS = 900.0
"""How long anybody waits for another's result before computing it himself."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 2.0
"""Seconds between two looks at another's claim: short at first, with jitter, then longer."""


class Claim:
    """The right to compute a key, as far as one can have it.

    Parameters
    ----------
    fresh : bool
        Whether nothing stood under the key when it was claimed.
    """

    token: str | None = None

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh

    def hold(self) -> None:
        """Keep it for as long as the computation takes."""

    def release(self, published: bool) -> None:
        """Give it up; `published`: the result stands there now."""


class _LockClaim(Claim):
    """A claim that the system undoes when its holder dies."""

    def __init__(self, lock: Lock, fresh: bool) -> None:
        super().__init__(fresh)
        self._lock = lock

    def release(self, published: bool) -> None:
        self._lock.release()


class LeaseClaim(Claim):
    """A claim that stands under the key itself, for others on any host to see.

    Parameters
    ----------
    store : ObjectStore
        Where it stands.
    name : str
        The entry's name.
    lease : Lease
        What stands there.
    token : str
        The claim's state.
    """

    def __init__(self, store: ObjectStore, name: str, lease: Lease, token: str) -> None:
        super().__init__()
        self.store = store
        self.name = name
        self.lease = lease
        self.token = token

    def hold(self) -> None:
        """Have it renewed."""
        heartbeat.watch(self)

    def release(self, published: bool) -> None:
        """Renew it no more, and take it back where no result was written over it."""
        heartbeat.release(self)
        if not published and self.token is not None:
            with suppress(OSError, KeyError):  # it lapses by itself
                self.store.delete(self.name, self.token)


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
    lease_seconds: float = LEASE_SECONDS,
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
    lease_seconds : float
        How long a claim holds without a sign of life.
    """
    store, name = cache.store, entry_name(key)
    if _is_good(found, usable):
        yield Turn.FOUND, found
        return
    if not cache.writable or not _conditional(store):
        yield Turn.COMPUTE, Claim(fresh=found is None)
        return
    attempts: _Locks | _Leases
    locks = cache.locks
    if locks is not None and locks.locks_names:
        attempts = _Locks(locks, name)
    else:
        attempts = _Leases(store, name, lease_seconds)
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = FIRST_PAUSE
    while True:
        claim = attempts.attempt(found)
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
        except OSError:
            return Claim()
        return None if lock is None else _LockClaim(lock, fresh=found is None)


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
        lease = Lease(_holder(), self._seconds)
        try:
            token = self._token(lease, found)
        except (OSError, KeyError):
            return Claim()  # the store fails: better computed twice than not at all
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
        if found.header is not None:
            return store.swap(name, lease.pack(), found.token)
        if self._expired(found):
            return store.swap(name, lease.pack(), found.token)
        if found.token != self._seen[0]:
            self._seen = (found.token, time.monotonic())
        return None

    def _expired(self, found: Found) -> bool:
        """Whether a claim has not been renewed for as long as it says it holds.

        By the store's clock where it has one; else by how long we have seen it unchanged, which
        needs no clock but our own steady one.
        """
        seconds = Lease.unpack(found.data).seconds
        if isinstance(self._store, StoreClock):
            age = self._store.age(self._name)
            return age is not None and age > seconds
        return found.token == self._seen[0] and time.monotonic() - self._seen[1] > seconds


def _conditional(store: ObjectStore) -> bool:
    try:
        return store.conditional
    except OSError:
        return False


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(8).hex()}"


class Heartbeat:
    """Renews claims while their holders compute.

    One thread for the process, started with the first claim that needs it, gone a second after the
    last one at most. A short computation never sees it renew: that is due after a third of a lease.
    """

    def __init__(self) -> None:
        self._claims: dict[LeaseClaim, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, claim: LeaseClaim) -> None:
        """Renew a claim from now on."""
        with self._lock:
            self._claims[claim] = time.monotonic() + claim.lease.seconds / 3
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="jobspan-leases", daemon=True
                )
                self._thread.start()

    def release(self, claim: LeaseClaim) -> None:
        """Renew a claim no more."""
        with self._lock:
            self._claims.pop(claim, None)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._claims:
                    self._thread = None
                    return
                due = min(self._claims.values())
                now = time.monotonic()
                ripe = [claim for claim, moment in self._claims.items() if moment <= now]
            for claim in ripe:
                self._renew(claim)
            if not ripe:
                time.sleep(min(1.0, max(0.0, due - now)))

    def _renew(self, claim: LeaseClaim) -> None:
        with self._lock:
            if claim not in self._claims or claim.token is None:
                return
            try:
                # New bytes, so that the state has a new token on every store.
                lease = Lease(_holder(), claim.lease.seconds)
                claim.token = claim.store.swap(claim.name, lease.pack(), claim.token)
            except OSError:
                pass  # tried again at the next beat; a claim that lapses costs a second run
            self._claims[claim] = time.monotonic() + claim.lease.seconds / 3


heartbeat = Heartbeat()
"""The process's own."""


def _forget_claims() -> None:
    global heartbeat
    heartbeat = Heartbeat()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)
