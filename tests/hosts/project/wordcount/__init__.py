"""The user's project: it lies on the driver's host only."""

from wordcount.features import features

__all__ = ["features"]
