"""One row of the matrix, run in a process of its own: ``python -m tests.faults.scene '{...}'``.

The last line of its output says how it ended.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

from tests.busyness import busyness
from tests.faults.faults import FAULTS, FOLDER, die_while_storing
from tests.faults.wall_clock import own_clock, set_clock

from jobspan import Memory, Parallel, TaskFailure, delayed, parallel_config
from jobspan.errors import JobspanWarning
from jobspan.testing.proxy import Fault, Proxy

CALLS = 24
DOOMED = 7


def work(x, fault, folder):
    """Return a value that depends on `x`; let the fault happen where it is its turn."""
    spec = FAULTS[fault]
    if spec.in_call is not None and x == DOOMED:
        mark = Path(folder, "happened")
        if spec.always or not mark.exists():
            mark.touch()
            os.environ[FOLDER] = folder
            spec.in_call()
    time.sleep(0.01)
    return x * x + 1


def sums(array, x):
    return array * 2 + x


def expected(x):
    return x * x + 1


class Row:
    """What a scene is told."""

    def __init__(self, told):
        self.fault = told["fault"]
        self.spec = FAULTS[self.fault]
        self.backend = told["backend"]
        self.store = told["store"]
        self.folder = told["folder"]
        self.cache = told["cache"]
        self.endpoint = told.get("endpoint")
        self.bucket = told.get("bucket")
        self.storage_options = told.get("storage_options", {})
        self.proxy = None
        self.faults = []

    def memory(self):
        if self.store == "none":
            return None
        if self.store == "disk":
            return Memory(self.cache, verbose=0)
        if self.proxy is None:
            self.proxy = Proxy(self.endpoint).start()
        options = {
            **self.storage_options,
            "endpoint_url": self.proxy.endpoint,
            "config_kwargs": {"read_timeout": 2, "connect_timeout": 2},
        }
        return Memory(self.bucket, storage_options=options, verbose=0)

    def cached(self, function):
        memory = self.memory()
        ignored = ["folder", "fault"] if function is work else []
        return function if memory is None else memory.cache(function, ignore=ignored)

    def disturb(self):
        if self.proxy is not None:
            self.proxy.latency = self.spec.latency
            self.faults = [Fault(**each) for each in self.spec.proxy]
            self.proxy.inject(*self.faults)

    def unharmed(self):
        """Say what should have gone wrong and has not; "" where it has."""
        spec = self.spec
        if spec.in_call is not None and not Path(self.folder, "happened").exists():
            return "no call went wrong"
        if spec.in_call is die_while_storing and not Path(self.folder, "died").exists():
            return "no worker died as it stored"
        if self.faults and [each.times for each in self.faults] == [e["times"] for e in spec.proxy]:
            return "no request went wrong"
        if self.store == "s3" and (spec.proxy or spec.latency) and not self.proxy.requests:
            return "no request went through the proxy"
        places = {"CACHE": self.cache, "TEMP": os.environ["TMPDIR"]}
        for place in spec.mounts:
            if shutil.disk_usage(places.get(place, place)).total > 2 << 20:
                return f"{place} is no small disk"
        for name, limit in spec.limits.items():
            if resource.getrlimit(getattr(resource, name))[0] > limit:
                return f"{name} is larger"
        return ""

    def parallel(self, **more):
        options = {**self.spec.options, **more}
        if "task_timeout" in options:  # a machine that does other work takes longer for a call
            options["task_timeout"] += busyness() / 2
        return Parallel(n_jobs=2, **options)

    def calls(self, function, count=CALLS, without=None):
        numbers = (x for x in range(count) if x != without)
        return (delayed(function)(x, fault=self.fault, folder=self.folder) for x in numbers)


def check(results):
    """Return how it ended: right, or the error of the call that was to fail, all else right."""
    wrong = [x for x, value in enumerate(results) if value != expected(x)]
    if not wrong:
        return "right"
    failures = [results[x] for x in wrong]
    if wrong != [DOOMED] or not isinstance(failures[0], TaskFailure):
        return f"WRONG: {[(x, results[x]) for x in wrong][:3]!r}"
    return type(failures[0].exception).__name__


def calls(row):
    function = row.cached(work)
    if row.store == "s3":
        row.parallel()(row.calls(function, 2))  # the store is known before it is disturbed
        row.disturb()
    ended = check(row.parallel(on_error="return")(row.calls(function)))
    if row.store == "none" or ended.startswith("WRONG"):
        return ended
    # What was computed is stored; where the store itself failed, some is computed again.
    parallel = row.parallel()
    without = None if ended == "right" else DOOMED
    again = parallel(row.calls(function, without=without))
    if again != [expected(x) for x in range(CALLS) if x != without]:
        return f"WRONG the second time: {again!r:.300}"
    if not row.spec.proxy and parallel.stats.recalled < len(again):
        return f"WRONG: {parallel.stats.recalled} of {len(again)} results are stored"
    return ended


def arrays(row):
    import numpy as np

    function = row.cached(sums)
    given = [np.full(200_000, x, dtype=float) for x in range(100)]
    results = row.parallel()(delayed(function)(array, x) for x, array in enumerate(given))
    right = all((result == 3 * x).all() for x, result in enumerate(results))
    return "right" if right else "WRONG"


def arrays_without_memory(row):
    """Memory files are refused, as some sandboxes do."""

    def refuse(*arguments):
        raise OSError(38, "memory files are not to be had")

    os.memfd_create = refuse
    try:
        return arrays(row)
    except Exception as error:
        return type(error).__name__


def clocks(row):
    """The clock is set ten times a second, while calls run and entries are written and read."""
    return with_clock(row, itertools.cycle((1, -1)), 0.1)


def clock_set(row):
    """The clock is set ahead. Set back, Dask itself waits for as long: see the documentation."""
    row.parallel()(delayed(abs)(x) for x in range(4))  # a cluster has started
    return with_clock(row, (1,), 0.0)


def with_clock(row, days_wrong, seconds):
    clock = own_clock()
    ended = threading.Event()
    set_first = threading.Event()

    def jump():
        for days in days_wrong:
            set_clock(clock, days * 86400)
            set_first.set()
            if ended.wait(seconds):
                return

    thread = threading.Thread(target=jump)
    thread.start()
    set_first.wait()
    if abs(time.time() - Path(row.folder).stat().st_ctime) < 80000:
        return "WRONG: the clock cannot be set"
    try:
        return calls(row)
    finally:
        ended.set()
        thread.join()


def suspended(row):
    """The program sleeps with all its workers; somebody else wakes them."""
    waker = (
        "import os, signal, sys, time\n"
        "group = int(sys.argv[1]); time.sleep(3); os.killpg(group, signal.SIGCONT)"
    )

    def sleep():
        time.sleep(0.3)
        subprocess.Popen([sys.executable, "-c", waker, str(os.getpgrp())], start_new_session=True)
        os.killpg(os.getpgrp(), signal.SIGSTOP)

    thread = threading.Thread(target=sleep)
    thread.start()
    function = row.cached(work)
    ended = check(row.parallel()(row.calls(function, 120)))
    thread.join()
    return ended


def torn(row):
    function = row.cached(work)
    row.parallel()(row.calls(function))
    store = row.memory().store_backend
    chance = random.Random(7)
    for info in list(store.list()):
        data = bytes(store.get(info.name)[0])
        store.put(info.name, data[: chance.randrange(len(data))])
    ended = check(row.parallel()(row.calls(function)))
    if row.memory().verify():
        return "WRONG: torn entries stay"
    return ended


def writer_killed(row):
    """Another program is killed several times while it stores; then this one goes on."""
    row.memory()
    told = {**vars(row), "spec": None, "proxy": None, "fault": row.fault}
    if row.proxy is not None:
        told["endpoint"] = row.proxy.endpoint
    command = [sys.executable, "-m", "tests.faults.scene", "--store-for-ever", json.dumps(told)]
    # A cluster takes long to start, and is killed once.
    for seconds in (0.5,) if row.backend in ("dask", "ray") else (0.05, 0.5, 1.2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
            process.stdout.readline()
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != -signal.SIGKILL:
            return f"WRONG: the program ended before it was killed: {process.returncode}"
    for lock in Path(tempfile.gettempdir()).glob("jobspan-dask-*/jobspan.lock"):
        os.utime(lock, (0, 0))  # as some time later: what is new is let alone
    function = row.cached(work)
    ended = check(row.parallel()(row.calls(function, 200)))
    memory = row.memory()
    if memory.verify():
        return "WRONG: torn entries"
    store = memory.store_backend
    if hasattr(store, "sweep"):
        store.sweep(0.0)
    return ended


def store_for_ever(row):
    function = row.cached(work)
    row.parallel()(row.calls(function, 4))  # the workers are there
    print("started", flush=True)
    for _ in range(100):
        row.parallel()(row.calls(function, 200))
        row.memory().clear(warn=False)


def ends_early(row):
    function = row.cached(work)
    stream = row.parallel(return_as="generator")(row.calls(function, 500))
    first = [next(stream) for _ in range(3)]
    row.kept = stream
    globals()["kept"] = row
    return "right" if first == [1, 2, 5] else "WRONG"


def ends_beside(row):
    done = threading.Event()

    def compute():
        with contextlib.suppress(BaseException):
            for result in row.parallel(return_as="generator")(row.calls(row.cached(work), 5000)):
                if result > 20:
                    done.set()

    threading.Thread(target=compute, daemon=True).start()
    done.wait(30)
    return "right"


def interrupted(row):
    """Somebody types Ctrl-C as soon as they see "started", or a little later."""
    function = row.cached(work)
    print("started", flush=True)
    try:
        ended = check(row.parallel()(row.calls(function, 1000)))
    except KeyboardInterrupt:
        ended = "KeyboardInterrupt"
    # The program goes on.
    again = check(row.parallel()(row.calls(function)))
    return ended if again == "right" else again


def main(arguments):
    row = Row(json.loads(arguments[-1]))
    warnings.simplefilter("ignore", JobspanWarning)
    if arguments[0] == "--store-for-ever":
        with parallel_config(backend=row.backend, **_backend_options(row.backend)):
            store_for_ever(row)
        return
    begin = time.monotonic()
    with parallel_config(backend=row.backend, **_backend_options(row.backend)):
        try:
            ended = globals()[row.spec.scene](row)
        except Exception as error:
            ended = f"{type(error).__name__}: {error}"
    if row.spec.scene != "writer_killed" and (unharmed := row.unharmed()):
        ended = f"WRONG: {unharmed} ({ended})"
    if row.proxy is not None:
        row.proxy.stop()
    seconds = round(time.monotonic() - begin, 1)
    print(json.dumps({"ended": ended, "seconds": seconds}), flush=True)


def _backend_options(backend):
    if backend == "ray":
        return {"ray_options": {"num_cpus": 2, "object_store_memory": 100 << 20}}
    return {"n_workers": 2} if backend == "dask" else {}


if __name__ == "__main__":
    main(sys.argv[1:])
