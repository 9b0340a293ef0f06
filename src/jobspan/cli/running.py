"""``jobspan run``: a script of jobspan or joblib, unchanged, on a backend that it does not name."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import click

from jobspan.cli.importing import from_jobspan
from jobspan.errors import BackendUnreachableError, JobspanError
from jobspan.parallel import parallel_config

__all__ = ["compiled", "run"]


class _Program(NamedTuple):
    """What runs as ``__main__``: its source, what ``sys`` says of it, and names that it finds."""

    file: str
    source: bytes
    argv0: str
    folder: str
    names: dict[str, Any]


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
@click.option("-m", "as_module", is_flag=True, help="SCRIPT is a module's name, as for python -m.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    backend: str | None,
    n_jobs: int | None,
    progress: bool,
    report: str | None,
    keep_joblib: bool,
    as_module: bool,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT with its ARGUMENTS; its Parallel calls run on the backend given here.

    SCRIPT is a file, - for what stands on stdin, or, after -m, a module. What it imports from
    joblib comes from jobspan instead. Libraries that use joblib
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
    program = _module(script) if as_module else _script(script)
    code = compiled(program.source, program.file, replace_joblib=not keep_joblib)
    with contextlib.ExitStack() as stack:
        if settings or backend is not None:
            if backend is not None:
                settings["backend"] = backend
            stack.enter_context(_configured(settings))
        stack.enter_context(_as_main(program, arguments))
        try:
            exec(code, sys.modules["__main__"].__dict__)
        except Exception as error:
            if backend is not None and isinstance(error, BackendUnreachableError):
                raise  # of what was typed here: told like the errors of all commands
            traceback.print_exception(error.with_traceback(_of_script(error, program.file)))
            raise click.exceptions.Exit(1) from error


def _script(name: str) -> _Program:
    if name == "-":
        source = sys.stdin.buffer.read()
        return _Program("<stdin>", source, "-", "", {"__file__": "<stdin>"})
    path = Path(name)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise click.BadParameter(f"{name!r} {kind}; type a script's path, or -m and a module")
    file = str(path.absolute())
    return _Program(file, path.read_bytes(), name, str(path.resolve().parent), {"__file__": file})


def _module(name: str) -> _Program:
    """Find a module, or a package's ``__main__``, as ``python -m`` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError as error:
        raise click.BadParameter(f"{name!r} cannot be found: {error}") from error
    finally:
        sys.path.remove(folder)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise click.BadParameter(f"{name!r} is no module that has a file, and no package with one")
    names = {"__file__": spec.origin, "__spec__": spec, "__package__": spec.parent}
    return _Program(spec.origin, Path(spec.origin).read_bytes(), spec.origin, folder, names)


def _configured(settings: dict[str, Any]) -> parallel_config:
    try:
        return parallel_config(**settings)
    except JobspanError:
        raise
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def compiled(source: bytes, file: str, *, replace_joblib: bool) -> Any:
    """Return a script's code, its own imports from joblib turned into imports from jobspan.

    The lines keep their numbers, so tracebacks and keys of cached functions are those of the file.
    """
    try:
        tree = ast.parse(source, filename=file)
    except SyntaxError as error:
        raise click.ClickException(f"{file}, line {error.lineno}: {error.msg}") from error
    if replace_joblib:
        tree = from_jobspan(tree)
    return compile(tree, file, "exec", dont_inherit=True)


def _of_script(error: Exception, file: str) -> TracebackType | None:
    """Return the traceback from the script's own lines on: ours above them tell users nothing."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_filename != file:
        step = step.tb_next
    return step or error.__traceback__


@contextlib.contextmanager
def _as_main(program: _Program, arguments: tuple[str, ...]) -> Iterator[None]:
    """Let a fresh module be ``__main__``, as for ``python script.py arguments``."""
    module = ModuleType("__main__")
    module.__dict__.update(__builtins__=__builtins__, __cached__=None, **program.names)
    before = sys.modules["__main__"], sys.argv, sys.path[:]
    sys.modules["__main__"] = module
    sys.argv = [program.argv0, *arguments]
    sys.path.insert(0, program.folder)
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before
