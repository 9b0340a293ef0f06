"""The workers that a ``Parallel`` object holds."""

from __future__ import annotations

from itertools import count

from jobspan.executors import Executor
from jobspan.parallel.choice import Choice
from jobspan.plans import Plan

__all__ = ["HeldWorkers"]


class HeldWorkers:
    """An executor that is opened for a call and given back after it, or kept while a block lasts.

    Parameters
    ----------
    choice : Choice
        Whose backend it is; one that was made for this one object is closed as well.

    Attributes
    ----------
    kept : bool
        Whether a block lasts.
    numbers : iterator of int
        Where batches get their numbers, no two of them the same.
    """

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._executor: Executor | None = None
        self.kept = False
        self.numbers = count()

    def open(self, plan: Plan) -> Executor:
        """Return the executor that is held, else a new one."""
        if self._executor is None:
            self._executor = self._choice.backend.open(plan)
        return self._executor

    def give_back(self) -> None:
        """Close what is open, unless it is kept."""
        if not self.kept:
            self.close()

    def close(self) -> None:
        """Close what is open."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()
        if self._choice.owned:
            self._choice.backend.close()
