"""Client and workers understand each other if they run the same versions of what pickles."""

from __future__ import annotations

import weakref
from typing import Any

from jobspan.errors import VersionMismatchError

__all__ = ["check_versions"]

_checked: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
"""The workers, by client, that were found to fit."""


def check_versions(client: Any, addresses: set[str]) -> None:
    """Refuse workers that could not understand what they are sent.

    They are asked by Dask's own messages: code of another Python would not even arrive.

    Parameters
    ----------
    client : distributed.Client
        The connection.
    addresses : set of str
        The workers to look at.

    Raises
    ------
    VersionMismatchError
        If jobspan is missing there, or versions differ in what matters.
    """
    known = _checked.setdefault(client, set())
    new = addresses - known
    if not new:
        return
    found = client.get_versions(packages=["jobspan", "cloudpickle"])
    here = _facts(found["client"])
    for address, answer in found["workers"].items():
        if address not in new or not isinstance(answer, dict):
            continue
        there = _facts(answer)
        if there["jobspan"] is None:
            raise VersionMismatchError(
                f"Dask worker {address} has no jobspan; install jobspan=={here['jobspan']} there"
            )
        for name, version in here.items():
            if there[name] != version:
                raise VersionMismatchError(
                    f"Dask worker {address} has {name} {there[name]}, this process {version}; "
                    "they must be the same"
                )
    known |= new


def _facts(versions: Any) -> dict[str, str | None]:
    packages = dict(versions["packages"])
    python = str(versions["host"]["python"]).split(".")
    return {
        "Python": ".".join(python[:2]),
        "jobspan": packages.get("jobspan"),
        "cloudpickle": packages.get("cloudpickle"),
    }
