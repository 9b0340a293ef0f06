"""What is told of calls: figures, progress, lines, a page."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from jobspan import Memory, Parallel, delayed
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import fail_at, square

__all__ = ["Telling"]


class Telling(BackendTests):
    """What is told of calls: figures, progress, lines, a page."""

    def test_stats(self) -> None:
        """``Parallel.stats`` tells what the last call did."""
        parallel = Parallel(on_error="skip")
        parallel(delayed(fail_at)(i, 3) for i in range(10))
        assert (parallel.stats.calls, parallel.stats.failures) == (10, 1)
        assert parallel.stats.work_seconds >= 0
        assert parallel.stats.elapsed_seconds > 0

    def test_found_stored(self, tmp_path: Path) -> None:
        """Results of cached functions that are found stored are counted, and not computed again."""
        cached = Memory(tmp_path, verbose=0).cache(square)
        parallel = Parallel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # here all workers of a cluster see the folder
            assert parallel(delayed(cached)(i) for i in range(3)) == [0, 1, 4]
            assert parallel.stats.recalled == 0
            assert parallel(delayed(cached)(i) for i in range(5)) == [0, 1, 4, 9, 16]
        assert (parallel.stats.calls, parallel.stats.recalled) == (5, 3)

    def test_stored_in_a_folder(self, tmp_path: Path) -> None:
        """A cache in a folder of this machine is warned of where workers may be on others, only."""
        cached = Memory(tmp_path, verbose=0).cache(square)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert Parallel()(delayed(cached)(i) for i in range(3)) == [0, 1, 4]
        told = [str(each.message) for each in caught if "not shared" in str(each.message)]
        assert bool(told) is self.can_be_elsewhere

    @pytest.mark.parametrize("return_as", ["list", "generator"])
    def test_progress_events(self, return_as: Any) -> None:
        """``progress=`` tells a callable how far the call is, from the start to the end."""
        events: list[Any] = []
        parallel = Parallel(progress=events.append, return_as=return_as, on_error="skip")
        assert len(list(parallel([delayed(fail_at)(i, 3) for i in range(20)]))) == 19
        assert [events[0].kind, events[-1].kind] == ["started", "finished"]
        assert events[0].total == events[-1].total == events[-1].done == 20
        assert events[-1].failures == 1
        assert [event.done for event in events] == sorted(event.done for event in events)

    def test_verbose_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        """``verbose=`` prints joblib's lines, to stdout from 50 up."""
        Parallel(verbose=51)(delayed(square)(i) for i in range(5))
        told = capsys.readouterr().out
        assert "Done   5 out of   5" in told
        assert "elapsed:" in told

    def test_report(self, tmp_path: Path) -> None:
        """``report=`` writes a page about the call."""
        page = tmp_path / "run.html"
        Parallel(report=page)(delayed(square)(i) for i in range(5))
        assert "<b>5</b><span>calls</span>" in page.read_text(encoding="utf-8")
