"""What is passed through to Dask with every task: resources, priority, workers, annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ["TASK_OPTIONS", "TaskOptions"]

TASK_OPTIONS = (
    "resources",
    "priority",
    "workers",
    "allow_other_workers",
    "annotations",
    "keep_results",
    "keep_freed_memory",
)
"""Options of a context, and of a single ``Parallel`` call."""


class TaskOptions:
    """The options of the tasks of one ``Parallel`` call.

    Parameters
    ----------
    given : mapping
        By name, as in `TASK_OPTIONS`; None: not given.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        known = {name: value for name, value in given.items() if value is not None}
        self._annotations: dict[str, Any] = dict(known.pop("annotations", {}))
        self.keep_results = bool(known.pop("keep_results", False))
        """Whether results stay on the cluster."""
        self.keep_freed_memory = bool(known.pop("keep_freed_memory", True))
        """Whether workers keep memory that calls free for the next ones."""
        self.arguments = known
        """What `distributed.Client.map` takes."""

    def annotated(self) -> AbstractContextManager[Any]:
        """Return a block in which tasks get the annotations."""
        if not self._annotations:
            return nullcontext()
        import dask

        block: AbstractContextManager[Any] = dask.annotate(  # type: ignore[attr-defined]
            **self._annotations
        )
        return block

    @property
    def wanted(self) -> str:
        """What a worker must have, as words that follow "worker"."""
        needs = [
            f"{name}={self._needed(name)!r}"
            for name in ("resources", "workers")
            if self._needed(name)
        ]
        return f" with {', '.join(needs)}" if needs else ""

    @property
    def fits(self) -> Callable[[Mapping[str, Any]], bool] | None:
        """What tells of a worker, as the scheduler describes it, whether it can run the tasks."""
        resources: Mapping[str, float] = self._needed("resources") or {}
        workers = self._needed("workers")
        if self._needed("allow_other_workers"):
            workers = None
        if not resources and not workers:
            return None
        names = {workers} if isinstance(workers, str | int) else set(workers or ())

        def fits(worker: Mapping[str, Any]) -> bool:
            has = worker.get("resources") or {}
            return all(has.get(name, 0) >= amount for name, amount in resources.items()) and (
                not names or not names.isdisjoint(_names(worker))
            )

        return fits

    def _needed(self, name: str) -> Any:
        return self.arguments.get(name, self._annotations.get(name))

    @staticmethod
    def address(client: Any) -> str:
        """Return where a client's scheduler is, for messages."""
        return str(getattr(client.scheduler, "addr", None) or client)


def _names(worker: Mapping[str, Any]) -> set[Any]:
    """Return by what Dask lets users name a worker."""
    address = str(worker["address"])
    return {address, address.partition("://")[2], worker.get("name"), worker.get("host")}
