"""Every store keeps what the protocol promises, on the real thing."""

from __future__ import annotations

import pytest

from jobspan.store import open_store
from jobspan.store.s3 import S3Requests
from jobspan.testing.stores import StoreConformance


class TestLocal(StoreConformance):
    examples = 100

    @pytest.fixture
    def store(self, tmp_path):
        return open_store(tmp_path / "store")


class TestMemory(StoreConformance):
    shared = False
    examples = 100

    @pytest.fixture
    def store(self, fresh_prefix):
        store = open_store(f"memory://{fresh_prefix()}")
        yield store
        for info in store.list():
            store.delete(info.name)


class _OnServer(StoreConformance):
    engine = "fsspec"
    server_fixture = ""
    bucket = "conformance"

    @pytest.fixture
    def store(self, request, fresh_prefix):
        server = request.getfixturevalue(self.server_fixture)
        store = open_store(
            f"{server.bucket_url(self.bucket)}/{fresh_prefix()}",
            storage_options=server.storage_options,
            engine=self.engine,
        )
        yield store
        store.close()


class TestMoto(_OnServer):
    server_fixture = "moto_server"
    examples = 5


class TestSeaweedFS(_OnServer):
    server_fixture = "seaweedfs_server"
    examples = 8
    rounds = 2  # it lets the losers of a race wait a second each


class TestFakeGCS(_OnServer):
    server_fixture = "fake_gcs_server"
    examples = 5
    guarded_deletes = False  # it compares generations and deletes without a lock between


class TestAzurite(_OnServer):
    server_fixture = "azurite_server"
    examples = 5


@pytest.mark.parametrize("kind", ["moto_server", "seaweedfs_server"])
def test_objects_too_large_for_one_put(request, kind, fresh_prefix, monkeypatch):
    """They are sent in parts; a smaller limit stands in for S3's of 5 GiB."""
    monkeypatch.setattr(S3Requests, "largest_put", 12 * 2**20)
    monkeypatch.setattr(S3Requests, "part_size", 5 * 2**20)
    server = request.getfixturevalue(kind)
    store = open_store(
        f"{server.bucket_url('parts')}/{fresh_prefix()}",
        storage_options=server.storage_options,
        engine="fsspec",
    )
    StoreConformance().test_large_object(store)
    store.close()


class TestMotoThroughObstore(TestMoto):
    engine = "obstore"
    guarded_deletes = False


class TestSeaweedFSThroughObstore(TestSeaweedFS):
    engine = "obstore"
    guarded_deletes = False


class TestAzuriteThroughObstore(TestAzurite):
    engine = "obstore"
    guarded_deletes = False


@pytest.mark.filterwarnings("ignore::jobspan.store.conditions.StoreWithoutConditionsWarning")
class TestAnyFileSystem(StoreConformance):
    conditional = False

    @pytest.fixture
    def store(self, tmp_path):
        return open_store(
            f"dir://{tmp_path}/store", storage_options={"target_protocol": "file", "path": "/"}
        )
