"""With which codes the command ends, and which error means which."""

from __future__ import annotations

from enum import IntEnum

from jobspan.errors import (
    BackendError,
    EntryNotFoundError,
    JobspanError,
    MissingExtraError,
    StoreError,
    UnknownBackendError,
)

__all__ = ["ExitCode", "code_for"]


class ExitCode(IntEnum):
    """What the command's exit code says.

    Attributes
    ----------
    DONE
        All is well.
    FOUND_WRONG
        The command did its work and found something wrong: damaged entries, a failed check, a
        call whose result is not stored.
    USAGE
        The command line cannot be meant.
    UNREACHABLE
        A store or a cluster is not there, does not answer or refuses.
    NO_SUCH_ENTRY
        No entry or function of that name.
    MISSING_EXTRA
        A package is not installed; the message says which extra brings it.
    DECLINED
        The question was answered with no; nothing was changed.
    FAILED
        Anything else.
    INTERRUPTED
        Ctrl-C.
    """

    DONE = 0
    FOUND_WRONG = 1
    USAGE = 2
    UNREACHABLE = 3
    NO_SUCH_ENTRY = 4
    MISSING_EXTRA = 5
    DECLINED = 6
    FAILED = 7
    INTERRUPTED = 130


def code_for(error: JobspanError | OSError) -> ExitCode:
    """Return the exit code for an error that ended the command.

    Examples
    --------
    >>> code_for(MissingExtraError("s3://", "s3")).name
    'MISSING_EXTRA'
    """
    if isinstance(error, UnknownBackendError):
        return ExitCode.USAGE
    if isinstance(error, MissingExtraError):
        return ExitCode.MISSING_EXTRA
    if isinstance(error, EntryNotFoundError):
        return ExitCode.NO_SUCH_ENTRY
    if isinstance(error, StoreError | BackendError | ConnectionError):
        return ExitCode.UNREACHABLE
    return ExitCode.FAILED
