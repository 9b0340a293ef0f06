"""Azure's blob storage through adlfs.

adlfs signs in; the requests are made with the Azure client that it holds, whose blobs tell
their ETags and take conditions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from jobspan.errors import StoreError, StoreLocationError, StoreUnavailableError
from jobspan.store.asynchronous import AsynchronousRequests
from jobspan.store.locations import Location, scrub
from jobspan.store.protocol import Data, ObjectInfo, Token
from jobspan.store.requests import (
    CHUNK,
    WRITE_ID,
    Condition,
    Facts,
    Fetched,
    ObjectChangedError,
    Range,
    WriteRefusedError,
)

__all__ = ["AzureRequests"]

_REFUSED = {"ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet"}


class AzureRequests(AsynchronousRequests):
    """The requests of a store on Azure.

    Parameters
    ----------
    location : Location
        The container; ``container@account.dfs.core.windows.net`` names the account too.
    options : mapping
        What `adlfs.AzureBlobFileSystem` takes.
    """

    protocol = "abfs"
    library = "adlfs"

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        super().__init__(location, options)
        self._container = location.bucket.partition("@")[0]

    def _fs_options(self, location: Location, options: Mapping[str, Any]) -> Mapping[str, Any]:
        _, _, host = location.bucket.partition("@")
        return {"account_name": host.partition(".")[0], **options} if host else options

    def _blob(self, key: str) -> Any:
        return self._fs.service_client.get_blob_client(container=self._container, blob=key)

    async def _fetch(self, part: Range) -> Fetched:
        if part.end <= part.start:
            properties = await self._properties(part.key)
            if properties is None:
                raise KeyError(part.key)
            return Fetched(b"", properties.etag, properties.size)
        try:
            stream = await self._blob(part.key).download_blob(
                offset=part.start,
                length=part.end - part.start,
                max_concurrency=-(-(part.end - part.start) // CHUNK),
                decompress=False,  # a blob of a few bytes would become what it likes
                **_if_match(part.token),
            )
            data = await stream.readall()
        except Exception as error:
            code = _code(error)
            if code == "BlobNotFound":
                raise KeyError(part.key) from None
            if code in _REFUSED:
                raise ObjectChangedError from None
            if code == "InvalidRange":
                return await self._fetch(Range(part.key, part.start, part.start))
            raise self._translated(error, part.key) from None
        properties = stream.properties
        ranged = properties.content_range
        size = int(ranged.rpartition("/")[2]) if ranged else properties.size
        return Fetched(data, properties.etag, size)

    async def _send(self, key: str, data: Data, condition: Condition | None) -> Token:
        arguments: dict[str, Any] = {"overwrite": True}
        if condition is not None:
            arguments["metadata"] = {WRITE_ID: condition.write_id}
            if condition.token is None:
                arguments["overwrite"] = False
            else:
                arguments |= _if_match(condition.token)
        try:
            answer = await self._blob(key).upload_blob(
                data if isinstance(data, bytes) else bytes(data),
                **arguments,
            )
        except Exception as error:
            code = _code(error)
            if condition is not None and (code in _REFUSED or code == "BlobNotFound"):
                # aiohttp sends again what a connection that broke left unanswered, and tells
                # nobody.
                raise WriteRefusedError(retried=True) from None
            raise self._translated(error, key) from None
        etag: Token = answer["etag"]
        return etag

    async def _remove(self, key: str, token: Token | None) -> bool:
        try:
            await self._blob(key).delete_blob(**_if_match(token))
        except Exception as error:
            code = _code(error)
            if code in _REFUSED or code == "BlobNotFound":
                return False
            raise self._translated(error, key) from None
        return True

    async def _properties(self, key: str) -> Any:
        dates: list[str | None] = []
        try:
            found = await self._blob(key).get_blob_properties(
                raw_response_hook=lambda r: dates.append(r.http_response.headers.get("Date"))
            )
        except Exception as error:
            if _code(error) in {"BlobNotFound", "ResourceNotFound", "404"}:
                return None
            raise self._translated(error, key) from None
        found.date = dates[-1] if dates else None
        return found

    async def _facts(self, key: str) -> Facts | None:
        from email.utils import parsedate_to_datetime

        found = await self._properties(key)
        if found is None:
            return None
        age = 0.0
        if found.date is not None:
            age = (parsedate_to_datetime(found.date) - found.last_modified).total_seconds()
        return Facts(found.etag, age, (found.metadata or {}).get(WRITE_ID))

    async def _pages(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        container = self._fs.service_client.get_container_client(self._container)
        try:
            listing = container.list_blobs(name_starts_with=prefix or None).by_page()
            async for page in listing:
                yield [
                    ObjectInfo(
                        item.name,
                        item.size,
                        item.last_modified.timestamp(),
                        # A listing leaves out the quotation marks of the ETag.
                        item.etag if item.etag.startswith('"') else f'"{item.etag}"',
                    )
                    async for item in page
                ]
        except Exception as error:
            raise self._translated(error, prefix) from None

    def _translated(self, error: Exception, key: str) -> StoreError:
        """Say what failed in words that tell what to do."""
        code = _code(error)
        text = scrub(str(error).partition("\n")[0], self._options)
        if code in {"ContainerNotFound", "ContainerBeingDeleted"}:
            return StoreLocationError(
                f"{self._url}: there is no container {self._container!r}. Create it, for "
                f"instance with: az storage container create --name {self._container}"
            )
        if getattr(error, "status_code", None) in {401, 403} or "Authentication" in str(code):
            return StoreLocationError(
                f"{self._url}: the credentials are not accepted ({text}). Pass "
                f"storage_options={{'account_name': ..., 'account_key': ...}}"
            )
        if code is None or getattr(error, "status_code", None) in {429, 500, 502, 503, 504}:
            return StoreUnavailableError(
                f"{self._url}: the store does not answer as it should ({text}). Is the "
                f"account's name right, and the network up?"
            )
        return StoreError(f"{self._url}: the store refused a request for {key!r}: {text}")


def _if_match(token: Token | None) -> dict[str, Any]:
    if token is None:
        return {}
    from azure.core import MatchConditions

    return {"etag": token, "match_condition": MatchConditions.IfNotModified}


def _code(error: Exception) -> str | None:
    """Return the error code of a server's answer, None where there was no answer."""
    code = getattr(error, "error_code", None) or getattr(error, "status_code", None)
    return None if code is None else str(getattr(code, "value", code))
