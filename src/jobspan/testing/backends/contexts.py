"""What holds around a call: initializers, context variables, calls that enclose it."""

from __future__ import annotations

from pathlib import Path

from jobspan import Parallel, delayed
from jobspan.testing.backends.suite import BackendTests
from jobspan.testing.backends.work import (
    be,
    count_deep,
    count_nested,
    leave_mark,
    sleep_and_return,
    tenant,
)

__all__ = ["Contexts"]


class Contexts(BackendTests):
    """What holds around a call: initializers, context variables, calls that enclose it."""

    def test_initializer(self, tmp_path: Path) -> None:
        """``initializer=`` runs once a worker, before its first call."""
        parallel = Parallel(initializer=leave_mark, initargs=(str(tmp_path),))
        parallel(delayed(sleep_and_return)(0.01, i) for i in range(20))
        marks = [path.name.rsplit("-", 1)[0] for path in tmp_path.iterdir()]
        assert 1 <= len(marks) <= 8
        assert len(set(marks)) == len(marks)

    def test_propagated_variables(self) -> None:
        """``propagate=`` lets context variables hold in every call, the first and the last."""
        token = tenant.set("alice")
        try:
            results = Parallel(propagate=[tenant])(delayed(tenant.get)() for _ in range(20))
        finally:
            tenant.reset(token)
        assert results == ["alice"] * 20

    def test_variables_are_each_calls_own(self) -> None:
        """Context variables that a call sets are seen by no other call, nor by the caller."""
        for batch_size in (1, 5):
            results = Parallel(batch_size=batch_size)(delayed(be)(f"call {i}") for i in range(20))
            assert results == ["nobody"] * 20
        assert (
            list(Parallel(on_error="skip")(delayed(be)("call") for _ in range(5))) == ["nobody"] * 5
        )
        assert tenant.get() == "nobody"

    def test_variables_of_the_initializer(self) -> None:
        """Context variables that the initializer sets hold in every call of a ``with`` block."""
        with Parallel(initializer=be, initargs=("bob",)) as parallel:
            for _ in range(2):
                assert parallel(delayed(be)("alice") for _ in range(20)) == ["bob"] * 20
        assert tenant.get() == "nobody"

    def test_nested(self) -> None:
        """Parallel calls nest without deadlock, to any depth."""
        assert Parallel()(delayed(count_nested)(4) for _ in range(4)) == [14] * 4
        assert Parallel()(delayed(count_deep)(2) for _ in range(2)) == [4] * 2
