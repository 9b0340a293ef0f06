"""Workers start when needed, serve everybody, and leave nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import psutil
import pytest
from tests.busyness import busyness

from jobspan import Parallel, delayed
from jobspan.backends.processes import ProcessBackend
from jobspan.backends.processes.idle import close_idle_workers

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(90)


def run_script(text, *, timeout=30, **kwargs):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **kwargs,
    )


def processes_in_group_of(session):
    """Return the processes of a session, by reading /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def wait_until_gone(session, seconds):
    deadline = time.monotonic() + seconds
    while processes_in_group_of(session):
        if time.monotonic() > deadline:
            return processes_in_group_of(session)
        time.sleep(0.02)
    return []


def process_id(pause=0.0):
    time.sleep(pause)
    return os.getpid()


def square(x):
    return x * x


def test_workers_serve_the_next_call():
    first = set(Parallel(n_jobs=2)(delayed(process_id)(0.02) for _ in range(6)))
    second = set(Parallel(n_jobs=2)(delayed(process_id)(0.02) for _ in range(6)))
    assert first == second
    assert os.getpid() not in first


def test_workers_start_on_demand():
    assert len(set(Parallel(n_jobs=8)(delayed(process_id)() for _ in range(1)))) == 1


def test_script_needs_no_main_guard_and_leaves_nothing():
    done = run_script(
        """
        from jobspan import Parallel, delayed
        class Point:
            def __init__(self, x): self.x = x
        def double(p): return Point(p.x * 2)
        print([p.x for p in Parallel(n_jobs=2)(delayed(double)(Point(i)) for i in range(5))])
        """,
        start_new_session=True,
    )
    assert done.stdout == "[0, 2, 4, 6, 8]\n"
    assert done.stderr == ""
    assert done.returncode == 0


BUSY = r"""
import os, sys, time
from jobspan import Parallel, delayed
def busy(i):
    import ctypes
    if i == 3:
        import subprocess
        subprocess.Popen(["sleep", "600"])
    os.write(1, b"busy\n")
    if i % 2:
        ctypes.PyDLL(None).usleep(600_000_000)  # holds the GIL
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_killed_parent_even_in_the_middle_of_a_call():
    script = subprocess.Popen(
        [sys.executable, "-c", BUSY + "Parallel(n_jobs=4)(delayed(busy)(i) for i in range(4))"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert script.stdout is not None
    for _ in range(4):
        assert script.stdout.readline() == b"busy\n"
    assert len(processes_in_group_of(script.pid)) >= 6
    script.kill()
    script.wait()
    assert wait_until_gone(script.pid, 5) == []
    script.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupt_returns_soon_and_leaves_nobody():
    text = BUSY + "Parallel(n_jobs=2)(delayed(busy)(i) for i in range(4))"
    script = subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert script.stdout is not None
    script.stdout.readline()
    begin = time.monotonic()
    os.killpg(script.pid, signal.SIGINT)
    _, stderr = script.communicate(timeout=10)
    assert time.monotonic() - begin < 2 * busyness()
    assert b"KeyboardInterrupt" in stderr
    assert wait_until_gone(script.pid, 0.2 * busyness()) == []


INTERRUPTED = """
import os, sys, time, signal
from jobspan import Parallel, delayed
import numpy as np
def work(x): time.sleep(0.0005); return x
big = np.ones(200_000)
print("up", flush=True)
try:
    while True:
        Parallel(n_jobs=2)(delayed(work)(big if i % 7 == 0 else i) for i in range(200))
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
assert Parallel(n_jobs=2)(delayed(abs)(i) for i in range(50)) == list(range(50))
print("usable", flush=True)
"""


def interrupt_at_random(number):
    dice = random.Random(number)
    script = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    assert script.stdout.readline() == "up\n"
    time.sleep(dice.uniform(0, 0.4))
    begin = time.monotonic()
    os.killpg(script.pid, signal.SIGINT)
    stdout, stderr = script.communicate(timeout=15)
    word, returned, *rest = stdout.split()
    assert [word, *rest] == ["interrupted", "usable"], stderr
    # All processes have one clock: no further call and no exit is counted in.
    assert float(returned) - begin < 2 * busyness()
    assert wait_until_gone(script.pid, 0.5 * busyness()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("start", range(0, 12, 4))
def test_interrupts_at_random_moments(start):
    for number in range(start, start + 4):
        interrupt_at_random(number)


INTERRUPTED_OFTEN = """
import random, sys, time
from tests.interrupts import interrupt, opened
from jobspan import Parallel, delayed, parallel_config
from jobspan.backends.processes.idle import close_idle_workers

def work(x): return bytes(200_000) if x % 3 == 0 else x

def round():
    with parallel_config("processes", n_jobs=2):
        Parallel(max_nbytes=1000)(delayed(work)(x) for x in range(8))
    if dice.random() < 0.5:
        close_idle_workers()

dice = random.Random(7)
round()
close_idle_workers()
before = opened()
interrupt(round, 40, 0.03, dice)
close_idle_workers()
print(*(opened() - before).items())
sys.stdout.flush()
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupts_again_and_again_leave_no_descriptor_and_no_worker():
    script = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_OFTEN], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert script.stdout is not None
    try:
        assert script.stdout.readline() == "\n"
        deadline = time.monotonic() + 5 * busyness()
        program = psutil.Process(script.pid)
        while len(family := program.children(recursive=True)) > 1:  # the template stays
            assert time.monotonic() < deadline, family
            time.sleep(0.05)
    finally:
        script.kill()
        script.communicate()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_fifty_interrupts_at_random_moments():
    for number in range(100, 150):
        interrupt_at_random(number)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "cycles", [200, pytest.param(1000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def test_start_and_stop_many_times_leaves_nothing_open(cycles):
    # In a process of its own: what other tests left to the garbage collector is not counted.
    program = Path(__file__).with_name("start_and_stop.py")
    done = subprocess.run(
        [sys.executable, program, str(cycles)],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    before, after = map(json.loads, done.stdout.splitlines())
    assert after["descriptors"] == before["descriptors"]
    assert after["threads"] == before["threads"]
    assert after["segments"] == before["segments"] == []
    assert abs(after["mappings"] - before["mappings"]) < 20


def test_idle_workers_leave_by_themselves_and_the_next_call_starts_others():
    def workers():
        return set(
            Parallel(n_jobs=2, backend="processes", idle_worker_timeout=0.3)(
                delayed(process_id)(0.01) for _ in range(6)
            )
        )

    first = workers()
    time.sleep(0.8)
    for process in first:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert not (workers() & first)


def test_workers_leave_while_a_block_is_open():
    with Parallel(n_jobs=2, backend="processes", idle_worker_timeout=0.2) as parallel:
        for _ in range(3):
            assert parallel(delayed(square)(i) for i in range(6)) == [i * i for i in range(6)]
            time.sleep(0.5)


def test_workers_are_replaced_after_so_many_batches():
    processes = Parallel(n_jobs=2, backend="processes", maxtasksperchild=3, batch_size=1)(
        delayed(process_id)() for _ in range(30)
    )
    assert len(set(processes)) >= 10


def test_options_are_checked():
    with pytest.raises(TypeError, match="no_such_option"):
        Parallel(n_jobs=2, backend="processes", no_such_option=1)
    with pytest.raises(ValueError, match="idle_worker_timeout=-1"):
        ProcessBackend(idle_worker_timeout=-1)


def test_several_threads_at_once():
    failures = []

    def use(seed):
        try:
            for _ in range(10):
                expected = [(seed + i) ** 2 for i in range(30)]
                calls = (delayed(square)(seed + i) for i in range(30))
                assert Parallel(n_jobs=2)(calls) == expected
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(i * 100,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_workers_started_from_a_thread_outlive_it():
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(Parallel(n_jobs=2)(delayed(process_id)() for _ in range(4)))
    )
    close_idle_workers()
    thread.start()
    thread.join()
    time.sleep(0.1)
    for process in set(found):
        os.kill(process, 0)


def nested_ids(backend):
    return Parallel(n_jobs=2, backend=backend)(delayed(process_id)() for _ in range(4))


def test_inside_a_worker_threads_unless_processes_are_asked_for():
    for ids in Parallel(n_jobs=2)(delayed(nested_ids)(None) for _ in range(2)):
        assert len(set(ids)) == 1
    outer = set(Parallel(n_jobs=2)(delayed(process_id)() for _ in range(4)))
    for ids in Parallel(n_jobs=2)(delayed(nested_ids)("processes") for _ in range(2)):
        assert not set(ids) & outer


def complain():
    warnings.warn("as asked", UserWarning, stacklevel=1)


def test_the_callers_warning_filters_hold_in_workers_but_under_the_name_of_loky():
    """joblib's users who name loky know workers whose filters are their own."""
    calls = [delayed(complain)() for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # the same workers serve both names
            with pytest.raises(UserWarning, match="as asked"):
                Parallel(n_jobs=2, backend="processes")(calls)
            assert Parallel(n_jobs=2, backend="loky")(calls) == [None] * 4


def test_after_fork_the_child_has_a_pool_of_its_own():
    done = run_script(
        """
        import os, sys, warnings
        from jobspan import Parallel, delayed
        def pid(): return os.getpid()
        before = set(Parallel(n_jobs=2)(delayed(pid)() for _ in range(8)))
        child = os.fork()
        mine = set(Parallel(n_jobs=2)(delayed(pid)() for _ in range(8)))
        if child == 0:
            os._exit(10 if not mine & before else 11)
        _, status = os.waitpid(child, 0)
        again = set(Parallel(n_jobs=2)(delayed(pid)() for _ in range(8)))
        print(os.waitstatus_to_exitcode(status), bool(again & before))
        """
    )
    assert done.stdout == "10 True\n", done.stderr


def test_a_forked_child_that_lives_on_does_not_keep_workers_alive():
    script = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import os, time
                from jobspan import Parallel, delayed
                def pid(): time.sleep(0.01); return os.getpid()
                pids = set(Parallel(n_jobs=2)(delayed(pid)() for _ in range(8)))
                child = os.fork()
                if child == 0:
                    time.sleep(20)
                    os._exit(0)
                print(child, *pids, flush=True)
                time.sleep(20)
                """
            ),
        ],
        stdout=subprocess.PIPE,
    )
    assert script.stdout is not None
    child, *workers = map(int, script.stdout.readline().split())
    script.kill()
    script.wait()
    deadline = time.monotonic() + 5
    try:
        while any(Path(f"/proc/{process}").exists() for process in workers):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(child, signal.SIGKILL)
        script.stdout.close()


def shout(x):
    sys.stdout.write(
        f"out {x}\n"
    )  # in one piece: where Python does not buffer, print writes several
    sys.stderr.write(f"err {x}\n")
    os.write(1, b"raw\n")
    return x


def test_what_calls_print_appears(capfd):
    for _ in range(2):  # the second time by workers that were started while another test ran
        Parallel(n_jobs=2)(delayed(shout)(i) for i in range(4))
        out, err = capfd.readouterr()
        assert sorted(out.split()) == ["0", "1", "2", "3"] + ["out"] * 4 + ["raw"] * 4
        assert sorted(err.split()) == ["0", "1", "2", "3"] + ["err"] * 4


def test_environment_of_the_caller_at_the_start(monkeypatch):
    close_idle_workers()
    monkeypatch.setenv("JOBSPAN_TEST_VARIABLE", "é x")
    values = Parallel(n_jobs=2)(delayed(os.environ.get)("JOBSPAN_TEST_VARIABLE") for _ in range(4))
    assert values == ["é x"] * 4
    close_idle_workers()


def thread_variables():
    return os.environ["OMP_NUM_THREADS"]


def test_threads_of_libraries_follow_the_setting(monkeypatch):
    close_idle_workers()
    assert Parallel(n_jobs=2, inner_max_num_threads=5)(
        delayed(thread_variables)() for _ in range(2)
    ) == ["5", "5"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    close_idle_workers()
    assert Parallel(n_jobs=2)(delayed(thread_variables)() for _ in range(2)) == ["3", "3"]
    close_idle_workers()


def test_error_in_one_call_stops_the_others_soon():
    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        Parallel(n_jobs=2)([delayed(time.sleep)(30), delayed(divmod)(1, 0)])
    assert time.monotonic() - begin < 2
    assert Parallel(n_jobs=2)(delayed(square)(i) for i in range(4)) == [0, 1, 4, 9]


def test_one_slow_call_does_not_hold_what_was_queued_behind_it():
    with Parallel(n_jobs=2, batch_size=1, return_as="generator_unordered") as parallel:
        list(parallel(delayed(time.sleep)(0.001) for _ in range(20)))
        begin = time.monotonic()
        pauses = [0.001] * 5 + [20.0] + [0.001] * 20
        results = parallel(delayed(process_id)(pause) for pause in pauses)
        for _ in range(len(pauses) - 1):
            next(results)
        assert time.monotonic() - begin < 10
        with pytest.warns(UserWarning, match="have been cancelled"):
            results.close()


def test_a_block_that_was_entered_before_a_fork_says_so_in_the_child():
    done = run_script(
        """
        import os
        from jobspan import Parallel, delayed
        from jobspan.errors import BackendError
        with Parallel(n_jobs=2) as parallel:
            parallel(delayed(abs)(i) for i in range(3))
            child = os.fork()
            if child == 0:
                try:
                    parallel(delayed(abs)(i) for i in range(3))
                except BackendError as error:
                    os._exit(10 if "fork" in str(error) else 11)
                os._exit(12)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            print(parallel(delayed(abs)(i) for i in range(3)))
        """
    )
    assert done.stdout == "10\n[0, 1, 2]\n", done.stderr


@pytest.mark.parametrize("backend", ["None", "'processes'"])
def test_a_module_that_runs_calls_when_it_is_imported(tmp_path, backend):
    """Its workers do not import it in turn, to start workers of their own without an end."""
    tmp_path.joinpath("unguarded.py").write_text(
        textwrap.dedent(f"""
        from jobspan import Parallel, delayed

        class Point:
            def __init__(self, x):
                self.x = x

        def doubled(point):
            return Point(2 * point.x)

        print("imported")
        generator = Parallel(n_jobs=2, backend={backend}, return_as="generator")
        points = list(generator(delayed(doubled)(Point(x)) for x in range(4)))
        """)
    )
    done = run_script(
        "import unguarded\n"
        "assert [type(p) for p in unguarded.points] == [unguarded.Point] * 4\n"
        "print([point.x for point in unguarded.points])",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.stdout, done.stderr) == ("imported\n[0, 2, 4, 6]\n", "")


CALLS = """
from jobspan import Parallel, delayed

def run():
    return Parallel(n_jobs=2, backend={backend})(delayed(work)(x) for x in range(3))
"""


@pytest.mark.parametrize("backend", ["None", "'processes'"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_module_that_runs_calls_of_one_that_imports_it_back(tmp_path, backend, place):
    """Its workers import neither."""
    parts = ["import outer", f"{CALLS.format(backend=backend)}\ndef work(x):\n    return x + 1"]
    lines = parts if place == "first" else parts[::-1]
    (tmp_path / "inner.py").write_text("\n".join(lines))
    (tmp_path / "outer.py").write_text("print('imported')\nimport inner\nfound = inner.run()")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run_script("import outer; print(outer.found)", env=env)
    assert (done.stdout, done.stderr) == ("imported\n[1, 2, 3]\n", "")


@pytest.mark.parametrize("backend", ["None", "'processes'"])
def test_calls_that_import_the_module_whose_import_makes_them(tmp_path, backend):
    """They made the same calls, on threads that waited for each other or on ever more processes."""
    (tmp_path / "inner.py").write_text(
        f"{CALLS.format(backend=backend)}\ndef work(x):\n    import outer\n    return x + 1"
    )
    (tmp_path / "outer.py").write_text("print('imported')\nimport inner\nfound = inner.run()")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    begin = time.monotonic()
    done = run_script("import outer", env=env)
    assert time.monotonic() - begin < 20
    assert done.stdout.count("imported") <= 3  # here, and at most once a worker
    assert "BackendError: outer runs Parallel calls while it is imported" in done.stderr


def test_an_error_that_ends_in_a_cycle_is_collected_in_silence():
    """Its traceback holds what was encoded. ``-X dev`` tells what Python 3.13 always does."""
    script = """if True:
        import gc
        from jobspan import Parallel, delayed
        try:
            Parallel(n_jobs=2)([delayed(int)("x")])
        except ValueError as error:
            error.itself = error
        gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_calls_and_keys_in_children_of_multiprocessing(tmp_path):
    """A spawned child knows the script under another name, which neither workers nor keys see."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing
        from jobspan import Memory, Parallel, delayed

        class Point:
            def __init__(self, x):
                self.x = x

        def doubled(point):
            return Point(2 * point.x)

        cached = Memory("cache", verbose=0).cache(doubled)

        def child(x):
            there = cached.check_call_in_cache(Point(x))
            points = Parallel(n_jobs=2)(delayed(doubled)(Point(i)) for i in range(x))
            stored = Parallel(n_jobs=2)(delayed(cached)(Point(i)) for i in range(x + 1))
            return there, [point.x for point in points + stored], stored[0]

        if __name__ == "__main__":
            cached(Point(2))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                there, values, point = pool.apply(child, [2])
            print(there, values, type(point) is Point, cached.check_call_in_cache(Point(1)))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True [0, 2, 0, 2, 4] True True\n", "")
