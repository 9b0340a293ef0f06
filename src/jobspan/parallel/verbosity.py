"""The lines that ``verbose=`` prints, in joblib's wording and cadence."""

from __future__ import annotations

import sys
from math import floor, log10, sqrt

from jobspan.logger import short_format_time
from jobspan.parallel.tracking import Tracker

__all__ = ["ProgressLines"]


class ProgressLines:
    """Decides which lines are due, and writes them: to stderr, from verbosity 50 up to stdout.

    Parameters
    ----------
    owner : str
        Whose lines they are, as they begin.
    verbose : int
        The verbosity; lines come the more often the larger it is, every one above 10.
    total : int or None
        How many calls there are, where it is known.
    pre_dispatched : int
        How many batches joblib would dispatch before the first result; then one for each that ends.
    """

    def __init__(self, owner: str, verbose: int, total: int | None, pre_dispatched: int) -> None:
        self._owner = owner
        self._verbose = verbose
        self._total = total
        self._pre_dispatched = pre_dispatched

    def write(self, message: str) -> None:
        """Write one line."""
        stream = sys.stderr if self._verbose < 50 else sys.stdout
        stream.write(f"[{self._owner}]: {message}\n")
        stream.flush()

    def write_due(self, tracker: Tracker) -> None:
        """Write the line that is due when calls are as far as a tracker has counted, if one is."""
        line = self._due(
            tracker.stats.batches, tracker.stats.calls, tracker.total, tracker.elapsed()
        )
        if line is not None:
            self.write(line)

    def _due(self, batches: int, completed: int, total: int | None, elapsed: float) -> str | None:
        width = floor(log10(self._total)) + 1 if self._total else 3
        since = f"| elapsed: {short_format_time(elapsed)}"
        if total is not None and completed == total:
            return f"Done {completed:{width}d} out of {completed:{width}d} {since} finished"
        if total is None:
            if self._is_skipped(self._pre_dispatched + batches - 1):
                return None
            if self._total is not None:
                return f"Done {completed:{width}d} out of {self._total:{width}d} {since}"
            padding = " " * (len("out of ") + width - len("tasks"))
            return f"Done {completed:{width}d} tasks {padding}{since}"
        if completed:
            cursor = total - completed + 1 - self._pre_dispatched
            frequency = total // self._verbose + 1
            if completed + 1 == total or cursor % frequency:
                return None
        remaining = elapsed / max(completed, 1) * (total - completed)
        return (
            f"Done {completed:{width}d} out of {total:{width}d} {since} remaining: "
            f"{short_format_time(remaining)}"
        )

    def _is_skipped(self, batches: int) -> bool:
        """Whether no line is due after so many batches: the gaps grow with the square root."""
        if self._verbose > 10:
            return False
        if batches < 1:
            return False
        scale = 0.5 * (11 - self._verbose) ** 2
        return int(sqrt((batches + 1) / scale)) == int(sqrt(batches / scale))
