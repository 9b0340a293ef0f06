"""What users type: sizes, ages, stores with their options, and the switches that all share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from jobspan.errors import StoreLocationError
from jobspan.store import ObjectStore, open_store
from jobspan.store.locations import parse_location

__all__ = [
    "AGE",
    "SIZE",
    "STORAGE_OPTIONS",
    "as_json",
    "dry_run",
    "function_option",
    "opened",
    "options_file",
    "storage_options",
    "with_store",
    "yes",
]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PERIODS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class _Size(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """Bytes, as ``10G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no size; type 500M, 10G or a number of bytes", param, ctx)
        return int(float(match[1]) * _UNITS[match[2].upper()])


class _Age(click.ParamType):  # type: ignore[type-arg]  # the same
    """A time span, as ``30d``."""

    name = "age"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time span."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smhdw])", value.strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no time span; type 30d, 12h, 45m, 90s or 2w", param, ctx)
        return timedelta(seconds=float(match[1]) * _PERIODS[match[2].lower()])


class _StorageOptions(click.ParamType):  # type: ignore[type-arg]  # the same
    """A file of JSON, or JSON itself, which an environment variable may hold; never shown."""

    name = "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the options."""
        if isinstance(value, dict):
            return value
        text, what = value, "what was given"
        if not value.lstrip().startswith("{"):
            # Anything but a path may be a secret that was typed in another form.
            what = repr(value) if re.fullmatch(r"[\w./~\\ -]+", value) else "what was given"
            try:
                text = Path(value).read_text(encoding="utf-8")
            except (OSError, ValueError):
                self.fail(f"{what} is no file that can be read; pass the path of one, or JSON")
        try:
            read = json.loads(text)
        except ValueError as error:
            self.fail(f"{what} is no JSON: {error}")
        if not isinstance(read, dict):
            self.fail(f"{what} must hold one JSON object")
        return read

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete files."""
        return [CompletionItem(incomplete, type="file")]


class _Url(click.ParamType):  # type: ignore[type-arg]  # the same
    """Where a cache is; a shell completes folders."""

    name = "url"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete folders."""
        return [CompletionItem(incomplete, type="dir")]


SIZE = _Size()
AGE = _Age()
STORAGE_OPTIONS = _StorageOptions()

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
function_option = click.option(
    "--function", "-f", help="Only the results of this function: module.name."
)

_option = click.option(
    "--option",
    "-o",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A storage option, such as endpoint_url=http://localhost:9000; VALUE may be JSON.",
)
options_file = click.option(
    "--options-file",
    type=STORAGE_OPTIONS,
    envvar="JOBSPAN_STORAGE_OPTIONS",
    help="Storage options as a JSON file: what should not stand in a shell's history.",
)


def with_store(command: F) -> F:
    """Give a command the argument URL and the options with which `opened` opens the store."""
    url = click.argument("url", type=_Url())
    return url(_option(options_file(command)))


def opened(url: str, options: tuple[str, ...], options_file: dict[str, Any] | None) -> ObjectStore:
    """Open the store that was typed.

    Raises
    ------
    StoreLocationError
        If it is a folder that is not there: reading commands make none.
    """
    parsed = parse_location(url)
    if parsed.scheme == "file" and not Path(parsed.prefix).expanduser().is_dir():
        raise StoreLocationError(
            f"there is no folder {parsed.prefix!r}; type the location given to Memory"
        )
    return open_store(url, storage_options=storage_options(options, options_file))


def storage_options(
    options: tuple[str, ...], options_file: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the storage options of a command line, those of the file first."""
    found = dict(options_file or {})
    for text in options:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.BadParameter("--option takes NAME=VALUE, and what was typed has no '='")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
