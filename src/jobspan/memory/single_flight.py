"""Single flight: of all who want one key, on any number of hosts, one computes and the rest wait.

A claim stands under the key itself, made by `create`, renewed by a heartbeat, written over by the
result. Correctness never rests on it: who waits too long computes by himself, a dead holder's claim
is taken over, and a store without conditional writes does without.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from jobspan.codecs.entry import Lease
from jobspan.keys import CallKey
from jobspan.memory.recall import Cache, Found, entry_name
from jobspan.store import ObjectStore, StoreClock

__all__ = ["Claim", "Turn", "turns"]

LEASE_SECONDS = 30.0
"""How long a claim holds without a sign of life."""

PATIENCE_SECONDS = 900.0
"""How long anybody waits for another's result before computing it himself."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 2.0
"""Seconds between two looks at another's claim: short at first, with jitter, then longer."""


@dataclass(slots=True)
class Claim:
    """One's own claim on a key.

    Parameters
    ----------
    name : str
        The entry's name.
    lease : Lease
        What stands there.
    token : str or None
        The claim's state; None where there is no claim: one computes without.
    """

    name: str
    lease: Lease
    token: str | None


class Turn(Enum):
    """What is to be done next by one who wants a key."""

    FOUND = "found"
    COMPUTE = "compute"
    WAIT = "wait"


def turns(
    cache: Cache, key: CallKey, lease_seconds: float = LEASE_SECONDS
) -> Iterator[tuple[Turn, Found | Claim | float]]:
    """Yield what to do for a key: use what was found, compute under a claim, or wait so long.

    The caller does as it is told and comes back: after ``FOUND`` and ``COMPUTE`` it need not.
    """
    store, name = cache.store, entry_name(key)
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = FIRST_PAUSE
    seen: tuple[str, float] = ("", 0.0)
    while True:
        found = cache.look_up(key)
        if found is not None and found.header is not None:
            yield Turn.FOUND, found
            return
        if not cache.writable or not _conditional(store):
            yield Turn.COMPUTE, Claim(name, Lease("", 0.0), None)
            return
        lease = Lease(_holder(), lease_seconds)
        try:
            if found is None:
                token = store.create(name, lease.pack())
                if token is None:
                    # An entry that cannot be used, or a claim made since we looked.
                    data, state = store.get(name)
                    if not Lease.is_packed(data):
                        token = store.swap(name, lease.pack(), state)
            elif _expired(store, name, found, seen):
                token = store.swap(name, lease.pack(), found.token)
            else:
                token = None
        except (OSError, KeyError):
            yield Turn.COMPUTE, Claim(name, lease, None)
            return
        if token is not None or time.monotonic() > deadline:
            yield Turn.COMPUTE, Claim(name, lease, token)
            return
        if found is not None and found.token != seen[0]:
            seen = (found.token, time.monotonic())
        yield Turn.WAIT, pause * (0.5 + random.random())
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _conditional(store: ObjectStore) -> bool:
    try:
        return store.conditional
    except OSError:
        return False


def _expired(store: ObjectStore, name: str, found: Found, seen: tuple[str, float]) -> bool:
    """Whether a claim has not been renewed for as long as it says it holds.

    By the store's clock where it has one; else by how long we have seen it unchanged, which needs
    no clock but our own steady one.
    """
    seconds = Lease.unpack(found.data).seconds
    if isinstance(store, StoreClock):
        age = store.age(name)
        return age is not None and age > seconds
    return found.token == seen[0] and time.monotonic() - seen[1] > seconds


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(8).hex()}"


class Heartbeat:
    """Renews claims while their holders compute.

    One thread for the process, started with the first claim that needs it, gone soon after the
    last. A short computation never sees it: the thread sleeps for a third of a lease first.
    """

    def __init__(self) -> None:
        self._claims: dict[int, tuple[ObjectStore, Claim, float]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, store: ObjectStore, claim: Claim) -> None:
        """Renew a claim from now on."""
        with self._changed:
            due = time.monotonic() + claim.lease.seconds / 3
            self._claims[id(claim)] = (store, claim, due)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="jobspan-leases", daemon=True
                )
                self._thread.start()

    def release(self, claim: Claim) -> None:
        """Renew a claim no more."""
        with self._changed:
            self._claims.pop(id(claim), None)
            if not self._claims:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._claims:
                    self._changed.wait(1.0)
                if not self._claims:
                    self._thread = None
                    return
                due = min(due for _, _, due in self._claims.values())
                self._changed.wait(max(0.0, due - time.monotonic()))
                now = time.monotonic()
                ripe = [claims for claims in self._claims.values() if claims[2] <= now]
            for store, claim, _ in ripe:
                self._renew(store, claim)

    def _renew(self, store: ObjectStore, claim: Claim) -> None:
        with self._changed:
            if id(claim) not in self._claims or claim.token is None:
                return
            try:
                # New bytes, so that the state has a new token on every store.
                lease = Lease(_holder(), claim.lease.seconds)
                claim.token = store.swap(claim.name, lease.pack(), claim.token)
            except OSError:
                pass  # tried again at the next beat; a claim that lapses costs a second run
            due = time.monotonic() + claim.lease.seconds / 3
            self._claims[id(claim)] = (store, claim, due)


heartbeat = Heartbeat()
"""The process's own."""


def _forget_claims() -> None:
    global heartbeat
    heartbeat = Heartbeat()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)
