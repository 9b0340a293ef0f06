"""Workers that die, at every stage: what is lost is their own call, and it is said which."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from jobspan import Parallel, TaskFailure, delayed
from jobspan.errors import TaskTimeoutError, TransportError, WorkerLostError

pytestmark = pytest.mark.timeout(60)


def square(x):
    return x * x


def die_at(x, doomed, how):
    if x == doomed:
        sys.stderr.write("my last words\n")
        if how == "exit":
            os._exit(7)
        if how == "segfault":
            ctypes.string_at(0)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "abort":
            os.abort()
    return x


class DiesWhenPickled:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
        return int, ()


class DiesWhenUnpickled:
    def __init__(self, parent):
        self.parent = parent

    def __setstate__(self, state):
        if os.getpid() != state["parent"]:
            os.kill(os.getpid(), signal.SIGKILL)
        self.__dict__.update(state)


def still_usable():
    assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("exit", "code 7"),
        ("segfault", "SIGSEGV"),
        ("kill", "SIGKILL"),
        ("abort", "SIGABRT"),
    ],
)
def test_death_during_a_call_names_call_cause_and_last_words(how, word):
    with pytest.raises(WorkerLostError) as caught:
        Parallel(n_jobs=2)(delayed(die_at)(i, 13, how) for i in range(40))
    message = str(caught.value)
    assert "call 13" in message
    assert "die_at(13, 13" in message
    assert word in message
    assert "my last words" in message
    still_usable()


@pytest.mark.parametrize("batch_size", [1, 10, "auto"])
def test_only_the_call_that_died_is_lost(batch_size):
    results = Parallel(n_jobs=2, batch_size=batch_size, on_error="return")(
        delayed(die_at)(i, 13, "exit") for i in range(60)
    )
    assert isinstance(results[13], TaskFailure)
    assert [r for i, r in enumerate(results) if i != 13] == [i for i in range(60) if i != 13]


def dies_the_first_time(x, folder):
    mark = Path(folder, str(x))
    if x % 7 == 3 and not mark.exists():
        mark.touch()
        os._exit(1)
    return x


def test_retries_bring_lost_calls_back(tmp_path):
    calls = (delayed(dies_the_first_time)(i, tmp_path) for i in range(30))
    assert Parallel(n_jobs=2, retries=1)(calls) == list(range(30))


def test_call_that_kills_its_worker_again_and_again_ends_as_one_error():
    begin = time.monotonic()
    with pytest.raises(WorkerLostError, match="call 2, die_at"):
        Parallel(n_jobs=2, retries=3)(delayed(die_at)(i, 2, "exit") for i in range(4))
    assert time.monotonic() - begin < 20


def test_death_while_arguments_are_read():
    culprit = DiesWhenUnpickled(os.getpid())
    arguments = [1, 2, culprit, 4]
    results = Parallel(n_jobs=2, batch_size=4, on_error="return")(
        delayed(type)(a) for a in arguments
    )
    assert [isinstance(r, TaskFailure) for r in results] == [False, False, True, False]
    still_usable()


def make(x):
    return DiesWhenPickled() if x == 2 else x


def test_death_while_a_result_is_written():
    results = Parallel(n_jobs=2, batch_size=4, on_error="return")(
        delayed(make)(i) for i in range(4)
    )
    assert isinstance(results[2], TaskFailure)
    assert isinstance(results[2].exception, WorkerLostError)
    assert [results[i] for i in (0, 1, 3)] == [0, 1, 3]
    still_usable()


def worker_id(pause=0.0):
    time.sleep(pause)
    return os.getpid()


def test_worker_killed_while_idle():
    with Parallel(n_jobs=2) as parallel:
        for _ in range(3):
            for process in set(parallel(delayed(worker_id)(0.01) for _ in range(6))):
                os.kill(process, signal.SIGKILL)
            assert parallel(delayed(square)(i) for i in range(8)) == [i * i for i in range(8)]
    for process in set(Parallel(n_jobs=2)(delayed(worker_id)(0.01) for _ in range(6))):
        os.kill(process, signal.SIGKILL)
    still_usable()


def slow_big(folder, x):
    Path(folder, str(x)).write_text(str(os.getpid()))
    return bytes(200_000_000)


def test_worker_killed_while_it_writes_a_large_result(tmp_path):
    import threading

    def killer():
        mark = tmp_path / "1"
        while not mark.exists() or not mark.read_text():
            time.sleep(0.001)
        time.sleep(0.05)
        os.kill(int(mark.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    results = Parallel(n_jobs=2, batch_size=1, on_error="return", max_nbytes=None)(
        delayed(slow_big)(tmp_path, i) for i in range(2)
    )
    thread.join()
    assert len(results[0]) == 200_000_000
    assert isinstance(results[1], TaskFailure) or len(results[1]) == 200_000_000
    still_usable()


def sleeper(seconds):
    time.sleep(seconds)
    return seconds


def stubborn(x):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if x == 1:
        ctypes.PyDLL(None).usleep(60_000_000)  # holds the GIL
    return x


def test_task_timeout_stops_the_call_and_only_it():
    begin = time.monotonic()
    results = Parallel(n_jobs=2, task_timeout=0.5, on_error="return")(
        delayed(sleeper)(s) for s in [0.01, 60, 0.02, 0.3, 0.3, 0.3]
    )
    assert time.monotonic() - begin < 5
    assert isinstance(results[1].exception, TaskTimeoutError)
    assert "task_timeout=0.5" in str(results[1].exception)
    assert [r for i, r in enumerate(results) if i != 1] == [0.01, 0.02, 0.3, 0.3, 0.3]


def test_task_timeout_stops_a_call_that_holds_the_interpreter():
    results = Parallel(n_jobs=2, task_timeout=0.5, on_error="return")(
        delayed(stubborn)(x) for x in range(3)
    )
    assert isinstance(results[1].exception, TaskTimeoutError)
    assert (results[0], results[2]) == (0, 2)


def recurse(x):
    return recurse(x + 1)


def test_recursion():
    with pytest.raises(RecursionError):
        Parallel(n_jobs=2)(delayed(recurse)(i) for i in range(2))
    still_usable()


def deep(n):
    value = []
    for _ in range(n):
        value = [value]
    return value


@pytest.mark.parametrize("where", ["argument", "result"])
def test_what_is_nested_too_deeply_fails_its_call(where):
    calls = [delayed(len)(deep(100_000))] if where == "argument" else [delayed(deep)(100_000)]
    with pytest.raises(TransportError):
        Parallel(n_jobs=2)([*calls, delayed(square)(1)])
    still_usable()


def unpicklable_result(x):
    return (i for i in range(x)) if x == 3 else x


def test_unpicklable_result_fails_its_call_by_name():
    results = Parallel(n_jobs=2, batch_size=5, on_error="return")(
        delayed(unpicklable_result)(i) for i in range(5)
    )
    assert "generator" in str(results[3].exception)
    assert [results[i] for i in (0, 1, 2, 4)] == [0, 1, 2, 4]


def test_unpicklable_argument_fails_its_call_by_name():
    import threading

    arguments = [1, threading.Lock(), 3]
    results = Parallel(n_jobs=2, batch_size=3, on_error="return")(
        delayed(repr)(a) for a in arguments
    )
    assert "lock" in str(results[1].exception)
    assert (results[0], results[2]) == ("1", "3")


def exits(x):
    sys.exit(x)


def interrupts(x):
    raise KeyboardInterrupt(x)


def test_sys_exit_in_a_call_is_its_own_failure():
    with pytest.raises(SystemExit):
        Parallel(n_jobs=2)(delayed(exits)(3) for _ in range(2))
    still_usable()


def test_keyboard_interrupt_raised_by_a_call():
    with pytest.raises(KeyboardInterrupt):
        Parallel(n_jobs=2)(delayed(interrupts)(3) for _ in range(2))
    still_usable()


def closes_streams(x):
    sys.stdout.close()
    with suppress(OSError):
        os.close(1)
    with suppress(OSError):
        os.close(2)
    return x


def closes_everything(x):
    if x == 1:
        os.closerange(3, 1000)
        time.sleep(30)
    return x


def test_a_call_that_closes_its_streams():
    with Parallel(n_jobs=2) as parallel:
        for _ in range(2):
            assert parallel(delayed(closes_streams)(i) for i in range(6)) == list(range(6))


def test_a_call_that_closes_its_sockets_is_lost():
    results = Parallel(n_jobs=2, on_error="return")(delayed(closes_everything)(i) for i in range(4))
    assert isinstance(results[1].exception, WorkerLostError)
    still_usable()
