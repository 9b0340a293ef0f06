"""The page of behaviours lists what the conformance suite shows, and nothing else."""

from __future__ import annotations

from pathlib import Path

from jobspan.testing.backends import behaviours

PAGE = Path(__file__).parents[2] / "docs" / "behaviours.md"


def test_every_behaviour_is_on_the_page_and_holds() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    shown = {row.split("|")[1].strip() for row in rows[2:]}
    assert shown == set(behaviours().values()), "run make behaviours"
    assert not [row for row in rows if "✗" in row or "not run" in row]
