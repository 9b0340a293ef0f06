"""Servers that the tests share, each started once a session when first asked for."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator

import pytest

from jobspan.testing.servers import (
    Azurite,
    FakeGCS,
    Moto,
    SeaweedFS,
    Server,
    ServerUnavailableError,
)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background ignores Ctrl-C, and so would every program that
    # the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse names with an address, which are others in every process that collects them."""
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid}: give the parameter an id without its address")


def _session(kind: type[Server]) -> Iterator[Server]:
    try:
        server = kind().start()
    except ServerUnavailableError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    yield from _session(Moto)


@pytest.fixture(scope="session")
def seaweedfs_server() -> Iterator[Server]:
    yield from _session(SeaweedFS)


@pytest.fixture(scope="session")
def fake_gcs_server() -> Iterator[Server]:
    yield from _session(FakeGCS)


@pytest.fixture(scope="session")
def azurite_server() -> Iterator[Server]:
    yield from _session(Azurite)


_numbers = itertools.count(1)


@pytest.fixture
def fresh_prefix() -> Callable[[], str]:
    """Give a folder name that no other test of the session has."""
    return lambda: f"test-{next(_numbers)}"
