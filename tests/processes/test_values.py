"""What travels to workers and back: large, shared, in pieces, and when there is no room for it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from jobspan import Parallel, delayed
from jobspan.ambient import Settings
from jobspan.backends.processes import ProcessBackend
from jobspan.calls import Batch, CallContext
from jobspan.plans import Plan

pytestmark = pytest.mark.timeout(90)


class Holder:
    def __init__(self, array):
        self.array = array


def total(where):
    array = where.array if isinstance(where, Holder) else where
    array = array["a"][0] if isinstance(array, dict) else array
    return float(array.sum()), array.flags.writeable


@pytest.mark.parametrize("wrap", [lambda a: a, Holder, lambda a: {"a": [a]}])
@pytest.mark.parametrize(("mode", "writeable"), [("r", False), ("c", True), (None, True)])
def test_large_arguments_at_any_depth(wrap, mode, writeable):
    array = np.arange(300_000, dtype=float)
    results = Parallel(n_jobs=2, mmap_mode=mode)(delayed(total)(wrap(array)) for _ in range(4))
    assert results == [(float(array.sum()), writeable)] * 4


def test_an_argument_that_changed_between_calls_is_sent_anew():
    array = np.zeros(300_000)
    with Parallel(n_jobs=2) as parallel:
        for value in (1.0, 2.0):
            array[:] = value
            totals = parallel(delayed(total)(array) for _ in range(4))
            assert [t for t, _ in totals] == [300_000 * value] * 4


def fill(value, size):
    return {"deep": [np.full(size, value)], "value": value}


@pytest.mark.parametrize("max_nbytes", ["1M", None])
def test_large_results_come_back_whole_and_stay(max_nbytes):
    with Parallel(n_jobs=2, max_nbytes=max_nbytes) as parallel:
        first = parallel(delayed(fill)(i, 300_000) for i in range(6))
        second = parallel(delayed(fill)(-i, 300_000) for i in range(6))
    for i in range(6):
        assert (first[i]["deep"][0] == i).all()
        assert (second[i]["deep"][0] == -i).all()
    first[0]["deep"][0][:] = 7  # a result is the caller's to change


def test_results_dropped_one_by_one_do_not_pile_up():
    with Parallel(n_jobs=2, return_as="generator") as parallel:
        for i, result in enumerate(parallel(delayed(fill)(i, 1_000_000) for i in range(100))):
            assert result["deep"][0][-1] == i
            del result
    assert len(list(Path("/proc/self/fd").iterdir())) < 200


def test_more_large_results_than_files_may_be_open():
    results = Parallel(n_jobs=2, max_nbytes=1000)(delayed(fill)(i, 1000) for i in range(1500))
    assert [r["value"] for r in results] == list(range(1500))
    assert all((r["deep"][0] == i).all() for i, r in enumerate(results))


def blob(size):
    return b"x" * size


def test_large_bytes_both_ways():
    data = os.urandom(30_000_000)
    assert Parallel(n_jobs=2)(delayed(len)(data) for _ in range(3)) == [len(data)] * 3
    assert [len(b) for b in Parallel(n_jobs=2)(delayed(blob)(20_000_000) for _ in range(4))] == [
        20_000_000
    ] * 4


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_result_of_five_gigabytes_in_pieces():
    calls = (delayed(lambda n: [np.ones(n, dtype="u1") for _ in range(5)])(n) for n in [1 << 30])
    (result,) = Parallel(n_jobs=2)(calls)
    assert sum(int(piece[-1]) * len(piece) for piece in result) == 5 << 30


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_payload_of_more_than_four_gigabytes():
    results = Parallel(n_jobs=2, max_nbytes=None)(delayed(blob)(n) for n in [(1 << 32) + 10, 1])
    assert [len(r) for r in results] == [(1 << 32) + 10, 1]


def test_many_queued_batches_with_arguments_that_fill_the_socket():
    blobs = [os.urandom(500_000) for _ in range(20)]
    results = Parallel(n_jobs=2, batch_size=1, pre_dispatch="all")(
        delayed(bytes)(b) for b in blobs * 5
    )
    assert results == blobs * 5


def no_room(script, folder):
    """Run a script where neither shared memory nor temporary files have room."""
    mounts = " && ".join(f"mount -t tmpfs -o size=2m none {f}" for f in ("/dev/shm", folder))
    return subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$0" "$@"'),
            *(sys.executable, "-c", textwrap.dedent(script)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def test_small_shared_memory_is_no_obstacle(tmp_path):
    if no_room("print(1)", tmp_path).returncode:
        pytest.skip("mounts need privileges that this test has not got")
    done = no_room(
        """
        import numpy as np
        from jobspan import Parallel, delayed
        a = np.ones(4_000_000)
        print(Parallel(n_jobs=2)(delayed(np.sum)(a) for _ in range(4)))
        print([r.sum() for r in Parallel(n_jobs=2)(delayed(np.ones)(2_000_000) for _ in range(4))])
        """,
        tmp_path,
    )
    assert done.stdout.splitlines()[0].count("4000000.0") == 4, done.stderr
    assert done.stdout.splitlines()[1].count("2000000.0") == 4


@pytest.mark.parametrize("max_nbytes", ["1M", None])
def test_a_result_in_pieces(max_nbytes):
    def pieces(count, size):
        return [np.full(size, number, dtype="u1") for number in range(count)]

    (result,) = Parallel(n_jobs=2, max_nbytes=max_nbytes)([delayed(pieces)(40, 3_000_000)])
    assert [(int(piece[0]), int(piece[-1]), len(piece)) for piece in result] == [
        (number, number, 3_000_000) for number in range(40)
    ]


def identity(x):
    return x


class SlowToSend:
    """Tells how often it was pickled."""

    pickled = 0

    def __reduce__(self):
        type(self).pickled += 1
        return SlowToSend, ()

    def __call__(self, x):
        return x


def test_a_function_travels_once_a_worker():
    function = SlowToSend()
    SlowToSend.pickled = 0
    calls = (delayed(function)(i) for i in range(500))
    assert Parallel(n_jobs=2, batch_size=5)(calls) == list(range(500))
    assert SlowToSend.pickled <= 2


def test_executor_by_hand_gives_every_batch_back_once():
    executor = ProcessBackend().open(Plan(n_jobs=3))
    context = CallContext(settings=Settings())
    try:
        for number in range(40):
            calls = [(identity, ((number, i),), {}) for i in range(3)]
            executor.submit(Batch(number, number * 3, calls, context))
        found = {}
        while len(found) < 40:
            for outcome in executor.completed(10):
                assert outcome.number not in found
                assert outcome.worker.startswith("process-")
                assert outcome.bytes_sent > 0
                assert outcome.bytes_received > 0
                found[outcome.number] = list(outcome.values)
        assert found == {n: [(n, i) for i in range(3)] for n in range(40)}
        assert executor.completed(10) == []
    finally:
        executor.close()
        executor.close()


def test_cancelled_batches_do_not_come_back_and_the_executor_goes_on():
    import time

    executor = ProcessBackend().open(Plan(n_jobs=2))
    context = CallContext(settings=Settings())
    try:
        for number in range(10):
            executor.submit(Batch(number, number, [(time.sleep, (0.01,), {})], context))
        executor.submit(Batch(10, 10, [(time.sleep, (60,), {})], context))
        begin = time.monotonic()
        executor.cancel()
        assert time.monotonic() - begin < 1
        assert executor.completed(0.1) == []
        executor.submit(Batch(11, 0, [(identity, (5,), {})], context))
        (outcome,) = executor.completed(10)
        assert (outcome.number, list(outcome.values)) == (11, [5])
    finally:
        executor.close()


def test_wake_from_another_thread():
    import threading
    import time

    executor = ProcessBackend().open(Plan(n_jobs=2))
    try:
        context = CallContext(settings=Settings())
        executor.submit(Batch(0, 0, [(time.sleep, (30,), {})], context))
        threading.Timer(0.2, executor.wake).start()
        begin = time.monotonic()
        assert executor.completed(None) == []
        assert time.monotonic() - begin < 5
    finally:
        executor.close()
    executor.wake()


class Unreadable:
    """A function that can be pickled, but not read again."""

    def __call__(self, x):
        return x

    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ImportError("no module named secret_sauce")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_call_of_a_function_that_no_worker_can_read_says_why(batch_size):
    function = Unreadable()
    failures = Parallel(n_jobs=2, on_error="return", batch_size=batch_size)(
        delayed(function)(x) for x in range(12)
    )
    reasons = {str(failure.exception) for failure in failures}
    assert reasons == {
        "the function cannot be unpickled in a worker: ImportError: no module named secret_sauce"
    }


def note(shared, queue, index):
    shared[index] = os.getpid()
    queue.put(index)
    return shared


def test_what_a_manager_of_multiprocessing_holds_is_reached_from_workers():
    import multiprocessing

    with multiprocessing.Manager() as manager:
        shared, queue = manager.dict(), manager.Queue()
        calls = (delayed(note)(shared, queue, index) for index in range(6))
        returned = Parallel(n_jobs=2)(calls)
        assert sorted(queue.get(timeout=10) for _ in range(6)) == list(range(6))
        assert set(shared) == set(range(6))
        assert os.getpid() not in shared.values()
        assert dict(returned[0]) == dict(shared)
        set_up = {"initializer": note, "initargs": (shared, queue, "first")}
        Parallel(n_jobs=2, **set_up)(delayed(abs)(index) for index in range(6))
        assert "first" in shared


def test_a_folder_put_on_the_path_between_calls_is_known_to_workers_that_wait(
    tmp_path, monkeypatch
):
    """As in a notebook: a first call, then sys.path.append and an import."""
    assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 4) == [1] * 4
    (tmp_path / "found_later.py").write_text("def double(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import found_later

    assert Parallel(n_jobs=2)(delayed(found_later.double)(x) for x in range(4)) == [0, 2, 4, 6]


def test_what_comes_with_calls_is_found_in_a_folder_put_on_the_path_since(tmp_path, monkeypatch):
    """The initializer, its arguments, and what context variables hold."""
    assert Parallel(n_jobs=2)([delayed(abs)(-1)] * 4) == [1] * 4
    (tmp_path / "found_with_calls.py").write_text(
        "class Unit:\n    size = 0\n\ndef set_size(unit, size):\n    unit.size = size\n"
        "\ndef size_of(unit):\n    return unit().size\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import found_with_calls as found

    set_up = {"initializer": found.set_size, "initargs": (found.Unit, 7)}
    sizes = Parallel(n_jobs=2, **set_up)(delayed(found.size_of)(found.Unit) for _ in range(4))
    assert sizes == [7] * 4


def test_an_initializer_runs_before_the_module_of_a_call_is_imported(tmp_path, monkeypatch):
    """As ``django.setup`` does before models can be imported."""
    (tmp_path / "set_up_first.py").write_text("done = []\ndef set_up():\n    done.append(1)\n")
    (tmp_path / "wants_it.py").write_text(
        "import set_up_first\nassert set_up_first.done\ndef double(x):\n    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import set_up_first

    set_up_first.set_up()
    import wants_it

    set_up = {"initializer": set_up_first.set_up}
    calls = [delayed(wants_it.double)(x) for x in range(4)]
    assert Parallel(n_jobs=2, **set_up)(calls) == [0, 2, 4, 6]
