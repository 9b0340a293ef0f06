"""The tree of commands."""

from __future__ import annotations

import click

from jobspan._version import __version__
from jobspan.cli import changing, reading
from jobspan.cli.demo import demo
from jobspan.cli.doctor import doctor
from jobspan.cli.exit_codes import ExitCode
from jobspan.cli.running import run

__all__ = ["jobspan"]

_CODES = "\b\n" + "\n".join(
    f"{code.value:>5}  {text}"
    for code, text in {
        ExitCode.DONE: "all is well",
        ExitCode.FOUND_WRONG: "something is wrong, or not stored: see the output",
        ExitCode.USAGE: "the command line cannot be meant",
        ExitCode.UNREACHABLE: "a store or cluster is not there, does not answer or refuses",
        ExitCode.NO_SUCH_ENTRY: "no such entry or function",
        ExitCode.MISSING_EXTRA: "a package is not installed; the message says which extra",
        ExitCode.DECLINED: "the question was answered with no",
        ExitCode.FAILED: "anything else failed",
        ExitCode.INTERRUPTED: "interrupted",
    }.items()
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes:\n\n{_CODES}",
)
@click.version_option(__version__, message="jobspan %(version)s")
def jobspan() -> None:
    """Look after caches, machines and clusters, and run scripts on them."""


@jobspan.group("cache", short_help="Look into a cache and keep it in order.")
def cache() -> None:
    """Look into a cache and keep it in order; URL is what Memory was given."""


@jobspan.command("completion", short_help="Print a shell's completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command: eval "$(jobspan completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(jobspan, {}, "jobspan", "_JOBSPAN_COMPLETE").source())


for _command in (*reading.COMMANDS, *changing.COMMANDS):
    cache.add_command(_command)
for _command in (doctor, demo, run):
    jobspan.add_command(_command)
