"""Dask's own page about a stretch of time: task stream, profile, bandwidths."""

from __future__ import annotations

import contextlib
import warnings
from os import PathLike, fspath
from typing import Any

from jobspan.backends.dask.connecting import distributed
from jobspan.errors import JobspanWarning

__all__ = ["PerformanceReport"]


class PerformanceReport:
    """Writes Dask's performance report about the time until `close`.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    path : str or PathLike
        The file to write.
    """

    def __init__(self, client: Any, path: str | PathLike[str]) -> None:
        self._client = client
        self._path = fspath(path)
        self._block = contextlib.ExitStack()
        with client.as_current():
            self._block.enter_context(distributed().performance_report(filename=self._path))

    def close(self) -> None:
        """Write the page; what goes wrong with it is told, and costs no result."""
        try:
            with self._client.as_current():
                self._block.close()
        except Exception as error:  # noqa: BLE001 - the results are there
            warnings.warn(
                f"Dask's performance report could not be written to {self._path!r}: {error}. Its "
                "scheduler needs the package bokeh for it.",
                JobspanWarning,
                stacklevel=2,
            )
