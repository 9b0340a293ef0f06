"""What README and the documentation say runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readme_runs(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[4, 4, 4, 4, 4, 4]"] * 2


def test_contributing_names_every_target():
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    missing = [one for one in phony.split() if not re.search(rf"make {one}(?![\w-])", text)]
    assert missing == ["help"]


def test_the_readme_s_links_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "deploy/README.md"):
        links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text())
        paths = [link for link in links if "://" not in link]
        assert [path for path in paths if not (ROOT / page).parent.joinpath(path).exists()] == []
