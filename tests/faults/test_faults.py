"""Some rows of the matrix; `make faults` runs all of them."""

from __future__ import annotations

import pytest
from tests.faults.runner import Row, reason_why_not, rows, run

QUICK = [
    Row("SIGKILL, retried", "processes", "disk"),
    Row("SIGKILL, retried", "processes", "s3"),
    Row("SIGSTOP", "processes", "none"),
    Row("out of memory", "processes", "none"),
    Row("few descriptors", "processes", "disk"),
    Row("no memory to share", "processes", "none"),
    Row("disk full", "processes", "disk"),
    Row("shared memory full", "processes", "none"),
    Row("clock jumps", "processes", "disk"),
    Row("program suspended", "threads", "none"),
    Row("torn entries", "processes", "disk"),
    Row("writer killed", "threads", "disk"),
    Row("worker killed as it stores", "processes", "disk"),
    Row("fork, the child falls through", "processes", "none"),
    Row("interpreter ends", "processes", "disk"),
    Row("interpreter ends in a thread", "processes", "none"),
    Row("Ctrl-C", "processes", "disk"),
    Row("store 500", "threads", "s3"),
    Row("store 503 for ever", "threads", "s3"),
    Row("lost answers", "processes", "s3"),
    Row("torn answers", "threads", "s3"),
]


def test_the_quick_rows_are_rows_of_the_matrix():
    assert set(QUICK) <= set(rows())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", QUICK, ids=str)
def test_row(row, request):
    if reason := reason_why_not(row):
        pytest.skip(reason)
    server = request.getfixturevalue("moto_server") if row.store == "s3" else None
    outcome = run(row, server, seed=5)
    assert not outcome.problem, outcome.problem
