"""The lines of ``verbose=`` beside joblib's own, number for number but for the seconds."""

from __future__ import annotations

import re
import time
from typing import Any

import joblib
import pytest

import jobspan

FORMS = (
    r"Using backend \w+ with \d+ concurrent workers\.",
    r"Done +\d+ tasks +\| elapsed: +[\d.]+(s|min)",
    r"Done +\d+ out of +\d+ \| elapsed: +[\d.]+(s|min)( remaining: +[\d.]+(s|min)| finished)?",
)


def said(library: Any, capsys: pytest.CaptureFixture[str], calls: Any, **arguments: Any) -> Any:
    """Return what a library prints, seconds left out, by stream."""
    library.Parallel(batch_size=1, **arguments)(calls)
    told = capsys.readouterr()
    return [re.sub(r" +[\d.]+(s|min)", " T", stream) for stream in (told.out, told.err)]


@pytest.mark.parametrize("verbose", [1, 5, 10, 11, 49, 50, 100])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [1, 7, 120])
def test_the_same_lines_as_joblib(
    capsys: pytest.CaptureFixture[str], verbose: int, known: bool, count: int
) -> None:
    calls = [joblib.delayed(abs)(i) for i in range(count)]
    theirs, ours = (
        said(library, capsys, calls if known else iter(calls), n_jobs=1, verbose=verbose)
        for library in (joblib, jobspan)
    )
    assert ours == theirs
    assert bool(ours[0]) == (verbose >= 50)
    assert not (ours[1] and verbose >= 50)


@pytest.mark.parametrize("known", [True, False])
def test_every_line_of_several_workers_has_a_form_of_joblibs(
    capsys: pytest.CaptureFixture[str], known: bool
) -> None:
    calls = [jobspan.delayed(abs)(i) for i in range(40)]
    arguments: dict[str, Any] = {"n_jobs": 2, "backend": "threading", "verbose": 60}
    jobspan.Parallel(batch_size=1, **arguments)(calls if known else iter(calls))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    for line in lines:
        head, text = line.split(": ", 1)
        assert head == "[Parallel(n_jobs=2)]"
        assert any(re.fullmatch(form, text) for form in FORMS), line


def doze(i: int) -> int:
    time.sleep(0.002 + 0.0005 * (i % 3))
    return i


@pytest.mark.parametrize("verbose", [1, 5, 10, 11, 60])
@pytest.mark.parametrize("known", [True, False])
def test_the_cadence_of_several_workers_is_joblibs(
    capsys: pytest.CaptureFixture[str], verbose: int, known: bool
) -> None:
    """But for the last few lines: whether the end was seen by then is a matter of microseconds."""
    count, last = 80, 70

    def cadence(library: Any) -> list[str]:
        calls = [joblib.delayed(doze)(i) for i in range(count)]
        arguments = {"n_jobs": 2, "backend": "threading", "verbose": verbose}
        streams = said(library, capsys, calls if known else iter(calls), **arguments)
        lines = "".join(streams).splitlines()
        done = [re.search(r"Done +(\d+)", line) for line in lines]
        assert lines[-1].endswith("finished")
        return [
            line for line, at in zip(lines, done, strict=True) if at and int(at.group(1)) <= last
        ]

    assert cadence(jobspan) == cadence(joblib)
