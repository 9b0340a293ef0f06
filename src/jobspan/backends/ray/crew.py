"""The workers of one backend: actors that are idle, started when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobspan.backends.ray.connecting import ray_package
from jobspan.backends.ray.running import WorkerActor, run_task
from jobspan.errors import VersionMismatchError
from jobspan.transport.protocol import EncodedBatch

__all__ = ["Crew", "Member"]

START_SECONDS = 120.0
"""How long the first worker may take to start; a cluster may have to grow for it."""


class Member:
    """A worker: an actor, or in a Ray task a place for a further task.

    Parameters
    ----------
    actor : actor handle or None
        None: every batch is a task of its own.
    task : remote function or None
        Runs a batch as a task.
    """

    __slots__ = ("actor", "blamed", "ready", "refs", "task")

    def __init__(self, actor: Any, task: Any, ready: Any) -> None:
        self.actor = actor
        self.task = task
        self.ready = ready
        self.refs: list[Any] = []
        self.blamed = False

    def send(
        self, name: str, encoded: EncodedBatch, mode: str | None, shared: Sequence[Any]
    ) -> Any:
        """Send a batch; return the reference to what comes of it."""
        run = self.task.options(name=name) if self.actor is None else self.actor.run
        if self.actor is not None:
            run = run.options(name=name)
        ref = run.remote(encoded, mode, *shared)
        self.refs.append(ref)
        return ref

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
    tasks : bool
        Whether batches are tasks: nested in a Ray task, which gives its CPU away while it waits.
    """

    def __init__(self, demands: dict[str, Any], *, tasks: bool) -> None:
        ray = ray_package()
        self._actors = ray.remote(max_restarts=0, max_task_retries=0, **demands)(WorkerActor)
        self._task = ray.remote(max_retries=0, **demands)(run_task) if tasks else None
        self._idle: list[Member] = []
        self._checked = False

    def hire(self) -> Member:
        """Return an idle worker, or a new one, which starts while it is sent batches."""
        if self._idle:
            return self._idle.pop()
        if self._task is not None:
            return Member(None, self._task, None)
        actor = self._actors.remote()
        return Member(actor, None, actor.versions.remote())

    def check(self, member: Member) -> None:
        """Refuse workers that could not understand what they are sent; asked of the first only.

        Raises
        ------
        VersionMismatchError
            If jobspan is missing there, or versions differ in what matters.
        """
        if self._checked or member.ready is None:
            return
        ray = ray_package()
        here = WorkerActor().versions()
        ready, _ = ray.wait([member.ready], timeout=START_SECONDS)
        if not ready:
            return  # the cluster has no room yet: batches wait for it
        try:
            there = ray.get(member.ready)
        except ray.exceptions.RayError as error:
            raise VersionMismatchError(
                f"a Ray worker cannot start; is jobspan=={here['jobspan']} installed there? {error}"
            ) from error
        for name, version in here.items():
            if there[name] != version:
                raise VersionMismatchError(
                    f"Ray's workers have {name} {there[name]}, this process {version}; they must "
                    "be the same"
                )
        self._checked = True

    def release(self, members: Sequence[Member]) -> None:
        """Take workers back that run nothing."""
        for member in members:
            member.refs.clear()
            if member.actor is not None:
                self._idle.append(member)

    def dismiss(self) -> None:
        """Give all idle workers back to the cluster."""
        for member in self._idle:
            member.kill()
        self._idle.clear()
