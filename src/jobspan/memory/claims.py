"""Claims: the right to compute a key, renewed for as long as its holder lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

from jobspan.codecs.lease import Lease
from jobspan.store import Lock, ObjectStore

__all__ = ["Claim", "LeaseClaim", "LockClaim", "died_here", "new_lease"]


class Claim:
    """The right to compute a key, as far as one can have it.

    Parameters
    ----------
    fresh : bool
        Whether nothing stood under the key when it was claimed.
    """

    token: str | None = None
    """The state of what stands under the key for it, which the result is written over."""

    contested = False
    """Whether another one may take it over, and may have published by the time we do."""

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh

    def hold(self) -> None:
        """Keep it for as long as the computation takes."""

    def settle(self) -> None:
        """Keep it as it is from now on, lest it change while the result is written over it."""

    def release(self, published: bool) -> None:
        """Give it up; `published`: the result stands there now."""


class LockClaim(Claim):
    """A claim that the system undoes when its holder dies."""

    def __init__(self, lock: Lock, fresh: bool) -> None:
        super().__init__(fresh)
        self._lock = lock

    def release(self, published: bool) -> None:
        """Give it up."""
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

    contested = True

    def __init__(self, store: ObjectStore, name: str, lease: Lease, token: str) -> None:
        super().__init__()
        self.store = store
        self.name = name
        self.seconds = lease.seconds
        self.token = token
        self._renewing = threading.Lock()

    def hold(self) -> None:
        """Have it renewed."""
        heartbeat.watch(self)

    def renew(self) -> None:
        """Write it anew, with other bytes, so that its state has a new token on every store."""
        with self._renewing:
            if self.token is None or not heartbeat.watches(self):
                return
            lease = new_lease(self.seconds)
            with suppress(Exception):  # tried again at the next beat; a lapse costs a second run
                self.token = self.store.swap(self.name, lease.pack(), self.token)

    def settle(self) -> None:
        """Have it renewed no more: its token is final."""
        heartbeat.release(self)
        with self._renewing:
            pass

    def release(self, published: bool) -> None:
        """Renew it no more, and take it back where no result was written over it."""
        self.settle()
        if not published and self.token is not None:
            with suppress(Exception):  # it lapses by itself
                self.store.delete(self.name, self.token)


def new_lease(seconds: float) -> Lease:
    """Return a lease that no other claim has."""
    return Lease(f"{socket.gethostname()}:{os.getpid()}:{os.urandom(8).hex()}", seconds)


def died_here(holder: str) -> bool:
    """Whether a claim's holder was a process of this machine that has ended.

    Where two machines have one name this may be wrong, and then a result is computed twice.
    """
    host, _, rest = holder.partition(":")
    process = rest.partition(":")[0]
    if host != socket.gethostname() or not process.isdecimal() or len(process) > 9:
        return False
    if not hasattr(os, "fork"):
        return False  # there, signal 0 would end it
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


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
            self._claims[claim] = time.monotonic() + claim.seconds / 3
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="jobspan-leases", daemon=True
                )
                self._thread.start()

    def watches(self, claim: LeaseClaim) -> bool:
        """Whether a claim is to be renewed."""
        return claim in self._claims

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
                    self._claims[claim] = now + claim.seconds / 3
            for claim in ripe:
                claim.renew()
            if not ripe:
                time.sleep(min(1.0, max(0.0, due - now)))


heartbeat = Heartbeat()
"""The process's own."""


def _forget_claims() -> None:
    global heartbeat
    heartbeat = Heartbeat()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)
