"""The policies allow what the store asks of a bucket, and nothing else: recorded from a run."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from jobspan import Memory
from jobspan.cli.start import run
from jobspan.testing.proxy import Proxy, Request

POLICIES = Path(__file__).parents[2] / "deploy" / "terraform" / "aws"
BUCKET, PREFIX = "policy-bucket", "cache"

Asked = tuple[str, str, str | None]
"""An action, the resource it is asked for, and for listings the prefix."""


def policy(name: str) -> list[dict[str, Any]]:
    text = (POLICIES / f"{name}.json").read_text()
    text = text.replace("${bucket}", f"arn:aws:s3:::{BUCKET}").replace("${prefix}", PREFIX)
    return json.loads(text)["Statement"]


def asked(request: Request) -> Asked:
    """Say what IAM checks for a request, as Amazon documents it."""
    parts = urlsplit(request.target)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True)
    resource = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    if not key:
        if request.method == "POST" and "delete" in query:
            return "s3:DeleteObject", f"{resource}/{PREFIX}/each", None
        assert request.method in {"GET", "HEAD"}, request
        return "s3:ListBucket", resource, query.get("prefix", [None])[0]
    if request.method == "DELETE":
        action = "s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject"
        return action, resource, None
    if request.method in {"PUT", "POST"}:
        return "s3:PutObject", resource, None
    return "s3:GetObject", resource, None


def allowed(statements: list[dict[str, Any]], wanted: Asked) -> bool:
    action, resource, prefix = wanted
    for statement in statements:
        if action not in statement["Action"]:
            continue
        if not any(fnmatch.fnmatchcase(resource, pattern) for pattern in statement["Resource"]):
            continue
        patterns = statement.get("Condition", {}).get("StringLikeIfExists", {}).get("s3:prefix")
        if patterns is None or prefix is None:
            return True
        if any(fnmatch.fnmatchcase(prefix, pattern) for pattern in patterns):
            return True
    return False


def grown(size: int) -> bytes:
    return b"x" * size


@pytest.fixture
def recorded(moto_server, tmp_path) -> Iterator[Callable[..., set[Asked]]]:
    moto_server.bucket_url(BUCKET)
    with Proxy(moto_server.endpoint) as proxy:
        options = {**moto_server.storage_options, "endpoint_url": proxy.endpoint}
        (tmp_path / "options.json").write_text(json.dumps(options))

        def record(work: Callable[..., object], **more: Any) -> set[Asked]:
            proxy.reset()
            memory = Memory(f"s3://{BUCKET}/{PREFIX}", storage_options=options, verbose=0, **more)
            work(memory, ["--options-file", str(tmp_path / "options.json")])
            assert proxy.requests
            return {asked(request) for request in proxy.requests}

        yield record


def everything(memory: Memory, options: list[str]) -> None:
    function = memory.cache(grown)
    for size in (10, 20, 20 << 20):  # the last is written in parts
        function(size)
        assert function(size) == b"x" * size
    assert "nothing is stored" in memory.cache(len).explain("a")
    assert memory.verify() == []
    memory.reduce_size(items_limit=2)
    memory.clear(warn=False)
    url = f"s3://{BUCKET}/{PREFIX}"
    assert run(["cache", "clear", url, "--yes", *options]) == 0


def reading(memory: Memory, options: list[str]) -> None:
    function = memory.cache(grown)
    function(30)
    assert function.check_call_in_cache(20 << 20)
    url = f"s3://{BUCKET}/{PREFIX}"
    assert run(["cache", "stats", url, *options]) == 0


def test_read_write_allows_what_the_store_asks_and_no_more(recorded):
    statements = policy("read-write")
    found = recorded(everything)
    assert [one for one in found if not allowed(statements, one)] == []
    granted = {action for statement in statements for action in statement["Action"]}
    # An upload in parts is aborted where it fails, which this run does not show.
    assert granted - {action for action, _, _ in found} <= {"s3:AbortMultipartUpload"}


def test_read_only_allows_what_a_reader_asks_and_no_write(recorded):
    recorded(lambda memory, options: memory.cache(grown)(20 << 20))
    statements = policy("read-only")
    found = recorded(reading, mode="ro")
    assert [one for one in found if not allowed(statements, one)] == []
    assert {action for action, _, _ in found} == {"s3:GetObject", "s3:ListBucket"}
    assert {action for one in statements for action in one["Action"]} == {
        "s3:GetObject",
        "s3:ListBucket",
    }


@pytest.mark.parametrize("name", ["read-write", "read-only"])
def test_nothing_outside_of_the_folder_is_allowed(name):
    statements = policy(name)
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert not allowed(statements, (action, f"arn:aws:s3:::{BUCKET}/other/object", None))
        assert not allowed(statements, (action, f"arn:aws:s3:::other/{PREFIX}/object", None))
    assert not allowed(statements, ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", "other/"))
    assert not allowed(statements, ("s3:DeleteBucket", f"arn:aws:s3:::{BUCKET}", None))
