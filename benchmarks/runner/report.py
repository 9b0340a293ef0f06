"""Write what the last run found: ``python -m benchmarks.runner.report build/benchmarks.json``.

``docs/benchmarks.md``, its plots, and the figures in ``README.md``; nothing of it is typed by hand.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.contest import Line
from benchmarks.runner import figures
from benchmarks.runner.plots import bounds_plot, curve_plot
from benchmarks.runner.results import DrawnCurve, Results

__all__ = ["page", "plots", "readme_with", "write"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
KEPT = FOLDER / "results.json"
README = ROOT / "README.md"

# The lines that README shows, in this order, as far as the run has them.
IN_README = (
    ("cold script: import, 4 no-op calls on 2 workers, exit", "joblib"),
    ("3,000 no-op calls, batch_size=1, warm", "joblib"),
    ("threads: 20,000 no-op calls", "joblib"),
    ("4 results of 80 MB, list", "joblib"),
    ("float64 array of 80 MB, C order", "joblib"),
    ("local hit, small value", "joblib"),
)

_INTRODUCTION = """\
# Benchmarks

jobspan beside what one would pick instead: all contestants of a case run in turn, in the same run
on the same machine, each round in a fresh interpreter and each library at its best settings; the
sources stand side by side in `benchmarks/`. Figures are medians of the rounds; a peer that no bound
names runs in the first round only. A *ratio* is jobspan's figure divided by the peer's: below 1,
jobspan is ahead. A *spread* is jobspan's slowest round divided by its quickest.

`make bench` measures all of this anew and ends with an error if a bound does not hold,
`make bench ONLY=keys` a part of it, `make bench ARGS=--resume` what a run that was ended lacks,
`make bench-quick` smaller loads beside the peers that bounds name. `make bench-report` writes this
page, its plots and the figures in `README.md` from the last run; the raw figures are in
`docs/benchmarks/results.json`.
"""


def page(results: Results) -> str:
    """Return the page."""
    parts = [_INTRODUCTION, "## The run", _facts(results), "## Bounds", *_bounds(results.lines)]
    parts += ["## Where jobspan is behind", *_behind(results.lines)]
    for name in dict.fromkeys(line.topic for line in results.lines):
        title, _, rest = results.topics.get(name, name).rstrip(".").partition(": ")
        parts += [f"## {title}"]
        parts += [f"{rest[:1].upper()}{rest[1:]} (`benchmarks/{name}.py`)."] if rest else []
        parts += [_table([line for line in results.lines if line.topic == name])]
    if results.curves:
        parts += ["## Scaling"]
    for curve in results.curves:
        parts += [f"### {curve.name[:1].upper()}{curve.name[1:]}", *_curve(curve)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _facts(results: Results) -> str:
    facts = dict(results.facts)
    first = [facts.pop(name) for name in ("date", "machine", "system") if name in facts]
    took = facts.pop("took", "")
    versions = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{'; '.join(first)}. {took[:1].upper()}{took[1:]}.\n\n{versions}."


def _bounds(lines: Sequence[Line]) -> Iterator[str]:
    bounded = [line for line in lines if line.bound is not None]
    held = sum(line.holds for line in bounded)
    yield f"{held} of {len(bounded)} bounds hold."
    if missed := [line for line in bounded if not line.holds]:
        yield "Not held:\n\n" + "\n".join(_missed(line) for line in missed)
    yield "![How much of each bound is taken](benchmarks/bounds.svg)"


def _missed(line: Line) -> str:
    beside = f" beside {line.peer}" if line.has_peer else ""
    if line.trouble:
        return f"- {line.case}{beside}: no figure ({line.trouble})"
    reached = figures.share(line) or figures.amount(line.ours, line.unit)
    return f"- {line.case}{beside}: {reached}, allowed {figures.bound(line)}"


def _behind(lines: Sequence[Line]) -> Iterator[str]:
    behind = [line for line in lines if line.has_peer and not line.trouble and line.ratio > 1.05]
    loop = [line for line in behind if line.peer == "loop"]
    rest = sorted((line for line in behind if line.peer != "loop"), key=lambda line: -line.ratio)
    yield (
        "Every comparison in which a peer's figure is better by more than 5 %, the worst first."
        if rest
        else "In no comparison is a peer's figure better by more than 5 %."
    )
    if rest:
        yield "| case | peer | ratio |\n| --- | --- | --- |\n" + "\n".join(
            f"| {line.case} | {line.peer} | {figures.share(line)} |" for line in rest
        )
    if loop:
        worst = max(loop, key=lambda line: line.ratio)
        yield (
            f"A plain loop is ahead in {len(loop)} cases, of calls too short to be worth a worker:"
            f" up to {figures.plain(worst.ratio)} {figures.TIMES} ({worst.case})."
        )


def _table(lines: Sequence[Line]) -> str:
    head = "| case | jobspan | spread | peer | theirs | ratio | bound | |"
    rows = [head, "| --- |" + " --- |" * 7]
    last = ""
    for line in lines:
        name, last = ("" if line.case == last else line.case), line.case
        ours = figures.amount(line.ours, line.unit) if name else ""
        spread = f"{line.spread:.2f}" if name and not line.trouble else ""
        verdict = f"no figure: {line.trouble}" if line.trouble else line.verdict
        verdict = f"**{verdict}**" if not line.holds else verdict
        peer = line.peer if line.has_peer else ""
        cells = (name, ours, spread, peer, figures.theirs(line), figures.share(line))
        rows.append(f"| {' | '.join(cells)} | {figures.bound(line)} | {verdict} |")
    return "\n".join(rows)


def _curve(curve: DrawnCurve) -> Iterator[str]:
    yield f"![{curve.name}: {curve.y}](benchmarks/{_file_name(curve)})"
    names = [name for name, points in curve.points.items() if points]
    sizes = sorted({x for name in names for x, _ in curve.points[name]})
    rows = [f"| {curve.x} | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for size in sizes:
        found = [{each[0]: each[1] for each in curve.points[name]} for name in names]
        cells = [figures.plain(each[size]) if size in each else "" for each in found]
        rows.append(f"| {figures.plain(size)} | {' | '.join(cells)} |")
    yield f"{curve.y[:1].upper()}{curve.y[1:]}:\n\n" + "\n".join(rows)
    for name, why in curve.troubles.items():
        yield f"{name}: no figure ({why})."


def _file_name(curve: DrawnCurve) -> str:
    return re.sub(r"[^a-z0-9]+", "-", curve.name.lower()).strip("-") + ".svg"


def plots(results: Results) -> dict[str, str]:
    """Return the plots, by the names of their files."""
    found = {"bounds.svg": bounds_plot(results.lines)}
    return found | {
        _file_name(curve): curve_plot(curve)
        for curve in results.curves
        if any(curve.points.values())
    }


def readme_with(results: Results, readme: str) -> str:
    """Return README with the figures of a run between its two marks."""
    by_name = {(line.case, line.peer): line for line in results.lines}
    shown = [by_name[each] for each in IN_README if each in by_name and not by_name[each].trouble]
    rows = ["| | joblib | jobspan | ratio |", "| --- | --- | --- | --- |"]
    rows += [
        f"| {line.case} | {figures.theirs(line)} | {figures.amount(line.ours, line.unit)}"
        f" | {figures.share(line)} |"
        for line in shown
    ]
    begin, end = "<!-- figures: make bench-report -->", "<!-- end of figures -->"
    before, mark, rest = readme.partition(begin)
    _, end_mark, after = rest.partition(end)
    if not (mark and end_mark):
        raise ValueError(f"README has no line {begin!r} with {end!r} below it, for the figures")
    return f"{before}{begin}\n" + "\n".join(rows) + f"\n{end}{after}"


def write(results: Results) -> None:
    """Write the page, the plots and the figures in README."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    for name, plot in plots(results).items():
        (FOLDER / name).write_text(plot, encoding="utf-8")
    results.write(KEPT)
    PAGE.write_text(page(results), encoding="utf-8")
    README.write_text(readme_with(results, README.read_text("utf-8")), encoding="utf-8")


def main() -> None:
    """Write everything from the file that a run wrote."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runner.report")
    parser.add_argument("results", type=Path, help="what `python -m benchmarks --json` wrote")
    results = Results.read(parser.parse_args().results)
    write(results)
    print(f"{results.verdict()}; wrote {PAGE.relative_to(ROOT)} and its plots")


if __name__ == "__main__":
    main()
