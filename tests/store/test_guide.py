"""The guide's own store passes the suite, as the guide says."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from jobspan.store import open_store
from jobspan.testing.stores import StoreConformance

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "writing-a-store.md"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example as a module that other processes can import as well."""
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[0]
    folder = tmp_path_factory.mktemp("guide")
    (folder / "guide_sqlite_store.py").write_text(code, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield importlib.import_module("guide_sqlite_store")
    sys.path.remove(str(folder))
    del sys.modules["guide_sqlite_store"]


class TestStoreOfTheGuide(StoreConformance):
    large = 10 * 2**20

    @pytest.fixture
    def store(self, tmp_path, example):
        store = example.SQLiteStore(tmp_path / "objects.db")
        yield store
        store.close()


def test_registered_scheme_of_the_guide(tmp_path, example):
    store = open_store(f"sqlite://{tmp_path}/cache.db")
    store.put("a", b"1")
    assert (tmp_path / "cache.db").exists()
