"""The pool inside other programs: pytest-xdist's workers, a notebook's kernel."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import nbformat
from nbclient import NotebookClient

SOURCE = """
from jobspan import Parallel, delayed

def square(x):
    return x * x

def results(n=6):
    return Parallel(n_jobs=2, backend="processes")(delayed(square)(i) for i in range(n))
"""


def test_under_pytest_xdist(tmp_path):
    test = SOURCE + textwrap.dedent(
        """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_squares(n):
            assert results(n) == [i * i for i in range(n)]
        """
    )
    (tmp_path / "test_squares.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_in_a_notebook():
    """Functions of cells travel; a cell run again with another function is not served the old."""
    cells = [
        SOURCE,
        "print(results())",
        "def square(x):\n    return -x * x",
        "print(results(3))",
        "list(Parallel(n_jobs=2, return_as='generator')(delayed(square)(i) for i in range(3)))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    printed = [
        output.get("text") or output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.outputs
    ]
    assert printed == ["[0, 1, 4, 9, 16, 25]\n", "[0, -1, -4]\n", "[0, -1, -4]"]
