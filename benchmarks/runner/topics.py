"""What there is to measure: the modules beside the runner that have ``CASES`` or ``CURVES``.

One may have ``SHARED``, what its contestants share in a quick run: a cluster that each of them
starts for itself otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Case, Curve

__all__ = ["Topic", "topics"]

FOLDER = Path(__file__).parents[1]
NO_TOPICS = {"__init__", "__main__", "contest", "peers", "servers"}


@dataclass(frozen=True, slots=True)
class Topic:
    """A module of cases.

    Parameters
    ----------
    name : str
        The module's name.
    about : str
        The first line of its docstring.
    cases : sequence of Case
        What it compares.
    curves : sequence of Curve
        What it draws.
    shared : callable
        Returns the context in which the cases of a quick run are measured: what they share.
    """

    name: str
    about: str
    cases: Sequence[Case]
    curves: Sequence[Curve]
    shared: Callable[[], AbstractContextManager[None]] = nullcontext

    def matching(self, words: Sequence[str]) -> Topic:
        """Return the topic with only what a word names: a topic, or a part of a name."""
        if not words or self.name in words:
            return self
        words = [word for word in words if not (FOLDER / f"{word}.py").exists()]
        return Topic(
            self.name,
            self.about,
            [case for case in self.cases if any(word in case.name for word in words)],
            [curve for curve in self.curves if any(word in curve.name for word in words)],
            self.shared,
        )


def topics() -> list[Topic]:
    """Return every topic, in the order of their names."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem not in NO_TOPICS:
            module = importlib.import_module(f"benchmarks.{path.stem}")
            about = (module.__doc__ or path.stem).strip().splitlines()[0]
            cases, curves = getattr(module, "CASES", []), getattr(module, "CURVES", [])
            shared = getattr(module, "SHARED", nullcontext)
            found.append(Topic(path.stem, about, list(cases), list(curves), shared))
    return found
