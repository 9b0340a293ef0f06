"""Where the command starts: it says which extra is missing before anything else can fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from jobspan.cli.exit_codes import ExitCode, code_for
from jobspan.errors import JobspanError, MissingExtraError

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Run the command with the arguments of this process, and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        What was typed after ``jobspan``.
    """
    try:
        import click
        import rich  # noqa: F401 - only whether it is there
    except ImportError:
        print(MissingExtraError("the command jobspan", "cli"), file=sys.stderr)
        return ExitCode.MISSING_EXTRA
    from jobspan.cli.commands import jobspan

    try:
        code = jobspan.main(list(arguments), prog_name="jobspan", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # `jobspan cache ls | head` has seen enough
        sys.stderr.close()
        return ExitCode.DONE
    except (JobspanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return code_for(error)
    return code if isinstance(code, int) else ExitCode.DONE
