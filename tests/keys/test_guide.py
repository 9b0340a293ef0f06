"""What the guide to keys says runs, and prints what it says."""

from __future__ import annotations

import doctest
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "keys-and-invalidation.md"


def test_the_guide_runs():
    text = GUIDE.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, "guide", None, 0)
    assert len(test.examples) > 40
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
