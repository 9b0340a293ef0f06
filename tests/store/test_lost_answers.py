"""Servers that fail, fall silent, or act without an answer."""

from __future__ import annotations

import pickle
import time
import warnings

import pytest

from jobspan.errors import StoreError, StoreUnavailableError
from jobspan.store import open_store
from jobspan.store.conditions import StoreWithoutConditionsWarning
from jobspan.testing.proxy import Fault, Proxy


@pytest.fixture(params=["fsspec", "obstore"])
def engine(request):
    return request.param


# What a proxy answers for the server is the same before any server.
only_moto = pytest.mark.parametrize("server", ["moto_server"], indirect=True)


@pytest.fixture(params=["moto_server", "seaweedfs_server"])
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def proxy(server):
    with Proxy(server.endpoint) as proxy:
        yield proxy


def open_through(proxy, server, engine, prefix, **options):
    return open_store(
        f"{server.bucket_url('faults')}/{prefix}",
        storage_options={**server.storage_options, "endpoint_url": proxy.endpoint, **options},
        engine=engine,
    )


@pytest.fixture
def store(proxy, server, engine, fresh_prefix):
    store = open_through(proxy, server, engine, fresh_prefix())
    assert store.conditional
    proxy.reset()
    yield store
    store.close()


def test_a_create_that_meets_itself_has_won(store, proxy):
    proxy.inject(Fault("lost answer", method="PUT"))
    token = store.create("claim", b"mine")
    assert token is not None
    assert [request.status for request in proxy.requests][:2] == [0, 412]
    assert store.get("claim") == (b"mine", token)
    assert store.create("claim", b"yours") is None


def test_a_swap_that_meets_itself_has_won(store, proxy):
    first = store.put("a", b"1")
    proxy.inject(Fault("lost answer", method="PUT"))
    second = store.swap("a", b"2", first)
    assert second is not None
    assert store.get("a") == (b"2", second)


def test_a_retried_create_that_meets_somebody_else_has_lost(store, proxy):
    store.put("claim", b"theirs")
    proxy.inject(Fault("lost answer", method="PUT"))
    assert store.create("claim", b"mine") is None
    assert store.get("claim")[0] == b"theirs"


def test_a_create_after_a_lost_request(store, proxy):
    proxy.inject(Fault("lost request", method="PUT"))
    assert store.create("claim", b"mine") is not None
    assert store.get("claim")[0] == b"mine"


@only_moto
@pytest.mark.parametrize("kind", ["unavailable", "lost answer", "lost request"])
def test_one_fault_is_got_over(store, proxy, kind):
    for call in (
        lambda: store.put("a", b"1"),
        lambda: store.get("a"),
        lambda: list(store.list()),
        lambda: store.delete("a"),
    ):
        proxy.inject(Fault(kind))
        call()


@only_moto
def test_a_server_that_stays_unavailable_is_told_within_seconds(store, proxy):
    store.put("a", b"1")
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b"2"),
        lambda: store.create("b", b"2"),
    ):
        proxy.inject(Fault("unavailable", times=100))
        start = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            call()
        assert time.monotonic() - start < 15
        proxy.reset()
    assert store.get("a")[0] == b"1"


@only_moto
def test_a_silent_server_is_told_in_the_end(proxy, server, fresh_prefix):
    store = open_through(
        proxy,
        server,
        "fsspec",
        fresh_prefix(),
        config_kwargs={"read_timeout": 0.5, "retries": {"max_attempts": 1}},
    )
    proxy.inject(Fault("silence", times=100))
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.get("a")
    assert time.monotonic() - start < 15


@only_moto  # it checks no signatures, of which a hidden header would be a part
def test_a_server_that_ignores_conditions_is_found_out(server, engine, fresh_prefix):
    with Proxy(server.endpoint, hidden=("If-None-Match", "If-Match")) as proxy:
        store = open_through(proxy, server, engine, fresh_prefix())
        with pytest.warns(StoreWithoutConditionsWarning, match="more than once"):
            assert not store.conditional
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not store.conditional
            # Without promises among several writers, but right for one.
            token = store.create("a", b"1")
            assert store.create("a", b"2") is None
            assert store.get("a") == (b"1", token)
            assert store.swap("a", b"3", '"no such state"') is None
            second = store.swap("a", b"3", token)
            assert second is not None
            assert not store.delete("a", token)
            assert store.delete("a", second)
        store.close()


@only_moto
def test_a_bucket_is_probed_and_warned_of_once_a_process(server, engine, fresh_prefix):
    with Proxy(server.endpoint, hidden=("If-None-Match", "If-Match")) as proxy:
        stores = [open_through(proxy, server, engine, fresh_prefix()) for _ in range(3)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert not stores[0].conditional
            proxy.reset()
            assert not stores[1].conditional
            assert not pickle.loads(pickle.dumps(stores[2])).conditional
        kinds = [w for w in caught if w.category is StoreWithoutConditionsWarning]
        assert len(kinds) == 1
        assert not proxy.counts
        for each in stores:
            each.close()


@only_moto
@pytest.mark.parametrize("unknown", [("IfNoneMatch", "IfMatch"), ("IfMatch",)])
def test_an_old_botocore_that_knows_no_conditions(server, fresh_prefix, monkeypatch, unknown):
    """Such a one would write whatever stands there; the probe finds it out."""
    with Proxy(server.endpoint) as proxy:
        store = open_through(proxy, server, "fsspec", fresh_prefix())
        store.put("warm", b"1")
        s3fs = store._requests[1]._fs
        model = s3fs._s3.meta.service_model
        for operation in ("PutObject", "DeleteObject"):
            members = model.operation_model(operation).input_shape.members
            for name in set(unknown) & members.keys():
                monkeypatch.delitem(members, name)
        with pytest.warns(StoreWithoutConditionsWarning):
            assert not store.conditional
        assert store.create("a", b"1") is not None
        assert store.create("a", b"2") is None
        assert store.swap("a", b"3", '"no such state"') is None
        assert store.get("a")[0] == b"1"
        store.close()


@only_moto
def test_a_server_that_ignores_the_condition_of_deletes(server, engine, fresh_prefix):
    """What a delete with a token promises is looked up where the server does not keep it."""
    with Proxy(server.endpoint, hidden=("If-Match",)) as proxy:
        store = open_through(proxy, server, engine, fresh_prefix())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StoreWithoutConditionsWarning)
            first = store.put("a", b"1")
            store.put("a", b"2")
            assert not store.delete("a", first)
            assert store.get("a")[0] == b"2"
        store.close()


def test_a_bucket_that_goes_away(moto_server, engine):
    store = open_store(
        moto_server.bucket_url("doomed"),
        storage_options=moto_server.storage_options,
        engine=engine,
    )
    assert moto_server.request("DELETE", "/doomed") in {200, 204}
    with pytest.raises(StoreError, match="no bucket 'doomed'"):
        store.put("a", b"1")
    store.close()
