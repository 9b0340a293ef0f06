"""S3 and what speaks like it, through s3fs.

s3fs signs in and keeps the connections; the requests are made with its botocore client, for
s3fs's own methods drop what matters here: the ETag of what was read, conditions of multipart
writes and of deletes, keywords that an old botocore does not know, and how often a request was
sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from jobspan.errors import StoreError, StoreLocationError, StoreUnavailableError
from jobspan.store.asynchronous import AsynchronousRequests
from jobspan.store.event_loop import CONCURRENCY
from jobspan.store.locations import Location, scrub
from jobspan.store.protocol import Content, Data, ObjectInfo, Token
from jobspan.store.requests import (
    WRITE_ID,
    Condition,
    Facts,
    Fetched,
    ObjectChangedError,
    Range,
    WriteRefusedError,
)
from jobspan.store.s3_parts import send_in_parts

__all__ = ["S3Requests"]

_ATTEMPTS = 4
_ABSENT = {"NoSuchKey", "NoSuchUpload", "404", "NotFound"}
_CONDITIONS = {"IfMatch", "IfNoneMatch"}
_REFUSED = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict", "OperationAborted", "409"}
_SIGN_IN = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "AllAccessDisabled",
    "AccountProblem",
    "403",
    "401",
}


class S3Requests(AsynchronousRequests):
    """The requests of a store on S3.

    Parameters
    ----------
    location : Location
        The bucket.
    options : mapping
        What `s3fs.S3FileSystem` takes.

    Attributes
    ----------
    largest_put : int
        Bytes of the largest object that S3 takes with one PUT; larger ones are sent in parts.
    part_size : int
        Bytes of a part.
    """

    protocol = "s3"
    library = "s3fs"
    largest_put: ClassVar[int] = 5 * 2**30
    part_size: ClassVar[int] = 128 * 2**20

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        super().__init__(location, options)
        self._bucket = location.bucket

    def _fs_options(self, location: Location, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return _with_defaults(options)

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Make one request; errors arrive as botocore raised them."""
        await self._fs.set_session()
        client = await self._fs.get_s3(self._bucket)
        model = client.meta.service_model.operation_model(
            "".join(word.capitalize() for word in operation.split("_"))
        )
        defaults = {**self._fs.s3_additional_kwargs, **self._fs.req_kw}
        known = {k: v for k, v in defaults.items() if k in model.input_shape.members}
        for name in _CONDITIONS & arguments.keys() - model.input_shape.members.keys():
            del arguments[name]  # an old botocore: the probe finds out that it has no effect
        response: dict[str, Any] = await getattr(client, operation)(
            **{**known, "Bucket": self._bucket, **arguments}
        )
        return response

    async def _fetch(self, part: Range) -> Fetched:
        if part.end <= part.start:
            facts = await self._head(part.key)
            if facts is None:
                raise KeyError(part.key)
            return Fetched(b"", facts["ETag"], facts["ContentLength"])
        conditions = {} if part.token is None else {"IfMatch": part.token}
        for attempt in range(_ATTEMPTS):
            try:
                response = await self._call(
                    "get_object",
                    Key=part.key,
                    Range=f"bytes={part.start}-{part.end - 1}",
                    **conditions,
                )
            except Exception as error:
                code = _code(error)
                if code in _ABSENT:
                    raise KeyError(part.key) from None
                if code in _REFUSED:
                    raise ObjectChangedError from None
                if code in {"InvalidRange", "416"}:
                    return await self._fetch(Range(part.key, part.start, part.start))
                raise self._translated(error, part.key) from None
            try:
                async with response["Body"] as body:
                    data = await _read_body(body, part.into)
            except Exception as error:
                # The connection broke in the middle, which botocore leaves to its caller.
                if attempt + 1 == _ATTEMPTS:
                    raise self._translated(error, part.key) from None
                await asyncio.sleep(0.05 * 2**attempt)
                continue
            ranged = response.get("ContentRange")
            if ranged is None:  # a server that knows no ranges sent the whole
                size, data = len(data), data[part.start : part.end]
            else:
                size = int(ranged.rpartition("/")[2])
            return Fetched(data, response["ETag"], size)
        raise AssertionError("unreachable")

    async def _send(self, key: str, data: Data, condition: Condition | None) -> Token:
        conditions: dict[str, str] = {}
        if condition is not None:
            if condition.token is None:
                conditions["IfNoneMatch"] = "*"
            else:
                conditions["IfMatch"] = condition.token
        conflicts = 0
        while True:
            try:
                return await self._send_once(key, data, condition, conditions)
            except WriteRefusedError:
                raise
            except Exception as error:
                code = _code(error)
                if condition is not None:
                    # Refused, or gone meanwhile: no object is in the state that was asked for.
                    if code in _REFUSED or (code in _ABSENT and condition.token is not None):
                        # aiohttp sends again what a connection that broke left unanswered, and
                        # tells nobody.
                        raise WriteRefusedError(retried=True) from None
                    # Two writers at the same moment: S3 wants one of them to try again.
                    if code in _CONFLICT and conflicts < 8:
                        conflicts += 1
                        await asyncio.sleep(0.02 * 2**conflicts)
                        continue
                raise self._translated(error, key) from None

    async def _send_once(
        self, key: str, data: Data, condition: Condition | None, conditions: dict[str, str]
    ) -> Token:
        metadata = {} if condition is None else {WRITE_ID: condition.write_id}
        size = memoryview(data).nbytes
        if size > self.largest_put:
            if condition is not None:
                # Not every server that keeps the condition of a PUT keeps that of an upload.
                found = await self._head(key)
                if (found and found["ETag"]) != condition.token:
                    raise WriteRefusedError(retried=False)
            return await send_in_parts(
                self._call, key, memoryview(data), self.part_size, metadata, conditions
            )
        body = data if isinstance(data, bytes) else bytes(data)
        response = await self._call(
            "put_object", Key=key, Body=body, Metadata=metadata, **conditions
        )
        etag: Token = response["ETag"]
        return etag

    async def _remove(self, key: str, token: Token | None) -> bool:
        conditions = {} if token is None else {"IfMatch": token}
        try:
            await self._call("delete_object", Key=key, **conditions)
        except Exception as error:
            code = _code(error)
            if code in _ABSENT | _REFUSED | _CONFLICT:
                # After a lost answer the object may be gone by our own hand.
                return code in _ABSENT and _attempts(error) > 0
            raise self._translated(error, key) from None
        return True

    async def _head(self, key: str) -> dict[str, Any] | None:
        try:
            return await self._call("head_object", Key=key)
        except Exception as error:
            if _code(error) in _ABSENT:
                return None
            raise self._translated(error, key) from None

    async def _facts(self, key: str) -> Facts | None:
        head = await self._head(key)
        if head is None:
            return None
        date = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = 0.0
        if date is not None:
            age = (parsedate_to_datetime(date) - head["LastModified"]).total_seconds()
        metadata = {name.lower(): value for name, value in head.get("Metadata", {}).items()}
        return Facts(head["ETag"], age, metadata.get(WRITE_ID))

    async def _pages(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        more: dict[str, Any] = {}
        while True:
            try:
                page = await self._call("list_objects_v2", Prefix=prefix, **more)
            except Exception as error:
                raise self._translated(error, prefix) from None
            yield [
                ObjectInfo(
                    item["Key"], item["Size"], item["LastModified"].timestamp(), item["ETag"]
                )
                for item in page.get("Contents", ())
            ]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _translated(self, error: Exception, key: str) -> StoreError:
        """Say what failed in words that tell what to do."""
        code = _code(error)
        text = scrub(str(error), self._options)
        if code == "NoSuchBucket" or (code in _ABSENT and not key):
            return StoreLocationError(
                f"{self._url}: there is no bucket {self._bucket!r}. Create it, "
                f"for instance with: aws s3 mb s3://{self._bucket}"
            )
        if code in _SIGN_IN or type(error).__name__ in {
            "NoCredentialsError",
            "PartialCredentialsError",
        }:
            return StoreLocationError(
                f"{self._url}: the credentials are not accepted ({text}). Pass "
                f"storage_options={{'key': ..., 'secret': ...}} or set AWS_PROFILE; they "
                f"must allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject"
            )
        if isinstance(error, TypeError) and "unexpected keyword argument" in text:
            return StoreLocationError(
                f"{self._url}: an option in storage_options is not known to s3fs ({text})"
            )
        if code is None or code in {
            "503",
            "SlowDown",
            "ServiceUnavailable",
            "500",
            "InternalError",
        }:
            return StoreUnavailableError(
                f"{self._url}: the store does not answer as it should ({text}). Is the "
                f"endpoint right (storage_options={{'endpoint_url': ...}}), and the network up?"
            )
        return StoreError(f"{self._url}: the store refused a request for {key!r}: {text}")


def _with_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    from botocore.config import Config

    config: dict[str, Any] = {
        # A dead endpoint is to be told within seconds, not after the default's half minute.
        "retries": {"max_attempts": 3, "mode": "standard"},
        "max_pool_connections": CONCURRENCY,
    }
    if "request_checksum_calculation" in Config.OPTION_DEFAULTS:
        # Entries carry their own checksums, and not every server knows S3's newer ones.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    config.update(options.get("config_kwargs") or {})
    return {**options, "config_kwargs": config}


def _code(error: Exception) -> str | None:
    """Return the error code of a server's answer, None where there was no answer."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return None
    code = response.get("Error", {}).get("Code")
    return str(code or response.get("ResponseMetadata", {}).get("HTTPStatusCode"))


def _attempts(error: Exception) -> int:
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))


async def _read_body(body: Any, into: memoryview | None) -> Content:
    if into is None:
        data: bytes = await body.read()
        return data
    at = 0
    async for piece in body.iter_chunks(2**20):
        into[at : at + len(piece)] = piece
        at += len(piece)
    return into if at == len(into) else bytes(into[:at])
