"""What is passed through to Dask with every task: resources, priority, workers, annotations."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["TASK_OPTIONS", "TaskOptions", "in_span"]

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

SPAN = {"name": ("jobspan",), "ids": (str(uuid.uuid4()),)}
"""Where Dask adds up what all tasks of this process took. It would begin another span whenever it
had nothing to do, and keep each for as long as its scheduler lives."""


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
        return in_span(**self._annotations)

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


def in_span(**annotations: Any) -> AbstractContextManager[Any]:
    """Return a block in which tasks get the annotations, and our span unless they have another."""
    import dask

    around = dask.get_annotations()  # type: ignore[attr-defined]
    span = {} if "span" in around else {"span": SPAN}
    block: AbstractContextManager[Any] = dask.annotate(  # type: ignore[attr-defined]
        **(span | annotations)
    )
    return block


def _names(worker: Mapping[str, Any]) -> set[Any]:
    """Return by what Dask lets users name a worker."""
    address = str(worker["address"])
    return {address, address.partition("://")[2], worker.get("name"), worker.get("host")}
