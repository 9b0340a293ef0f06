"""``jobspan run``: a script of jobspan or joblib, unchanged, on a backend that it does not name."""

from __future__ import annotations

import ast
import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import click

from jobspan.cli.importing import from_jobspan
from jobspan.errors import BackendUnreachableError
from jobspan.parallel import parallel_config

__all__ = ["compiled", "run"]


@click.command(
    "run",
    short_help="Run a script of jobspan or joblib on any backend.",
    # What stands behind the script's name is the script's, also where it looks like an option.
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--backend",
    "-b",
    help="A name or address: processes, threads, dask, ray, dask://host:8786, ray://host:10001.",
)
@click.option("--n-jobs", "-j", type=int, help="Calls at once where the script says nothing.")
@click.option("--progress", is_flag=True, help="Draw a progress bar.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False),
    help="Write a page with a timeline of the last Parallel call.",
)
@click.option(
    "--keep-joblib",
    is_flag=True,
    help="Leave the script's own imports from joblib as they are.",
)
@click.argument("script", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    backend: str | None,
    n_jobs: int | None,
    progress: bool,
    report: str | None,
    keep_joblib: bool,
    script: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT with its ARGUMENTS; its Parallel calls run on the backend given here.

    What the script imports from joblib comes from jobspan instead. Libraries that use joblib
    themselves, such as scikit-learn, run on the same backend. What the script says itself, as in
    Parallel(n_jobs=4, backend="threading"), holds. The exit code is the script's own,
    and 3 where the cluster given here does not answer.
    """
    settings: dict[str, Any] = {}
    if n_jobs is not None:
        settings["n_jobs"] = n_jobs
    elif backend is not None:
        settings["n_jobs"] = -1
    if progress:
        settings["progress"] = True
    if report is not None:
        settings["report"] = report
    code = compiled(script, replace_joblib=not keep_joblib)
    with contextlib.ExitStack() as stack:
        if settings or backend is not None:
            if backend is not None:
                settings["backend"] = backend
            stack.enter_context(parallel_config(**settings))
        stack.enter_context(_as_main(script, arguments))
        try:
            exec(code, sys.modules["__main__"].__dict__)
        except Exception as error:
            if backend is not None and isinstance(error, BackendUnreachableError):
                raise  # of what was typed here: told like the errors of all commands
            traceback.print_exception(error.with_traceback(_of_script(error, script)))
            raise click.exceptions.Exit(1) from error


def compiled(script: Path, *, replace_joblib: bool) -> Any:
    """Return a script's code, its own imports from joblib turned into imports from jobspan.

    The lines keep their numbers, so tracebacks and keys of cached functions are those of the file.
    """
    source = script.read_bytes()
    try:
        tree = ast.parse(source, filename=str(script))
    except SyntaxError as error:
        raise click.ClickException(f"{script}, line {error.lineno}: {error.msg}") from error
    if replace_joblib:
        tree = from_jobspan(tree)
    return compile(tree, str(script), "exec", dont_inherit=True)


def _of_script(error: Exception, script: Path) -> TracebackType | None:
    """Return the traceback from the script's own lines on: ours above them tell users nothing."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename != str(script):
        step = step.tb_next
    return step or error.__traceback__


@contextlib.contextmanager
def _as_main(script: Path, arguments: tuple[str, ...]) -> Iterator[None]:
    """Let a fresh module be ``__main__``, as for ``python script.py arguments``."""
    module = ModuleType("__main__")
    module.__dict__.update(
        __file__=str(script), __builtins__=__builtins__, __cached__=None, __loader__=None
    )
    before = sys.modules["__main__"], sys.argv, sys.path[:]
    sys.modules["__main__"] = module
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before
