"""How busy the machine is: limits of time in tests that take long grow with it."""

from __future__ import annotations

import os

__all__ = ["busyness"]


def busyness() -> float:
    """Return how many processes want each core, by the load of the last minute; 1 where few do.

    On a machine that does other work a call takes so many times longer.
    """
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
