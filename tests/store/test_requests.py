"""How many requests each operation makes, counted before a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from jobspan.store import BulkReads, open_store
from jobspan.store.connecting import connect
from jobspan.store.locations import parse_location
from jobspan.store.remote import RemoteStore
from jobspan.testing.proxy import Proxy, Request


@pytest.fixture(params=["fsspec", "obstore"])
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def proxy(moto_server):
    with Proxy(moto_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(moto_server, proxy, engine, fresh_prefix):
    proxy.reset()
    proxy.latency = 0.0
    store = open_store(
        f"{moto_server.bucket_url('requests')}/{fresh_prefix()}",
        storage_options={**moto_server.storage_options, "endpoint_url": proxy.endpoint},
        engine=engine,
    )
    assert store.conditional
    proxy.reset()
    yield store
    proxy.reset()
    proxy.latency = 0.0
    store.close()


def requests_of(proxy: Proxy, call) -> dict[str, int]:
    proxy.reset()
    call()
    return dict(proxy.counts)


def test_one_request_each(store, proxy):
    data = b"x" * 1000
    token = None

    def put():
        nonlocal token
        token = store.put("a", data)

    assert requests_of(proxy, put) == {"PUT": 1}
    assert requests_of(proxy, lambda: store.get("a")) == {"GET": 1}
    assert requests_of(proxy, lambda: store.get("a", 10, 20)) == {"GET": 1}
    assert requests_of(proxy, lambda: store.create("b", data)) == {"PUT": 1}
    assert requests_of(proxy, lambda: store.swap("a", b"new", token)) == {"PUT": 1}
    # Whoever is refused may have to make sure that it was not refused by its own lost write.
    assert requests_of(proxy, lambda: store.create("b", data))["PUT"] == 1
    assert requests_of(proxy, lambda: store.swap("a", b"newer", token))["PUT"] == 1
    assert requests_of(proxy, lambda: list(store.list())) == {"GET": 1}
    assert sum(requests_of(proxy, lambda: store.delete("a")).values()) == 1


def test_a_missing_object_is_one_request(store, proxy):
    def miss():
        with pytest.raises(KeyError):
            store.get("absent")

    assert requests_of(proxy, miss) == {"GET": 1}


def test_opening_is_one_request_and_the_probe_comes_when_it_is_needed(
    moto_server, proxy, engine, fresh_prefix
):
    proxy.reset()
    store = open_store(
        f"{moto_server.bucket_url('requests')}/{fresh_prefix()}",
        storage_options={**moto_server.storage_options, "endpoint_url": proxy.endpoint},
        engine=engine,
    )
    assert sum(proxy.counts.values()) == 1
    store.put("a", b"1")
    store.get("a")
    assert sum(proxy.counts.values()) == 3  # nothing probed for a store that is only read
    store.create("b", b"1")
    proxy.reset()
    store.create("c", b"1")
    assert dict(proxy.counts) == {"PUT": 1}
    assert [info.name for info in store.list("")] == ["a", "b", "c"]
    store.close()


def test_large_object_is_read_in_parallel_ranges(store, proxy):
    data = bytes(range(256)) * 4 * 2**10 * 40  # 40 MiB
    store.put("large", data)
    proxy.latency = 0.1
    proxy.reset()
    assert store.get("large")[0] == data
    assert dict(proxy.counts) == {"GET": 5}
    assert proxy.most_held == 4  # the first, then the rest together


def test_who_watches_a_large_object_sees_it_arrive_from_its_beginning(store):
    data = bytes(range(251)) * 2**17  # nearly 32 MiB
    store.put("large", data)
    store.put("small", b"small")
    told = []

    class Watch:
        def __call__(self, content, filled):
            told.append(filled)
            assert content[:filled] == data[:filled]

    content, token, watch = store.get_watched("large", Watch)
    assert (content, token) == store.get("large")
    assert type(watch) is Watch
    assert told == sorted(set(told))
    assert told[0] == 8 * 2**20
    assert told[-1] == len(content) == len(data)
    told.clear()
    assert store.get_watched("small", Watch)[0] == b"small"
    assert not told
    with pytest.raises(KeyError):
        store.get_watched("absent", Watch)


class _Interrupted:
    """The requests of another, with something that happens before the second of them."""

    def __init__(self, inner, event):
        self.inner = inner
        self.event = event

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def fetch_many(self, parts):
        event, self.event = self.event, lambda: None
        event()
        return self.inner.fetch_many(parts)


def test_parts_of_two_states_are_never_mixed(store, moto_server, fresh_prefix, engine):
    """An object that is written anew while its ranges are read is read again."""
    old, new = b"o" * (20 * 2**20), b"n" * (21 * 2**20)
    location = parse_location(store.url)
    writer = store

    def connecting(location, options):
        inner = connect(location, options, engine)
        return _Interrupted(inner, lambda: writer.put("large", new))

    reader = RemoteStore(location, moto_server.storage_options, connecting)
    store.put("large", old)
    content, token = reader.get("large")
    assert content == new
    assert token == store.get("large", 0, 1)[1]


def test_many_reads_are_under_way_at_once(store, proxy):
    """The look-up of many hits is bounded by the server, not by the way to it."""
    assert isinstance(store, BulkReads)
    names = [f"n/{number}" for number in range(100)]
    for name in names:
        store.put(name, name.encode())
    proxy.reset()
    proxy.latency = 0.1
    assert dict(store.get_many(names)) == {name: name.encode() for name in names}
    assert dict(proxy.counts) == {"GET": len(names)}
    assert proxy.most_held >= 20


def test_a_bulk_read_asks_no_further_ahead_than_it_has_to(store, proxy):
    for number in range(5):
        store.put(f"n/{number}", b"1")
    asked = []

    def names():
        for number in range(100_000):
            asked.append(number)
            yield f"n/{number % 5}"

    reading = store.get_many(names())
    for _ in range(10):
        next(reading)
    reading.close()
    assert len(asked) < 200


@pytest.fixture(scope="module")
def many_objects(moto_server):
    """More objects than a listing has on one page."""
    names = {f"n/{number:04d}" for number in range(1005)}
    url = moto_server.bucket_url("requests") + "/many"
    store = open_store(url, storage_options=moto_server.storage_options)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    return url, names


def test_paged_listing(moto_server, proxy, engine, many_objects):
    url, names = many_objects
    options = {**moto_server.storage_options, "endpoint_url": proxy.endpoint}
    store = open_store(url, storage_options=options, engine=engine)
    proxy.reset()
    assert {info.name for info in store.list()} == names
    assert dict(proxy.counts) == {"GET": 2}
    store.close()


def test_no_request_names_another_bucket(store, proxy):
    store.put("a", b"1")
    store.get("a")
    assert all(isinstance(request, Request) for request in proxy.requests)
    assert all(request.target.startswith("/requests") for request in proxy.requests)
