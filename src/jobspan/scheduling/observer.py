"""What a scheduler tells of its work to whoever keeps count."""

from __future__ import annotations

from typing import Protocol

from jobspan.calls import Batch
from jobspan.outcomes import Failure, Outcome

__all__ = ["Observer"]


class Observer(Protocol):
    """Is told what the scheduler does; called in the scheduler's thread."""

    def dispatched(self, batch: Batch) -> None:
        """`batch` was submitted."""
        ...

    def completed(self, batch: Batch, outcome: Outcome) -> None:
        """`batch` came back."""
        ...

    def settled(self, calls: int, failures: int) -> None:
        """So many more calls have their result for good, so many of them by failing."""
        ...

    def retried(self, index: int, failure: Failure, pause: float) -> None:
        """The call `index` failed and is tried again after `pause` seconds."""
        ...

    def recalled(self, calls: int) -> None:
        """So many calls were found stored."""
        ...

    def exhausted(self, total: int) -> None:
        """The iterable has ended; there are `total` calls in all."""
        ...
