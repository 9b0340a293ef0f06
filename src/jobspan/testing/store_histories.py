"""Histories of a store, found by Hypothesis, and compared with those of a dictionary."""

from __future__ import annotations

from typing import Any

import pytest

from jobspan.store.protocol import ObjectStore

__all__ = ["check_like_a_dict", "try_histories"]


def check_like_a_dict(store: ObjectStore, *, examples: int = 20, steps: int = 15) -> None:
    """Do anything that can be done, in any order, to a store and to a dictionary, and compare.

    Parameters
    ----------
    store : ObjectStore
        An empty store; it is emptied again before each history.
    examples : int
        Number of histories.
    steps : int
        Longest history.
    """
    from hypothesis import strategies as st
    from hypothesis.stateful import (
        RuleBasedStateMachine,
        initialize,
        invariant,
        rule,
    )

    names = st.sampled_from(["a", "b/1", "b/2", "b/c/3", "déjà/vu"])
    values = st.binary(max_size=64)

    class Machine(RuleBasedStateMachine):
        @initialize()
        def empty(self) -> None:
            for info in list(store.list()):
                store.delete(info.name)
            self.model: dict[str, bytes] = {}
            self.tokens: dict[str, str] = {}
            # Tokens of states that are over, and of which no later state had the same bytes.
            self.stale: dict[str, tuple[str, bytes]] = {}

        def written(self, name: str, data: bytes, token: str) -> None:
            self.over(name)
            self.model[name] = data
            self.tokens[name] = token

        def over(self, name: str) -> None:
            if name in self.model:
                self.stale[name] = (self.tokens.pop(name), self.model.pop(name))

        @rule(name=names, data=values)
        def put(self, name: str, data: bytes) -> None:
            self.written(name, data, store.put(name, data))

        @rule(name=names, data=values)
        def create(self, name: str, data: bytes) -> None:
            token = store.create(name, data)
            assert (token is None) == (name in self.model)
            if token is not None:
                self.written(name, data, token)

        @rule(name=names, data=values)
        def swap(self, name: str, data: bytes) -> None:
            if name in self.model:
                token = store.swap(name, data, self.tokens[name])
                assert token is not None
                self.written(name, data, token)

        @rule(name=names, data=values)
        def swap_stale(self, name: str, data: bytes) -> None:
            token, old = self.stale.get(name, ("no-such-token", b""))
            if self.model.get(name) != old:
                assert store.swap(name, data, token) is None

        @rule(name=names)
        def delete(self, name: str) -> None:
            store.delete(name)
            self.over(name)

        @rule(name=names)
        def delete_state(self, name: str) -> None:
            if name in self.model:
                assert store.delete(name, self.tokens[name])
                self.over(name)
            else:
                assert not store.delete(name, "no-such-token")

        @rule(name=names)
        def delete_stale(self, name: str) -> None:
            token, old = self.stale.get(name, ("no-such-token", b""))
            if self.model.get(name) != old:
                assert not store.delete(name, token)

        @rule(name=names, start=st.integers(0, 70), length=st.none() | st.integers(0, 70))
        def get(self, name: str, start: int, length: int | None) -> None:
            end = None if length is None else start + length
            if name in self.model:
                expected = self.model[name][start:end]
                assert store.get(name, start, end) == (expected, self.tokens[name])
            else:
                with pytest.raises(KeyError):
                    store.get(name, start, end)

        @rule(prefix=st.sampled_from(["", "b", "b/", "b/c/", "d", "z"]))
        def list_prefix(self, prefix: str) -> None:
            found = {info.name: info.size for info in store.list(prefix)}
            assert found == {
                name: len(data) for name, data in self.model.items() if name.startswith(prefix)
            }

        @invariant()
        def same_content(self) -> None:
            for name, data in getattr(self, "model", {}).items():
                assert store.get(name)[0] == data

    try_histories(Machine, examples=examples, steps=steps)


def try_histories(machine: Any, *, examples: int, steps: int) -> None:
    """Run a state machine of Hypothesis; nothing is kept, and no history is too slow.

    Parameters
    ----------
    machine : callable
        Returns a fresh state machine.
    examples : int
        Number of histories.
    steps : int
        Longest history.
    """
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
