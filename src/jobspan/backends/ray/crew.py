"""The workers of one backend: actors that are idle, started when they are needed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jobspan.backends.ray.connecting import ray_package
from jobspan.backends.ray.messages import Sent
from jobspan.backends.ray.running import JobspanWorker, own_versions, run_task, versions_task
from jobspan.errors import BackendError, VersionMismatchError

__all__ = ["Crew", "Member", "check_versions", "start_error"]

FRESH_SECONDS = 1.0
"""A worker that was not heard of for longer is asked whether it lives before it is sent work."""


class Member:
    """A worker: an actor, or in a Ray task the cluster itself, where every message is a task.

    Parameters
    ----------
    actor : actor handle or None
        None: every message is a task of its own.
    task : remote function or None
        Runs a message as a task.
    ready : ObjectRef or None
        Answers once the worker can take work; None: it can.
    """

    __slots__ = (
        "actor",
        "alone",
        "began",
        "blamed",
        "heard",
        "known",
        "proved",
        "ready",
        "refs",
        "task",
    )

    def __init__(self, actor: Any, task: Any, ready: Any) -> None:
        self.actor = actor
        self.task = task
        self.ready = ready
        self.refs: list[Any] = []
        """The messages that it has, the oldest first."""
        self.began = 0.0
        """Since when, at the earliest, it runs the oldest one."""
        self.alone = False
        """Whether it gets nothing else until it has replied."""
        self.blamed = False
        """Whether it died and a message answers for that."""
        self.known: set[str] = set()
        """The functions and contexts that it has."""
        self.heard = time.monotonic()
        self.proved = ready is None
        """Whether it was ready once."""

    def send(self, name: str, sent: Sent, mode: str | None, shared: Sequence[Any]) -> Any:
        """Send a message; return the reference to the reply."""
        run = self.task if self.actor is None else self.actor.run
        ref = run.options(name=name).remote(sent, mode, *shared)
        if not self.refs:
            self.began = time.monotonic()
        self.refs.append(ref)
        return ref

    def settle(self, ref: Any) -> None:
        """Note that there is a reply."""
        self.heard = self.began = time.monotonic()
        if ref in self.refs:
            self.refs.remove(ref)
            self.alone = False

    def doubt(self) -> None:
        """Have it asked whether it lives before it is sent work."""
        self.heard = min(self.heard, time.monotonic() - 2 * FRESH_SECONDS)

    def ask(self) -> None:
        """Ask whether it lives, unless it was heard of just now."""
        if self.actor is None or self.ready is not None:
            return
        if time.monotonic() - self.heard > FRESH_SECONDS:
            self.ready = self.actor.versions.remote()

    def kill(self) -> None:
        """Stop the worker and what it runs."""
        ray = ray_package()
        if self.actor is not None:
            ray.kill(self.actor, no_restart=True)
        else:
            for ref in self.refs:
                ray.cancel(ref, force=True)


class Crew:
    """Keeps idle workers from one ``Parallel`` call to the next.

    Parameters
    ----------
    demands : mapping
        What every worker asks of the cluster.
    idle_seconds : float
        How long a worker stays idle before it is given back.

    Notes
    -----
    Threads and processes: safe to use from several threads.
    """

    def __init__(self, demands: Mapping[str, Any], idle_seconds: float) -> None:
        ray = ray_package()
        self._actors = ray.remote(max_restarts=0, max_task_retries=0, **demands)(JobspanWorker)
        self._task = ray.remote(max_retries=0, **demands)(run_task)
        self._probe = ray.remote(max_retries=0, **demands)(versions_task)
        self._cores = max(1, math.ceil(demands.get("num_cpus") or 1))
        self._idle_seconds = idle_seconds
        self._idle: list[Member] = []
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def hire(self, *, tasks: bool) -> Member:
        """Return an idle worker, or a new one.

        Parameters
        ----------
        tasks : bool
            Whether messages are tasks; one member then stands for the whole cluster.
        """
        if tasks:
            return Member(None, self._task, self._probe.remote())
        with self._lock:
            member = self._idle.pop() if self._idle else None
        if member is not None:
            member.ask()
            return member
        actor = self._actors.remote(self._cores)
        return Member(actor, None, actor.versions.remote())

    def release(self, members: Sequence[Member]) -> None:
        """Take workers back that run nothing, or start."""
        kept = [member for member in members if member.actor is not None]
        if not kept:
            return
        if not self._idle_seconds:
            for member in kept:
                member.kill()
            return
        with self._lock:
            self._idle += kept
            self._look_later()

    def dismiss(self) -> None:
        """Give all idle workers back to the cluster."""
        with self._lock:
            members, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        for member in members:
            member.kill()

    def _look_later(self) -> None:
        if self._timer is None and self._idle:
            self._timer = threading.Timer(self._idle_seconds, self._dismiss_idle)
            self._timer.daemon = True
            self._timer.name = "jobspan-ray-idle"
            self._timer.start()

    def _dismiss_idle(self) -> None:
        """Give back those that nobody needed for a while: others may wait for their place."""
        since = time.monotonic() - self._idle_seconds
        with self._lock:
            self._timer = None
            leaving = [member for member in self._idle if member.heard <= since]
            self._idle = [member for member in self._idle if member.heard > since]
            self._look_later()
        if ray_package().is_initialized():
            for member in leaving:
                member.kill()


def check_versions(there: Mapping[str, str]) -> None:
    """Refuse a worker that could not understand what it is sent.

    Raises
    ------
    VersionMismatchError
        If versions differ in what matters.
    """
    for name, version in own_versions().items():
        if there.get(name) != version:
            raise VersionMismatchError(
                f"Ray's workers have {name} {there.get(name)}, this process {version}; they must "
                "be the same"
            )


def start_error(error: Exception) -> BackendError:
    """Return what to raise for a worker that could not start."""
    here = own_versions()["jobspan"]
    if "jobspan" in str(error) and "No module named" in str(error):
        return VersionMismatchError(
            f"Ray's workers have no jobspan; install jobspan=={here} there, or pass "
            f"runtime_env={{'pip': ['jobspan=={here}']}}"
        )
    return BackendError(f"a Ray worker cannot start: {error}")
