"""The workers of one executor: hired as work comes, asked whether they live, waited for."""

from __future__ import annotations

import time
import warnings
from typing import Any

from jobspan.backends.ray.connecting import ray_package
from jobspan.backends.ray.crew import Crew, Member, check_versions, start_error
from jobspan.backends.ray.room import Room
from jobspan.errors import BackendUnreachableError, JobspanWarning, WorkerLostError
from jobspan.logger import level_of_user
from jobspan.plans import Plan

__all__ = ["Staff"]

DEPTH = 2
"""Messages in flight for each worker."""

SHORT_SECONDS = 0.02
"""Batches that take longer are sent one at a time: none waits at a worker behind a long one."""

LOOK_SECONDS = 2.0
"""How often the size of the cluster is asked for."""

TELL_SECONDS = 10.0
"""After how long without any worker the user is told."""

STOP_SECONDS = 0.1
"""How long calls may take to end when all is cancelled, before their workers are killed."""

STARTS_ALLOWED = 3
"""So many workers in a row may die before they are ready."""


class Staff:
    """The workers of one executor.

    Parameters
    ----------
    plan : Plan
        The settings.
    crew : Crew
        Where workers come from.
    room : Room
        How much of the cluster there is.
    tasks : bool
        Whether messages are tasks: one member then stands for the whole cluster.
    start_timeout : float
        How long to wait for a worker that the cluster, as it is, has no room for.
    """

    def __init__(
        self, plan: Plan, crew: Crew, room: Room, *, tasks: bool, start_timeout: float
    ) -> None:
        self._ray = ray_package()
        self._plan = plan
        self._crew = crew
        self._room = room
        self._tasks = tasks
        self._start_timeout = start_timeout
        self._workers = plan.n_jobs
        self._spared = room.workers() - plan.n_jobs if plan.follow else 0
        self._looked = time.monotonic()
        self._members: list[Member] = []
        self._failed_starts = 0
        self._without_since: float | None = None
        self._told = False
        # With a time limit a message must start when it is sent.
        self.depth = 1 if plan.task_timeout is not None else DEPTH
        self._short = False
        self._short_since = 0.0

    @property
    def workers(self) -> int:
        """How many workers there may be: as many as were asked for, or as the cluster has room."""
        now = time.monotonic()
        if self._plan.follow and now - self._looked > LOOK_SECONDS:
            self._workers = max(1, self._room.workers() - self._spared)
            self._looked = now
        return self._workers

    def note(self, seconds: float) -> None:
        """Learn how long batches take: short ones may wait at a worker behind another."""
        short = seconds < SHORT_SECONDS
        if short and not self._short:
            self._short_since = time.monotonic()
        self._short = short

    def hire(self, batches: int) -> None:
        """Hire as many workers as there is work for; the cluster sees what is wanted."""
        for member in self._members:
            if member.ready is None and not member.refs:
                member.ask()
        wanted = 1 if self._tasks else min(self.workers, batches)
        while len(self._members) < wanted:
            self._members.append(self._crew.hire(tasks=self._tasks))

    # --- who is there ------------------------------------------------------------------

    @property
    def pending(self) -> list[Any]:
        """What answers when workers that are not ready are."""
        return [member.ready for member in self._members if member.ready is not None]

    @property
    def present(self) -> bool:
        """Whether any worker is ready."""
        return any(member.ready is None for member in self._members)

    def answered(self, ref: Any) -> bool:
        """Take the answer of a worker that was not ready; whether `ref` is one.

        Raises
        ------
        VersionMismatchError
            If it could not understand what it is sent.
        BackendError
            If workers cannot start.
        """
        # Compared, for Ray's client makes new references of the same.
        waiting = (m for m in self._members if m.ready is not None and m.ready == ref)
        member = next(waiting, None)
        if member is None:
            return False
        try:
            versions = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            self.lose(member)
            if not member.proved:
                self._failed_start(error)
            return True
        check_versions(versions)
        member.ready = None
        member.proved = True
        member.heard = time.monotonic()
        self._failed_starts = 0
        self._without_since = None
        return True

    def _failed_start(self, error: Exception) -> None:
        exceptions = self._ray.exceptions
        died = isinstance(error, exceptions.RayActorError | exceptions.WorkerCrashedError)
        if died and isinstance(error, exceptions.ActorDiedError) and "creation task" in str(error):
            raise start_error(error) from error  # it raised: the next one would, too
        if not died:
            raise start_error(error) from error
        self._failed_starts += 1
        if self._failed_starts >= STARTS_ALLOWED:
            raise WorkerLostError(
                f"{self._failed_starts} Ray workers in a row died before they were ready; the "
                f"last: {error}"
            ) from error

    def places(self, member: Member) -> int:
        """Return for how many further messages a worker has room."""
        if member.ready is not None or member.alone:
            return 0
        # What was sent before batches were known to be short may be long.
        waits = self._short and (not member.refs or member.began >= self._short_since)
        depth = self.depth if waits else 1
        if member.actor is None:
            depth *= self.workers
        return max(0, depth - len(member.refs))

    def freest(self) -> tuple[Member | None, int]:
        """Return the worker with the most room, and the room of all."""
        best, most, total = None, 0, 0
        for member in self._members:
            places = self.places(member)
            total += places
            if places > most:
                best, most = member, places
        return best, total

    def lose(self, member: Member) -> None:
        """Let a worker go that died, or must."""
        if member.actor is None:
            return
        if member in self._members:
            self._members.remove(member)
        member.kill()

    # --- nobody there ------------------------------------------------------------------

    def without(self) -> float:
        """Return for how many seconds work has waited for a first worker; tell, or give up.

        Raises
        ------
        BackendUnreachableError
            If the cluster, as it is, has no room for any, and did not grow in time.
        """
        if self.present:
            self._without_since = None
            return 0.0
        now = time.monotonic()
        if self._without_since is None:
            self._without_since = now
        waited = now - self._without_since
        if waited > min(TELL_SECONDS, self._start_timeout) and not self._told:
            self._told = True
            shortage = self._room.shortage()
            warnings.warn(
                f"no Ray worker could start for {waited:.0f} s: "
                + (shortage or "others have what it asks for, or its process is slow; waiting"),
                JobspanWarning,
                stacklevel=level_of_user(),
            )
        if waited > self._start_timeout:
            shortage = self._room.shortage()
            if shortage:
                raise BackendUnreachableError(
                    f"{shortage}, and none came within start_timeout={self._start_timeout:g} s. "
                    "Ask for less, add a node, or pass a longer start_timeout="
                )
            self._without_since = now  # others have it: that may take as long as it takes
        return waited

    # --- the end -----------------------------------------------------------------------

    def stop(self) -> None:
        """Give calls a moment to end, then kill the workers that still run something."""
        busy = [ref for member in self._members for ref in member.refs]
        if not busy or not self._ray.is_initialized():
            return
        ended, _ = self._ray.wait(
            busy, num_returns=len(busy), timeout=STOP_SECONDS, fetch_local=False
        )
        for member in self._members[:]:
            for ref in ended:
                if ref in member.refs:
                    member.settle(ref)
                    member.doubt()  # nobody looks at this reply, which may be that it died
            if member.refs and member.actor is None:
                member.kill()
                member.refs.clear()
            elif member.refs:
                self.lose(member)
            member.alone = False

    def dismiss(self) -> None:
        """Give the workers back, those that are still starting, too: the next call needs them."""
        members, self._members = self._members, []
        if self._ray.is_initialized():
            self._crew.release(members)
