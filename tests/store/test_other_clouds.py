"""Servers of Google's and Azure's kind that lose answers, or keep no conditions."""

from __future__ import annotations

import base64
import hmac
import warnings
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote

import pytest

from jobspan import Memory
from jobspan.store import open_store
from jobspan.store.conditions import StoreWithoutConditionsWarning
from jobspan.testing.proxy import Fault, Proxy

CONDITIONS = ("If-None-Match", "If-Match", "ifGenerationMatch")
KEYS = "connection_string"
CLOUDS = ["gs", "az", "az by obstore"]


def through(proxy, server, cloud):
    """Return the options that lead to a server through a proxy."""
    options = dict(server.storage_options)
    if cloud == "gs":
        return {**options, "endpoint_url": proxy.endpoint}
    from azure.storage.blob import generate_account_sas

    text = dict(part.partition("=")[::2] for part in options["connection_string"].split(";"))
    if "obstore" in cloud:
        endpoint = f"BlobEndpoint={proxy.endpoint}/{server.ACCOUNT}"
        key = f"AccountName={server.ACCOUNT};AccountKey={text['AccountKey']}"
        return {"connection_string": f"{endpoint};{key}"}
    # A signature that is over no header: some will be hidden.
    signature = generate_account_sas(
        server.ACCOUNT,
        text["AccountKey"],
        resource_types="sco",
        permission="rwdlac",
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    return {
        "account_name": server.ACCOUNT,
        "connection_string": f"BlobEndpoint={proxy.endpoint}/{server.ACCOUNT};"
        f"AccountName={server.ACCOUNT};SharedAccessSignature={signature}",
    }


class SigningProxy(Proxy):
    """A proxy that hides conditions from Azurite, and signs anew what was signed with them.

    The signature of an account's key is over them, and obstore's deletes take no other signature.
    """

    def __init__(self, server):
        super().__init__(server.endpoint, hidden=CONDITIONS)
        text = dict(part.partition("=")[::2] for part in server.storage_options[KEYS].split(";"))
        self.account, self.key = server.ACCOUNT, base64.b64decode(text["AccountKey"])

    def _passed_on(self, head):
        passed = super()._passed_on(head)
        if not {b"if-match", b"if-none-match"} & head.headers.keys():
            return passed
        seen = {name.decode(): value.decode() for name, value in head.headers.items()}
        method, target = passed.split(b" ", 2)[:2]
        path, _, query = target.decode().partition("?")
        signed = [
            method.decode(),
            *(seen.get(f"content-{name}", "") for name in ("encoding", "language")),
            seen.get("content-length", "").removeprefix("0"),
            *(seen.get(name, "") for name in ("content-md5", "content-type", "date")),
            *("", "", "", "", seen.get("range", "")),
            *(f"{name}:{seen[name]}" for name in sorted(seen) if name.startswith("x-ms-")),
            f"/{self.account}{path}",
            *(f"{name}:{unquote(value)}" for name, value in sorted(parse_qsl(query))),
        ]
        digest = hmac.digest(self.key, "\n".join(signed).encode(), "sha256")
        mine = f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"
        return passed.replace(head.headers[b"authorization"], mine.encode())


@pytest.fixture(params=CLOUDS)
def cloud(request):
    return request.param


@pytest.fixture
def server(request, cloud):
    return request.getfixturevalue("fake_gcs_server" if cloud == "gs" else "azurite_server")


@pytest.fixture
def opened(server, cloud, fresh_prefix):
    url = f"{server.bucket_url('clouds')}/{fresh_prefix()}"
    engine = "obstore" if "obstore" in cloud else "fsspec"

    def opened(proxy):
        return open_store(url, storage_options=through(proxy, server, cloud), engine=engine)

    return opened


def test_a_write_that_meets_itself_has_won(server, opened, cloud):
    mine, theirs = b"mine", b"theirs"
    write = Fault("lost answer", method="POST" if cloud == "gs" else "PUT")
    with Proxy(server.endpoint) as proxy:
        store = opened(proxy)
        assert store.conditional

        def losing(call):
            proxy.reset()
            proxy.inject(Fault(write.kind, write.method))
            found = call()
            assert [each.status for each in proxy.requests].count(0) == 1
            return found

        token = losing(lambda: store.create("claim", mine))
        assert token is not None
        assert store.get("claim") == (mine, token)
        assert losing(lambda: store.create("claim", theirs)) is None
        second = losing(lambda: store.swap("claim", theirs, token))
        assert second is not None
        assert store.get("claim") == (theirs, second)
        assert losing(lambda: store.swap("claim", mine, token)) is None
        store.close()


def test_a_server_that_keeps_no_conditions_is_warned_of_once_and_used(server, opened, cloud):
    runs = []

    def double(x):
        runs.append(x)
        return 2 * x

    signing = "obstore" in cloud
    hiding = SigningProxy(server) if signing else Proxy(server.endpoint, hidden=CONDITIONS)
    with hiding as proxy:
        store = opened(proxy)
        with pytest.warns(StoreWithoutConditionsWarning, match="more than once"):
            assert not store.conditional
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            token = store.create("a", b"1")
            assert store.create("a", b"2") is None
            assert store.get("a") == (b"1", token)
            second = store.swap("a", b"3", token)
            assert second is not None
            assert store.swap("a", b"4", token) is None
            assert not store.delete("a", token)
            assert store.delete("a", second)
            for _ in range(2):
                cached = Memory(store, verbose=0).cache(double, version=1)
                assert [cached(x) for x in range(3)] == [0, 2, 4]
        assert runs == [0, 1, 2]
        store.close()
