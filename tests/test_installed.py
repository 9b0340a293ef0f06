"""A module is an installed distribution's where that lists it, in whatever folder it lies."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import jobspan.errors
from jobspan.installed import is_installed
from jobspan.keys.fingerprint import fingerprint


def test_the_interpreters_and_site_packages_are_known() -> None:
    for module in (json, os, np, jobspan.errors, pytest):
        assert module.__file__ is not None
        assert is_installed(module.__name__, module.__file__), module


def test_a_project_beneath_the_interpreters_prefix_is_the_users_own() -> None:
    """As ``/usr/src/app`` is in a container."""
    for prefix in (sys.prefix, sys.base_prefix):
        assert not is_installed("app", f"{prefix}/src/app/app.py")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RECORD", "tool/__init__.py,sha256=x,1\n../bin/tool,,\ntool_one.py,,\n"),
        ("top_level.txt", "tool\ntool_one\n"),
    ],
)
def test_what_a_distribution_lists_is_its_own(tmp_path: Path, name: str, text: str) -> None:
    about = tmp_path / "tool-1.0.dist-info"
    about.mkdir()
    (about / name).write_text(text)
    assert is_installed("tool", f"{tmp_path}/tool/__init__.py")
    assert is_installed("tool.deep.part", f"{tmp_path}/tool/deep/part.py")
    assert is_installed("tool_one", f"{tmp_path}/tool_one.py")
    assert not is_installed("handler", f"{tmp_path}/handler.py")
    assert not is_installed("bin", f"{tmp_path}/bin.py")


def test_without_a_list_the_name_of_the_distribution_counts(tmp_path: Path) -> None:
    (tmp_path / "tool-1.0.dist-info").mkdir()
    assert is_installed("tool", f"{tmp_path}/tool/__init__.py")
    assert not is_installed("other", f"{tmp_path}/other/__init__.py")


def test_what_is_installed_later_is_seen(tmp_path: Path) -> None:
    file = f"{tmp_path}/tool/__init__.py"
    assert not is_installed("tool", file)
    os.utime(tmp_path, ns=(0, 0))  # however coarse the file system's clock is
    (tmp_path / "tool-1.0.dist-info").mkdir()
    assert is_installed("tool", file)


def test_a_project_in_editable_form_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "tool.egg-info").mkdir()
    (tmp_path / "tool.egg-info" / "top_level.txt").write_text("tool\n")
    assert not is_installed("tool", f"{tmp_path}/tool/__init__.py")


def test_its_version_stands_for_it_in_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "tool_for_keys-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tool-for-keys\nVersion: 1.5\n")
    (tmp_path / "tool_for_keys.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import tool_for_keys  # type: ignore[import-not-found]

    def function(x: int) -> int:
        return int(tool_for_keys.double(x))

    assert fingerprint(function).components["package tool_for_keys"] == "1.5"
