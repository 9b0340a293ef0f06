"""The Ray backend: calls run in reusable worker actors of a Ray cluster.

::

    executor ── actor.run(batch) ──── worker actor, one CPU each
        │                                 ▲
        └── ray.put once a content ───────┘   read without a copy
"""

from jobspan.backends.ray.backend import RayBackend

__all__ = ["RayBackend"]
