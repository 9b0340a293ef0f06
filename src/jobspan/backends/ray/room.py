"""How much of a cluster there is for workers that ask for so much each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobspan.backends.ray.connecting import ray_package

__all__ = ["Room", "fitting"]


def fitting(demands: Mapping[str, float], total: Mapping[str, float]) -> int | None:
    """Return how many workers fit into so much; None: any number, for they ask for nothing.

    Examples
    --------
    >>> fitting({"CPU": 2}, {"CPU": 8.0, "memory": 1e9})
    4
    >>> fitting({"CPU": 1, "GPU": 0.5}, {"CPU": 8.0, "GPU": 1.0})
    2
    """
    counts = [
        int(total.get(name, 0.0) / amount + 1e-9) for name, amount in demands.items() if amount > 0
    ]
    return min(counts) if counts else None


class Room:
    """How much of a cluster there is.

    Parameters
    ----------
    demands : mapping
        What a worker asks for, in Ray's words: ``num_cpus``, ``num_gpus``, ``memory``,
        ``resources``, and whatever else is no amount.
    """

    def __init__(self, demands: Mapping[str, Any]) -> None:
        self._demands: dict[str, float] = {
            "CPU": demands.get("num_cpus") or 0,
            "GPU": demands.get("num_gpus") or 0,
            "memory": demands.get("memory") or 0,
            **(demands.get("resources") or {}),
        }

    def workers(self) -> int:
        """Return for how many workers there is room, taken or not; at least 1."""
        total = ray_package().cluster_resources()
        count = fitting(self._demands, total)
        return max(1, int(total.get("CPU", 1)) if count is None else count)

    def shortage(self) -> str:
        """Say why no worker can ever start on the cluster as it is; empty if one can."""
        nodes = [node["Resources"] for node in ray_package().nodes() if node["Alive"]]
        if any(fitting(self._demands, node) != 0 for node in nodes):
            return ""
        asked = {name: amount for name, amount in self._demands.items() if amount > 0}
        names = sorted(asked)
        best = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in names}
        return f"a worker asks for {asked}, and no node of the cluster has more than {best}"
