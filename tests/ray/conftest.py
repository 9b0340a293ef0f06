"""Drivers of their own: scripts that a test starts, waits for and, where it must, kills."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def start_driver() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script in an interpreter of its own, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, **environment: str) -> subprocess.Popen[str]:
        driver = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(driver)
        return driver

    yield start
    for driver in started:
        if driver.poll() is None:
            driver.kill()
        driver.wait(10)


@pytest.fixture
def run_driver(start_driver: Callable[..., subprocess.Popen[str]]) -> Callable[..., str]:
    """Run a script to its end and return what it printed."""

    def run(source: str, seconds: float = 60.0, **environment: str) -> str:
        driver = start_driver(source, **environment)
        out, err = driver.communicate(timeout=seconds)
        assert driver.returncode == 0, err[-4000:]
        return out

    return run
