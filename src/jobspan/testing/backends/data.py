"""What travels to calls and back: large arrays, and what cannot travel."""

from __future__ import annotations

from typing import Any

import pytest

from jobspan import Parallel, TaskFailure, delayed
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import (
    Unpicklable,
    UnpicklableError,
    Unreadable,
    make_array,
    square,
    total,
    write_into,
)

__all__ = ["Data"]


class Data(BackendTests):
    """What travels to calls and back: large arrays, and what cannot travel."""

    def test_large_arguments(self) -> None:
        """Large arrays arrive whole, at any depth."""
        np = pytest.importorskip("numpy")
        array = np.arange(300_000, dtype=float)
        expected = float(array.sum())
        calls = [delayed(total)(array), delayed(total)({"deep": [array]})] * 4
        assert Parallel()(calls) == [expected] * 8

    def test_large_results(self) -> None:
        """Large arrays come back whole."""
        pytest.importorskip("numpy")
        results = Parallel()(delayed(make_array)(300, i) for i in range(4))
        assert [float(result["array"][-1, -1]) for result in results] == [0, 1, 2, 3]

    def test_large_arguments_are_read_only(self) -> None:
        """Large arrays arrive read-only, and the error of writing to one says what to do."""
        np = pytest.importorskip("numpy")
        if self.can_share_memory:
            pytest.skip("calls share the caller's memory: nothing is copied or protected")
        array = np.zeros(300_000)
        with pytest.raises(ValueError, match="read-only") as caught:
            Parallel()([delayed(write_into)(array)] * 2)
        notes = " ".join(getattr(caught.value, "__notes__", []))
        assert "mmap_mode" in notes
        assert array[0] == 0

    def test_large_arguments_copied_on_write(self) -> None:
        """``mmap_mode="c"`` gives each call a private writable view."""
        np = pytest.importorskip("numpy")
        if self.can_share_memory:
            pytest.skip("calls share the caller's memory: nothing is copied or protected")
        array = np.zeros(300_000)
        assert Parallel(mmap_mode="c")([delayed(write_into)(array)] * 3) == [1.0] * 3
        assert array[0] == 0

    def test_changed_between_calls(self) -> None:
        """A large array that changed between two calls of a block arrives as it is now."""
        np = pytest.importorskip("numpy")
        array = np.zeros(300_000)
        with Parallel() as parallel:
            assert parallel([delayed(total)(array)] * 2) == [0.0] * 2
            array[:] = 1
            assert parallel([delayed(total)(array)] * 2) == [300_000.0] * 2

    def test_unpicklable(self) -> None:
        """What cannot be pickled fails its own call, by name, and never hangs."""
        if self.can_share_memory:
            pytest.skip("nothing is pickled")

        def give(kind: int) -> Any:
            if kind == 1:
                return Unpicklable()
            if kind == 2:
                raise UnpicklableError("from the worker")
            return kind

        calls = [
            delayed(give)(0),
            delayed(give)(1),
            delayed(give)(2),
            delayed(square)(Unpicklable()),  # type: ignore[arg-type]
            delayed(give)(3),
        ]
        results = Parallel(on_error="return")(calls)
        assert (results[0], results[4]) == (0, 3)
        assert [isinstance(result, TaskFailure) for result in results[1:4]] == [True] * 3
        assert "Unpicklable" in str(results[1].exception)
        assert "UnpicklableError" in repr(results[2].exception)
        assert "from the worker" in str(results[2].exception)

    def test_unreadable_argument(self) -> None:
        """What a worker cannot unpickle fails its own call, with the reason."""
        if self.can_share_memory:
            pytest.skip("nothing is pickled")
        calls = [delayed(square)(x) for x in range(4)]
        calls[2] = delayed(square)(Unreadable())  # type: ignore[arg-type]
        results = Parallel(on_error="return", batch_size=4)(calls)
        assert [*results[:2], results[3]] == [0, 1, 9]
        assert isinstance(results[2], TaskFailure)
        assert "this value cannot be read" in str(results[2].exception)
