"""Every block of Python in the documentation runs, on a real bucket and a real cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(
    page.relative_to(DOCS).as_posix()
    for page in DOCS.rglob("*.md")
    if "_build" not in page.parts and "```python\n" in page.read_text(encoding="utf-8")
)


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """Give the address of a Dask cluster that runs."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address.removeprefix("tcp://")


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    source = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    environment = dict(os.environ)
    environment.pop("JOBSPAN_BACKEND", None)
    code = "\n".join(line.partition("  # or ")[0] for line in source.splitlines())
    if "scheduler:8786" in code:
        source = source.replace("scheduler:8786", request.getfixturevalue("scheduler"))
    if '"s3://team-bucket' in code:
        server = request.getfixturevalue("moto_server")
        server.bucket_url("team-bucket")
        options = server.storage_options
        environment.update(
            AWS_ACCESS_KEY_ID=options["key"],
            AWS_SECRET_ACCESS_KEY=options["secret"],
            AWS_ENDPOINT_URL=options["endpoint_url"],
            AWS_DEFAULT_REGION="us-east-1",
            AWS_ALLOW_HTTP="true",
        )
    command = [sys.executable, "page.py"]
    (tmp_path / "page.py").write_text(source, encoding="utf-8")
    if source.startswith(">>>"):
        (tmp_path / "page.txt").write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "doctest", "page.txt"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_joblib_is_in_the_table() -> None:
    joblib = pytest.importorskip("joblib")
    page = (DOCS / "from-joblib.md").read_text(encoding="utf-8")
    missing = [name for name in joblib.__all__ if f"`{name}`" not in page]
    assert not missing


def test_exit_codes_are_documented() -> None:
    from jobspan.cli.exit_codes import ExitCode

    page = (DOCS / "guides" / "command-line.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(ExitCode)


def test_the_tutorial_runs(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=100, resources=resources).execute()
