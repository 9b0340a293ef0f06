"""What only the local store has: crashes, leftovers, locks, full and read-only disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobspan.errors import StoreError, StoreUnavailableError
from jobspan.store import open_store
from jobspan.store.local import LocalStore
from jobspan.store.locking import FileLock

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


def leftovers(store: LocalStore) -> list[Path]:
    return sorted(Path(store.local_path("x")).parent.rglob(".jobspan-tmp*"))


def _write_for_ever(root: str) -> None:
    store = LocalStore(root)
    data = b"z" * 300_000
    while True:
        token = store.put("a/put", data)
        store.swap("a/put", data[1:], token)
        store.create(f"a/create-{random.random()}", data)


@posix
def test_writers_killed_at_any_moment(store, tmp_path):
    """Readers never see a part of an object, and a sweep leaves nothing of a dead writer's."""
    context = multiprocessing.get_context("spawn")
    for turn in range(4):
        writers = [
            context.Process(target=_write_for_ever, args=(str(tmp_path / "store"),))
            for _ in range(2)
        ]
        for writer in writers:
            writer.start()
        deadline = time.monotonic() + 20
        while not list(store.list()) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2 + 0.05 * turn)
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    for info in store.list():
        assert info.size in {300_000, 299_999}
        assert set(store.get(info.name)[0]) == {ord("z")}
    # A lock died with its holder: everything can still be written.
    token = store.put("a/put", b"new")
    assert store.swap("a/put", b"newer", token) is not None
    for file in leftovers(store):
        os.utime(file, (0, 0))
    store.sweep()
    assert leftovers(store) == []
    assert store.get("a/put")[0] == b"newer"


def test_a_sweep_spares_writers_that_are_alive(store):
    store.put("a/b", b"1")
    fresh = Path(store.local_path("a/b")).with_name(".jobspan-tmp-0123")
    fresh.write_bytes(b"on its way")
    assert store.sweep() == 0
    assert leftovers(store) == [fresh]
    os.utime(fresh, (0, 0))
    assert store.sweep() == 1
    assert leftovers(store) == []


def test_a_sweep_removes_empty_folders_and_nothing_else(store):
    store.put("a/b/c/1", b"1")
    store.put("a/2", b"2")
    store.delete("a/b/c/1")
    store.sweep(older_than=-1.0)
    assert [info.name for info in store.list()] == ["a/2"]
    assert not Path(store.local_path("a/b")).exists()
    store.put("a/b/c/1", b"1")


@posix
def test_a_full_disk_is_an_error_that_leaves_nothing_behind(store):
    import resource

    store.put("a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for write in (store.put, store.create):
            with pytest.raises(OSError, match="File too large"):
                write("a" if write == store.put else "b", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert leftovers(store) == []
    assert store.get("a")[0] == b"old"


def test_a_lock_that_a_stopped_process_holds(tmp_path):
    path = str(tmp_path / "lock")
    code = (
        "import sys, time\nfrom jobspan.store.locking import FileLock\n"
        f"with FileLock({path!r}):\n print('held', flush=True)\n time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline().strip() == b"held"
        start = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="held the lock"), FileLock(path, 0.3):
            pass
        assert 0.2 < time.monotonic() - start < 5
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with FileLock(path, 5.0):  # free again, though nobody let go of it
        pass


def test_names_that_continue_another_object(store):
    store.put("a", b"1")
    with pytest.raises(StoreError, match="name continues another"):
        store.put("a/b", b"2")
    store.put("c/d", b"1")
    with pytest.raises(OSError, match=r"continues|exists|directory"):
        store.put("c", b"2")
    with pytest.raises(KeyError):
        store.get("a/b")
    with pytest.raises(KeyError):
        store.get("c")


def test_tokens_tell_quick_writes_apart(store):
    """Also where the file system's clock and its file numbers would not."""
    tokens = {store.put("a", b"same") for _ in range(3000)}
    assert len(tokens) == 3000


def test_a_store_that_may_only_be_read(store, tmp_path):
    store.put("a/b", b"1")
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "store").chmod(0o500)
    try:
        other = open_store(tmp_path / "store")
        assert other.get("a/b")[0] == b"1"
        assert other.age("a/b") is not None
        with pytest.raises(PermissionError):
            other.put("c", b"1")
    finally:
        (tmp_path / "store").chmod(0o700)


@posix
def test_files_can_be_shared_by_a_group(store):
    previous = os.umask(0o002)
    try:
        store.put("a/b", b"1")
    finally:
        os.umask(previous)
    assert Path(store.local_path("a/b")).stat().st_mode & 0o777 == 0o664


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupts_leave_no_file_open(tmp_path):
    """What stays open stays locked, and whoever wants the same result would wait for it."""
    program = Path(__file__).with_name("interrupted.py")
    command = [sys.executable, str(program), str(tmp_path / "store"), "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    interrupts, left_open = json.loads(done.stdout)
    assert interrupts > 100
    assert left_open == []
