"""A contest: contestants that take turns, each round in a fresh interpreter, medians compared.

A contestant is Python source that sets ``seconds``, and sometimes ``megabytes`` or ``requests``.
A cold one is timed from outside, start and exit of the interpreter included. A curve's contestant
sets ``points``: pairs of a size and a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Case", "Contestant", "Curve", "Line"]

UNITS = {"seconds": "s", "megabytes": "MB", "tree_megabytes": "MB", "requests": "requests"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """One side of a case.

    Parameters
    ----------
    source : str
        What it runs; sets ``seconds`` unless it is cold.
    cold : bool
        Whether the whole life of the interpreter is what is timed.
    """

    source: str
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured, and what must be reached.

    Parameters
    ----------
    name : str
        What is measured.
    contestants : mapping of str to Contestant
        By the library's name; ``jobspan`` is one of them.
    at_most : mapping of str to float
        How many times a peer's figure jobspan may reach; ``"ideal"``: how many times 1.0, for cases
        whose contestants report a multiple of what cannot be beaten; a measure, such as
        ``"seconds"`` or ``"requests"``: that many.
    memory_of : str or None
        The peer whose parent's memory must not be exceeded; contestants set ``megabytes``.
    measure : {"seconds", "megabytes", "tree_megabytes", "requests"}
        Which figure is compared, unless `at_most` names another. ``tree_megabytes`` is taken by the
        runner: the largest resident set of the contestant's interpreter and all its descendants
        together.
    quick : mapping of str to str
        What to replace in the sources for a smaller load, such as ``{"1_000_000": "100_000"}``.
    limit : float
        Seconds after which a contestant's round is ended and counts as failed.
    rounds : int
        How many rounds are enough, for what takes long and is steady.
    unit : str
        What the figures are in, if not in the measure's unit; ``x``: a multiple of the ideal.
    """

    name: str
    contestants: Mapping[str, Contestant]
    at_most: Mapping[str, float] = field(default_factory=dict)
    memory_of: str | None = None
    measure: str = "seconds"
    quick: Mapping[str, str] = field(default_factory=dict)
    limit: float = 120.0
    rounds: int = 99
    unit: str = ""

    @property
    def compared(self) -> str:
        """The name of the figure that is compared."""
        return next((name for name in self.at_most if name in UNITS), self.measure)


@dataclass(frozen=True, slots=True)
class Curve:
    """How a figure grows with a size; reported and drawn, both axes logarithmic.

    Parameters
    ----------
    name : str
        What grows with what.
    contestants : mapping of str to Contestant
        By the library's name. Each sets ``points``.
    x, y : str
        What the axes show, units included.
    quick, limit, rounds
        As in a `Case`.
    """

    name: str
    contestants: Mapping[str, Contestant]
    x: str
    y: str
    quick: Mapping[str, str] = field(default_factory=dict)
    limit: float = 120.0
    rounds: int = 99


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison of a case.

    Parameters
    ----------
    case, peer : str
        What was measured, and beside whom.
    ours, theirs : float
        Medians, in `unit`; nan where there is none.
    spread : float
        The largest of our rounds divided by the smallest.
    bound : float or None
        How large `ratio` may be; None: it is only reported.
    unit : str
        What `ours` and `theirs` are in; ``x``: a multiple of the ideal.
    trouble : str
        Why there is no figure.
    topic : str
        The topic of the case.
    """

    case: str
    peer: str
    ours: float
    theirs: float
    spread: float
    bound: float | None
    unit: str = "s"
    trouble: str = ""
    topic: str = ""

    @property
    def ratio(self) -> float:
        """Ours divided by theirs."""
        if self.theirs:
            return self.ours / self.theirs
        return float("inf") if self.ours else 1.0

    @property
    def holds(self) -> bool:
        """Whether the bound holds; a line without one does."""
        return self.bound is None or (not self.trouble and self.ratio <= self.bound)

    @property
    def verdict(self) -> str:
        """What to say of the bound: nothing where there is none."""
        if self.trouble:
            return "no figure"
        return "" if self.bound is None else "holds" if self.holds else "MISSED"

    @property
    def has_peer(self) -> bool:
        """Whether `theirs` is another library's figure, not a unit to measure in."""
        return bool(self.peer) and self.peer != "ideal" and self.peer not in UNITS
