"""``progress=True``: plain lines, a bar on a terminal, a widget in a notebook."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from nbclient import NotebookClient

from jobspan import Parallel, delayed
from jobspan.parallel.progress import ProgressEvent

SCRIPT = """
import time
from jobspan import Parallel, delayed
from jobspan.parallel.progress import ProgressEvent
def work(i):
    time.sleep(0.01)
    if i == 3: raise ValueError(i)
    return i
calls = [delayed(work)(i) for i in range(40)]
Parallel(n_jobs={n_jobs}, backend="threads", progress=True, on_error="skip")(calls)
"""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_plain_lines_where_stderr_is_no_terminal(n_jobs: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(n_jobs=n_jobs)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Parallel(n_jobs={n_jobs}): 40/40 (100 %), ")
    assert line.endswith("1 failed")
    assert done.stdout == ""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_on_a_terminal(n_jobs: int) -> None:
    ours, theirs = pty.openpty()
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(n_jobs=n_jobs)],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    drawn = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            drawn += os.read(ours, 1 << 16)
        except OSError:  # the other side has closed it
            break
    os.close(ours)
    assert script.wait(10) == 0
    text = drawn.decode()
    assert "━" in text
    assert "40/40" in text
    assert "1 failed" in text
    assert "/s" in text


def test_one_job_tells_as_it_goes() -> None:
    """After calls too short to be timed, too; and what counts the time ends with the calls."""
    told: list[ProgressEvent] = []
    durations = [*[0.0] * 20_000, *[0.25] * 3]
    Parallel(n_jobs=1, progress=told.append)(delayed(time.sleep)(s) for s in durations)
    assert [told[0].kind, told[-1].kind] == ["started", "finished"]
    assert {20_001, 20_002} <= {event.done for event in told if event.kind == "advanced"}
    assert told[-1].done == 20_003
    time.sleep(0.05)
    assert "jobspan-pulse" not in {thread.name for thread in threading.enumerate()}


def test_a_widget_in_a_notebook() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SCRIPT.format(n_jobs=2))])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (cell,) = notebook.cells
    shown = [output for output in cell.outputs if output.output_type == "display_data"]
    assert any("40/40" in output["data"].get("text/html", "") for output in shown), cell.outputs


def test_a_listener_that_raises_ends_the_call_with_its_error() -> None:
    def listener(event: object) -> None:
        raise RuntimeError("in the listener")

    with pytest.raises(RuntimeError, match="in the listener"):
        Parallel(n_jobs=2, backend="threads", progress=listener)([delayed(abs)(-1)])
    assert Parallel(n_jobs=2, backend="threads")([delayed(abs)(-1)]) == [1]
