"""Large objects, received where they belong by us; where that fails, obstore reads them."""

from __future__ import annotations

import secrets
import socket

import pytest

from jobspan.store import open_store
from jobspan.testing.proxy import Fault, Proxy

DATA = secrets.token_bytes(2**16) * 640 + b"end"
PARTS = 6
SIGNED = "X-Amz-Signature"


@pytest.fixture
def proxy(seaweedfs_server):
    with Proxy(seaweedfs_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(seaweedfs_server, proxy, fresh_prefix):
    store = open_store(
        f"{seaweedfs_server.bucket_url('receiving')}/{fresh_prefix()}",
        storage_options={**seaweedfs_server.storage_options, "endpoint_url": proxy.endpoint},
        engine="obstore",
    )
    store.put("a name=with&odd %41 letters+é", DATA)
    proxy.reset()
    yield store
    store.close()


def read(store, proxy):
    """Read the large object; return how many requests there were, and how many were signed URLs."""
    proxy.reset()
    assert store.get("a name=with&odd %41 letters+é")[0] == DATA
    assert set(proxy.counts) == {"GET"}
    return len(proxy.requests), sum(SIGNED in request.target for request in proxy.requests)


def test_all_but_the_first_part_are_received_where_they_belong(store, proxy):
    for _ in range(2):
        assert read(store, proxy) == (PARTS, PARTS - 1)


@pytest.mark.parametrize("kind", ["torn answer", "unavailable", "lost answer", "lost request"])
def test_what_goes_wrong_is_read_by_obstore(store, proxy, kind):
    proxy.reset()
    proxy.inject(Fault(kind, containing=SIGNED, times=2))
    assert store.get("a name=with&odd %41 letters+é")[0] == DATA
    assert len(proxy.requests) > PARTS
    assert read(store, proxy) == (PARTS, PARTS - 1)


def test_a_server_that_takes_no_signed_urls_is_asked_with_one_once(store, proxy):
    proxy.inject(Fault("expired", containing=SIGNED, times=100))
    assert store.get("a name=with&odd %41 letters+é")[0] == DATA
    assert read(store, proxy) == (PARTS, 0)


def test_connections_that_were_closed_meanwhile_are_made_anew(store, proxy):
    read(store, proxy)
    for connection in store._open()._receiver()._idle:
        connection.sock.shutdown(socket.SHUT_RDWR)
    assert read(store, proxy) == (PARTS, PARTS - 1)


def test_where_there_is_a_proxy_obstore_goes_through_it(store, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "example.org")
    assert read(store, proxy) == (PARTS, 0)


def test_changed_while_it_is_read_it_is_read_again(store, proxy, monkeypatch):
    requests = store._open()
    fetch = type(requests).fetch
    changed = secrets.token_bytes(2**16) * 640 + b"END"

    def fetch_and_change(self, part):
        found = fetch(self, part)
        if part.token is None and not done:
            done.append(store.put("a name=with&odd %41 letters+é", changed))
        return found

    done = []
    monkeypatch.setattr(type(requests), "fetch", fetch_and_change)
    data, token = store.get("a name=with&odd %41 letters+é")
    assert data == changed
    assert token == done[0]
