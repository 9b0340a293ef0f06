"""Code that calls joblib itself runs where jobspan's settings say, and only while they hold."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import TimeoutError as JoblibTimeoutError
from pathlib import Path
from typing import Any

import joblib
import pytest

import jobspan
from jobspan.bridging import BRIDGES
from jobspan.cores import cpu_count


def place() -> str:
    """Name the backend whose worker runs this."""
    import sys
    import threading

    if threading.current_thread().name.startswith("jobspan-thread"):
        return "threads"
    if "jobspan.backends.processes.worker_loop" in sys.modules:
        return "processes"
    if "jobspan.backends.dask.running" in sys.modules:
        import distributed

        try:
            distributed.get_worker()
        except ValueError:
            return "caller"
        return "dask"
    if "jobspan.backends.ray.running" in sys.modules and "ray" in sys.modules:
        import ray

        return "ray" if ray.get_runtime_context().get_actor_id() else "caller"
    return "caller"


def fail(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def own_backend() -> str:
    return type(joblib.parallel.get_active_backend()[0]).__name__


def untouched() -> bool:
    return (
        own_backend() == "LokyBackend"
        and joblib.parallel.DEFAULT_BACKEND == "loky"
        and not any("jobspan" in type(finder).__module__ for finder in sys.meta_path)
    )


# --- on every backend ------------------------------------------------------------------


def test_runs_there(where: str, block: Any) -> None:
    with block():
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(place)() for _ in range(4))
    assert set(found) == {where}
    assert untouched()


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
def test_results(block: Any, return_as: Any) -> None:
    with block():
        results = joblib.Parallel(n_jobs=2, return_as=return_as)(
            joblib.delayed(pow)(i, 2) for i in range(500)
        )
        squares = list(results)
    if return_as == "generator_unordered":
        squares.sort()
    assert squares == [i * i for i in range(500)]


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_errors_arrive(block: Any, return_as: Any) -> None:
    with block():
        with pytest.raises(KeyError, match="three") as caught:
            list(
                joblib.Parallel(n_jobs=2, return_as=return_as)(map(joblib.delayed(fail), range(9)))
            )
        told = "".join(traceback.format_exception(caught.value))
        assert "in fail" in told
        # The backend is usable afterwards.
        assert joblib.Parallel(n_jobs=2)(map(joblib.delayed(abs), [-1, -2])) == [1, 2]


def test_workers_are_kept_in_a_block_of_joblibs(block: Any) -> None:
    with block(), joblib.Parallel(n_jobs=2) as parallel:
        assert parallel(map(joblib.delayed(abs), [-1, -2])) == [1, 2]
        assert parallel(map(joblib.delayed(abs), [-3])) == [3]


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_an_iterable_that_fails(block: Any, return_as: Any) -> None:
    def calls() -> Any:
        yield from (joblib.delayed(pow)(i, 2) for i in range(8))
        raise LookupError("no more")

    with block(), pytest.raises(LookupError, match="no more"):
        list(joblib.Parallel(n_jobs=2, return_as=return_as)(calls()))


def test_timeout(block: Any) -> None:
    with block(), pytest.raises(JoblibTimeoutError, match=r"longer than timeout=0\.3 seconds"):
        joblib.Parallel(n_jobs=2, timeout=0.3)(joblib.delayed(time.sleep)(s) for s in (0, 2, 2))


def test_joblib_says_where_calls_run(where: str, block: Any, capsys: Any) -> None:
    with block():
        joblib.Parallel(n_jobs=2, verbose=1)([joblib.delayed(abs)(-1)] * 4)
    told = "".join(capsys.readouterr())
    assert f"Using backend JobspanBackend({where}) with 2 concurrent workers" in told


def late(x: int) -> int:
    raise TimeoutError(f"the server of {x} is slow")


def test_a_calls_own_timeout_is_told_from_ours(block: Any) -> None:
    with block(), pytest.raises(TimeoutError, match="is slow"):
        joblib.Parallel(n_jobs=2, timeout=60)(map(joblib.delayed(late), range(3)))


def test_generator_closed_early(block: Any) -> None:
    with block():
        generator = joblib.Parallel(n_jobs=2, return_as="generator")(
            joblib.delayed(time.sleep)(0.01) for _ in range(1000)
        )
        assert next(generator) is None
        with pytest.warns(UserWarning, match="could benefit from adjusting"):
            generator.close()
        assert joblib.Parallel(n_jobs=2)([joblib.delayed(abs)(-1)] * 3) == [1, 1, 1]
    assert not [t for t in threading.enumerate() if t.name == "jobspan-joblib"]


def busy(folder: str) -> int:
    """Return how many such calls run just now."""
    mark = Path(folder, uuid.uuid4().hex)
    mark.touch()
    time.sleep(0.03)
    running = len(list(Path(folder).iterdir()))
    mark.unlink()
    return running


def inner_calls(folder: str, depth: int) -> int:
    inner = busy if depth == 0 else inner_calls
    arguments = (folder,) if depth == 0 else (folder, depth - 1)
    return max(joblib.Parallel(n_jobs=2)(joblib.delayed(inner)(*arguments) for _ in range(3)))


@pytest.mark.parametrize("depth", [0, 2])
def test_nested_calls_never_oversubscribe(block: Any, tmp_path: Path, depth: int) -> None:
    with block():
        most = joblib.Parallel(n_jobs=2)(
            joblib.delayed(inner_calls)(str(tmp_path), depth) for _ in range(3)
        )
    assert max(most) <= max(2, cpu_count())


def test_library_calls_within_our_own_never_oversubscribe(block: Any, tmp_path: Path) -> None:
    with block(n_jobs=2):
        most = jobspan.Parallel()(jobspan.delayed(inner_calls)(str(tmp_path), 0) for _ in range(3))
    assert max(most) <= max(2, cpu_count())


def test_all_of_a_cluster_is_never_the_caller() -> None:
    """Also where it has one worker so far."""
    pytest.importorskip("distributed")
    from jobspan.backends.dask.connecting import close, start_cluster

    client = start_cluster(1, {"dashboard_address": None})
    try:
        with jobspan.parallel_config("dask", client=client):
            found = joblib.Parallel(n_jobs=-1)(joblib.delayed(place)() for _ in range(3))
    finally:
        close(client, own_cluster=True)
    assert found == ["dask"] * 3


# --- when it holds -----------------------------------------------------------------------


def test_off_with_bridge_false() -> None:
    with jobspan.parallel_config("threads", n_jobs=2, bridge=False):
        assert untouched()
    with jobspan.parallel_config(n_jobs=2):
        assert untouched()  # no backend is named


def test_what_the_caller_says_holds() -> None:
    with jobspan.parallel_config("threads", n_jobs=2):
        found = joblib.Parallel(n_jobs=2, backend="threading")([joblib.delayed(place)()] * 2)
        assert set(found) == {"caller"}
        with joblib.parallel_config("sequential"):
            assert own_backend() == "SequentialBackend"
        assert own_backend() == "JobspanBackend"


def test_settings_are_handed_on() -> None:
    with jobspan.parallel_config("threads", n_jobs=3):
        assert joblib.Parallel().n_jobs == 3
        assert joblib.effective_n_jobs(None) == 3
        with jobspan.parallel_config(n_jobs=2, verbose=5):
            assert joblib.Parallel().n_jobs == 2
            assert joblib.Parallel().verbose == 5
        assert joblib.Parallel().n_jobs == 3


def test_undone_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), jobspan.parallel_config("threads"):
        raise ZeroDivisionError
    assert untouched()


def test_blocks_that_end_out_of_order() -> None:
    first = jobspan.parallel_config("threads", n_jobs=2)
    second = jobspan.parallel_config("processes", n_jobs=2)
    first.unregister()
    assert own_backend() == "JobspanBackend"
    second.unregister()
    assert untouched()


def test_a_block_that_another_thread_ends() -> None:
    blocks: list[Any] = []
    ended = threading.Event()
    found: list[Any] = []

    def begin() -> None:
        blocks.append(jobspan.parallel_config("threads", n_jobs=2))
        ended.wait(10)
        found.extend(joblib.Parallel(n_jobs=2)([joblib.delayed(place)()] * 2))

    thread = threading.Thread(target=begin)
    thread.start()
    while not blocks:
        time.sleep(0.01)
    blocks[0].unregister()
    ended.set()
    thread.join()
    assert set(found) == {"caller"}  # loky's workers know nothing of us
    assert untouched()


def test_other_threads_are_left_alone() -> None:
    with jobspan.parallel_config("threads", n_jobs=2), ThreadPoolExecutor(1) as pool:
        assert pool.submit(own_backend).result() == "LokyBackend"


def test_many_threads_at_once() -> None:
    def run(number: int) -> list[int]:
        with jobspan.parallel_config("threads" if number % 2 else "processes", n_jobs=2):
            results: list[int] = joblib.Parallel()(
                joblib.delayed(pow)(i, number) for i in range(50)
            )
        return results

    with ThreadPoolExecutor(6) as pool:
        for number, results in enumerate(pool.map(run, range(6))):
            assert results == [i**number for i in range(50)]
    assert untouched()


# --- under a name of joblib's ------------------------------------------------------------


def test_by_name(where: str, options: dict[str, Any]) -> None:
    import jobspan.integrations.joblib

    with joblib.parallel_config("jobspan", on=where, n_jobs=2, **options):
        assert set(joblib.Parallel()(joblib.delayed(place)() for _ in range(4))) == {where}
    found = joblib.Parallel(n_jobs=2, backend="jobspan")(joblib.delayed(place)() for _ in range(4))
    assert set(found) == {"processes"}
    jobspan.backends.choosing.close_shared_backends()


# --- in a fresh interpreter ----------------------------------------------------------------


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imported_inside_the_block() -> None:
    run(
        """
        import sys, jobspan
        finders = list(sys.meta_path)
        with jobspan.parallel_config("threads", n_jobs=2):
            assert "joblib" not in sys.modules and "jobspan.integrations" not in sys.modules
            import joblib
            assert type(joblib.parallel.get_active_backend()[0]).__name__ == "JobspanBackend"
            assert joblib.Parallel().n_jobs == 2
        assert type(joblib.parallel.get_active_backend()[0]).__name__ == "LokyBackend"
        assert joblib.parallel.DEFAULT_BACKEND == "loky" and sys.meta_path == finders
        assert "Announcing" not in repr((joblib.__spec__, joblib.__loader__))
        assert sorted(joblib.parallel.BACKENDS) == [
            "jobspan", "loky", "multiprocessing", "sequential", "threading"]
        """
    )


def test_not_imported_where_nobody_does() -> None:
    run(
        """
        import sys, jobspan
        with jobspan.parallel_config("threads", n_jobs=2, bridge=False):
            import joblib
            assert "jobspan.integrations" not in sys.modules
        with jobspan.parallel_config("threads", n_jobs=2):
            jobspan.Parallel()(jobspan.delayed(abs)(x) for x in range(9))
        """
    )


def test_imported_by_another_thread_inside_the_block() -> None:
    run(
        """
        import threading, jobspan
        def work():
            import joblib
            assert type(joblib.parallel.get_active_backend()[0]).__name__ == "LokyBackend"
        with jobspan.parallel_config("threads", n_jobs=2):
            thread = threading.Thread(target=work); thread.start(); thread.join()
            import joblib
            assert type(joblib.parallel.get_active_backend()[0]).__name__ == "JobspanBackend"
            names = joblib.Parallel()(
                joblib.delayed(lambda: threading.current_thread().name)() for _ in range(4))
            assert all(name.startswith("jobspan-thread") for name in names), names
        assert type(joblib.parallel.get_active_backend()[0]).__name__ == "LokyBackend"
        assert joblib.parallel.DEFAULT_BACKEND == "loky"
        assert not [name for name in joblib.parallel.BACKENDS if "where" in name]
        """
    )


def test_imported_in_a_worker() -> None:
    run(
        """
        from jobspan import Parallel, delayed
        def outer():
            import joblib, os
            return {os.getpid(), *joblib.Parallel(n_jobs=2)(
                joblib.delayed(os.getpid)() for _ in range(4))}
        for pids in Parallel(n_jobs=2)(delayed(outer)() for _ in range(4)):
            assert len(pids) == 1, pids  # no pool of joblib's own within a worker
        """
    )


def test_jobspan_standing_in_for_joblib() -> None:
    run(
        """
        import sys, jobspan
        sys.modules["joblib"] = jobspan
        with jobspan.parallel_config("threads", n_jobs=2):
            import joblib
            assert joblib.Parallel()(joblib.delayed(abs)(x) for x in [-1]) == [1]
        assert "jobspan.integrations.joblib" not in sys.modules
        """
    )


def test_the_registry_holds_names_only() -> None:
    assert list(BRIDGES) == ["joblib"]
