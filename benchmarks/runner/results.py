"""What a run found, as it is printed and as it is kept in a file."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contest import Curve, Line
from benchmarks.runner.running import Rounds

__all__ = ["HEAD", "DrawnCurve", "Results", "facts", "table_line"]

PACKAGES = [
    *("joblib", "dask", "distributed", "ray", "mpire", "diskcache", "cachier", "blake3"),
    *("cloudpickle", "numpy", "pandas", "pyarrow", "scikit-learn", "fsspec", "s3fs", "obstore"),
    "moto",
]
HEAD = (
    f"{'case':68} {'ours':>13} {'peer':>11} {'theirs':>13} {'ratio':>7} {'bound':>6} {'':9}spread"
)


@dataclass(frozen=True, slots=True)
class DrawnCurve:
    """A curve's points.

    Parameters
    ----------
    topic, name, x, y : str
        What it shows.
    points : mapping of str to sequence of pairs
        By contestant.
    troubles : mapping of str to str
        By contestant, why there are none.
    """

    topic: str
    name: str
    x: str
    y: str
    points: Mapping[str, Sequence[tuple[float, float]]]
    troubles: Mapping[str, str]

    @classmethod
    def of(cls, topic: str, curve: Curve, found: Rounds) -> DrawnCurve:
        """Return a curve with its points, rounded to what they are worth."""
        points = {
            name: [(x, float(f"{y:.4g}")) for x, y in found.points(name)]
            for name in curve.contestants
        }
        return cls(topic, curve.name, curve.x, curve.y, points, dict(found.troubles))

    def table(self) -> str:
        """Return the points as text, a row a size."""
        sizes = sorted({x for points in self.points.values() for x, _ in points})
        names = [name for name, points in self.points.items() if points]
        width = max([14, *map(len, names)]) + 1
        head = "".join(f"{name:>{width}}" for name in names)
        rows = [f"{self.name}: {self.y}", f"{self.x[:20]:>20}{head}"]
        for size in sizes:
            at = [dict(self.points[name]).get(size, math.nan) for name in names]
            cells = "".join(f"{'' if math.isnan(y) else format(y, '.4g'):>{width}}" for y in at)
            rows.append(f"{size:>20,.6g}{cells}")
        rows += [f"{name}: {why}" for name, why in self.troubles.items()]
        return "\n".join(rows)


@dataclass(slots=True)
class Results:
    """All that a run found.

    Parameters
    ----------
    facts : dict
        What the figures depend on.
    lines : list of Line
        The comparisons.
    curves : list of DrawnCurve
        The curves.
    topics : dict
        What each topic is about, by its name.
    minutes : float
        How long the runs took whose figures were taken over.
    """

    facts: dict[str, str]
    lines: list[Line] = field(default_factory=list)
    curves: list[DrawnCurve] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0

    def has(self, name: str) -> bool:
        """Whether there is a case or a curve of that name."""
        return name in {line.case for line in self.lines} | {curve.name for curve in self.curves}

    def take_over(self, earlier: Results) -> None:
        """Begin with what a run found that was ended; refuse figures of another installation.

        Raises
        ------
        SystemExit
            If the earlier run had another machine or other versions.
        """
        facts = dict(earlier.facts)
        took = facts.pop("took", "0")
        changed = [name for name, fact in self.facts.items() if facts.get(name) != fact]
        if changed:
            raise SystemExit(
                "the figures there are of another day, machine or installation: "
                + ", ".join(f"{name} was {facts.get(name)}" for name in changed)
                + "; measure without --resume"
            )
        self.minutes = float(took.split()[0])
        self.lines = list(earlier.lines)
        self.curves = list(earlier.curves)
        self.topics = earlier.topics | self.topics

    def verdict(self) -> str:
        """Return how many bounds hold."""
        bounded = [line for line in self.lines if line.bound is not None]
        return f"{sum(line.holds for line in bounded)} of {len(bounded)} bounds hold"

    def hold(self) -> bool:
        """Whether every bound holds and jobspan itself failed nowhere."""
        ours = [line.trouble for line in self.lines] + [
            name + ":" for curve in self.curves for name in curve.troubles
        ]
        return all(line.holds for line in self.lines) and not any(
            each.startswith("jobspan:") for each in ours
        )

    def write(self, path: Path) -> None:
        """Keep everything in a JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            {**_finite(asdict(line)), "ratio": _number(line.ratio), "verdict": line.verdict}
            for line in self.lines
        ]
        curves = [asdict(curve) for curve in self.curves]
        whole = {"facts": self.facts, "topics": self.topics, "lines": lines, "curves": curves}
        path.write_text(json.dumps(whole, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what `write` kept."""
        whole = json.loads(path.read_text())
        names = [each.name for each in fields(Line)]
        lines = [Line(**{name: _read(name, row[name]) for name in names}) for row in whole["lines"]]
        curves = [DrawnCurve(**each) for each in whole["curves"]]
        return cls(whole["facts"], lines, curves, whole["topics"])


def _read(name: str, value: Any) -> Any:
    return math.nan if value is None and name in {"ours", "theirs"} else value


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _number(v) if isinstance(v, float) else v for k, v in row.items()}


def facts() -> dict[str, str]:
    """Return what the figures depend on, nothing that names the machine or its user."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    memory = psutil.virtual_memory().total / 2**30
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "jobspan": metadata.version("jobspan"),
        **versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def table_line(line: Line) -> str:
    """Return a comparison as a line of the printed table."""
    if line.trouble:
        bound = "" if line.bound is None else f"(bound {line.bound:.3g}) "
        return f"{line.case[:68]:68} {line.peer[:11]:>24} no figure {bound}{line.trouble}"
    bound = "" if line.bound is None else f"{line.bound:.3g}"
    ours = f"{line.ours:.4g} {line.unit[:3]:3}"
    theirs = f"{line.theirs:.4g} {line.unit[:3]:3}" if line.has_peer else ""
    ratio = f"{line.ratio:.3g}" if line.peer else ""
    return (
        f"{line.case[:68]:68} {ours:>13} {line.peer[:11]:>11} {theirs:>13} "
        f"{ratio:>7} {bound:>6} {line.verdict:9}{line.spread:>6.2f}"
    )
