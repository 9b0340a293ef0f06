"""Any history with crashes in it, compared with a dictionary: old or new, never a part."""

from __future__ import annotations

import os
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from jobspan import descriptors
from jobspan.errors import StoreUnavailableError
from jobspan.store import local, local_files, locking, open_store
from jobspan.store.local import LocalStore
from jobspan.testing.proxy import Fault, Proxy
from jobspan.testing.store_histories import try_histories

NAMES = ["a", "b/1", "b/2", "c/d/e"]
STEPS = {
    *("open", "close", "write", "read", "lseek", "fstat", "stat", "utime"),
    *("link", "replace", "unlink", "mkdir", "makedirs"),
}


class DeathError(BaseException):
    """The process is no more."""


class MortalSystem(types.ModuleType):
    """The module `os` of a process that is killed before its n-th call of the system.

    From then on nothing it asks for is done, its clean-up included, and what it had open is closed,
    as the system does: so its locks are let go of.
    """

    def __init__(self, calls: int) -> None:
        super().__init__("os")
        self.calls = calls
        self.opened: set[int] = set()
        self.supports_fd = {self.utime} if os.utime in os.supports_fd else set()

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in STEPS:
            return function

        def step(*args, **kwargs):
            self.calls -= 1
            if self.calls < 0:
                for descriptor in self.opened:
                    os.close(descriptor)
                self.opened.clear()
                raise DeathError
            result = function(*args, **kwargs)
            if name == "open":
                self.opened.add(result)
            elif name == "close":
                self.opened.discard(args[0])
            return result

        self.__dict__[name] = step
        return step


class MortalLocks(types.ModuleType):
    """The module `fcntl` of that process."""

    def __init__(self, system: MortalSystem) -> None:
        super().__init__("fcntl")
        self.system = system

    def __getattr__(self, name):
        return getattr(locking_fcntl, name)

    def flock(self, descriptor, how):
        self.system.stat(os.sep)
        locking_fcntl.flock(descriptor, how)


locking_fcntl = getattr(locking, "fcntl", None)


@contextmanager
def killed_before(calls: int):
    system = MortalSystem(calls)
    with pytest.MonkeyPatch.context() as patch:
        for module in (descriptors, local, local_files, locking):
            patch.setattr(module, "os", system)
        patch.setattr(locking, "fcntl", MortalLocks(system))
        yield
    assert not system.opened


def leftovers(root: Path) -> list[Path]:
    return sorted(root.rglob(".jobspan-tmp*"))


class History(RuleBasedStateMachine):
    """Operations, any of which may be cut short; who looks afterwards sees the old or the new."""

    def open(self):
        raise NotImplementedError

    def cut_short(self, moment, act):
        """Do something; whether it came to its end, and with what."""
        raise NotImplementedError

    moments: st.SearchStrategy

    @initialize()
    def begin(self):
        self.store = self.open()
        self.model: dict[str, bytes] = {}
        self.serial = 0

    def content(self):
        self.serial += 1
        return b"%d " % self.serial * (1 + self.serial % 3 * 4000)

    def seen(self, name):
        try:
            return bytes(self.store.get(name)[0])
        except KeyError:
            return None

    def settle(self, name, new, *, ended, acted):
        """Compare what stands there with what may, and go on from it."""
        old = self.model.get(name)
        found = self.seen(name)
        if ended:
            assert found == (new if acted else old)
        else:
            assert found in (old, new)
        self.model.pop(name, None)
        if found is not None:
            self.model[name] = found

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def put(self, name, data):
        content = self.content()
        moment = data.draw(self.moments)
        ended, _ = self.cut_short(moment, lambda: self.store.put(name, content))
        self.settle(name, content, ended=ended, acted=True)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def create(self, name, data):
        self.create_at(name, data.draw(self.moments))

    def create_at(self, name, moment):
        content = self.content()
        free = name not in self.model
        ended, token = self.cut_short(moment, lambda: self.store.create(name, content))
        if ended:
            assert (token is not None) == free
        elif not free:
            content = self.model[name]
        self.settle(name, content, ended=ended, acted=free)

    @rule(name=st.sampled_from(NAMES), stale=st.booleans(), data=st.data())
    def swap(self, name, stale, data):
        if name in self.model:
            self.swap_at(name, data.draw(self.moments), stale=stale)

    def swap_at(self, name, moment, *, stale):
        content = self.content()
        token = self.store.get(name)[1]
        if stale:
            self.model[name] = self.content()
            self.store.put(name, self.model[name])
        ended, new = self.cut_short(moment, lambda: self.store.swap(name, content, token))
        if ended:
            assert (new is None) == stale
        self.settle(name, self.model[name] if stale else content, ended=ended, acted=True)

    @rule(name=st.sampled_from(NAMES), data=st.data())
    def delete(self, name, data):
        moment = data.draw(self.moments)
        ended, _ = self.cut_short(moment, lambda: self.store.delete(name))
        self.settle(name, None, ended=ended, acted=True)

    @invariant()
    def whole(self):
        if hasattr(self, "store"):
            assert {info.name: info.size for info in self.store.list()} == {
                name: len(data) for name, data in self.model.items()
            }
            for name, data in self.model.items():
                assert self.seen(name) == data


@pytest.mark.skipif(os.name == "nt", reason="locks are others there")
@pytest.mark.parametrize("nameless", [True, False], ids=["nameless files", "named files"])
def test_a_local_store_whose_writers_die_between_any_two_steps(tmp_path_factory, nameless):
    deaths = []

    class Local(History):
        moments = st.integers(0, 16)

        def open(self):
            self.root = tmp_path_factory.mktemp("history")
            return LocalStore(self.root)

        def cut_short(self, moment, act):
            self.store = LocalStore(self.root)  # each operation by a process of its own
            self.store._named = self.store._named or not nameless
            try:
                with killed_before(moment):
                    result = act()
            except DeathError:
                deaths.append(moment)
                self.store = LocalStore(self.root)
                return False, None
            return True, result

        @rule()
        def sweep(self):
            for file in leftovers(self.root):
                os.utime(file, (0, 0))
            self.store.sweep()
            assert leftovers(self.root) == []

        def teardown(self):
            if hasattr(self, "root"):
                self.sweep()

    try_histories(Local, examples=40, steps=20)
    assert len(set(deaths)) >= 8  # it did die, and at many a step


@pytest.mark.parametrize("engine", ["fsspec", "obstore"])
def test_a_bucket_that_loses_requests_and_answers(moto_server, engine, fresh_prefix):
    url = moto_server.bucket_url("crashes")
    failures = []
    with Proxy(moto_server.endpoint) as proxy:
        options = {**moto_server.storage_options, "endpoint_url": proxy.endpoint}

        class Bucket(History):
            moments = st.none() | st.tuples(
                st.sampled_from(["lost answer", "lost request", "unavailable"]),
                # Two are got over. Many are not, and take a second.
                st.sampled_from([1, 1, 1, 2, 2, 50]),
            )

            def open(self):
                return open_store(f"{url}/{fresh_prefix()}", storage_options=options, engine=engine)

            @initialize(name=st.sampled_from(NAMES), times=st.sampled_from([1, 2]))
            def lose_answers_of_conditional_writes(self, name, times):
                """Let each history have all of these; by chance alone it may have none."""
                lost = ("lost answer", times)
                self.begin()
                self.create_at(name, lost)
                self.create_at(name, lost)
                self.swap_at(name, lost, stale=False)
                self.swap_at(name, lost, stale=True)

            def cut_short(self, moment, act):
                assert self.store.conditional
                if moment is not None:
                    proxy.inject(Fault(moment[0], times=moment[1]))
                try:
                    return True, act()
                except StoreUnavailableError:
                    failures.append(moment)
                    return False, None
                finally:
                    proxy.reset()

            def teardown(self):
                if hasattr(self, "store"):
                    self.store.close()

        try_histories(Bucket, examples=5, steps=10)
    assert all(moment is not None and moment[1] > 2 for moment in failures)
