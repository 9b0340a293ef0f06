"""Google Cloud Storage through gcsfs.

gcsfs signs in and sends; which generation of an object was read or written, and which is to be
replaced, are parameters and headers that its own methods do not hand on.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from jobspan.errors import StoreError, StoreLocationError, StoreUnavailableError
from jobspan.store.asynchronous import AsynchronousRequests
from jobspan.store.locations import Location, scrub
from jobspan.store.protocol import Data, ObjectInfo, Token
from jobspan.store.requests import (
    WRITE_ID,
    Condition,
    Facts,
    Fetched,
    ObjectChangedError,
    Range,
    WriteRefusedError,
)

__all__ = ["GCSRequests"]


class GCSRequests(AsynchronousRequests):
    """The requests of a store on Google Cloud Storage.

    Parameters
    ----------
    location : Location
        The bucket.
    options : mapping
        What `gcsfs.GCSFileSystem` takes.
    """

    protocol = "gs"
    library = "gcsfs"

    def __init__(self, location: Location, options: Mapping[str, Any]) -> None:
        super().__init__(location, options)
        self._bucket = location.bucket

    def _fs_options(self, location: Location, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Have nothing decompressed on its way: objects of a few bytes would become what they like.

        What jobspan stores does not say that it is compressed, and anybody's object may.
        """
        session = options.get("session_kwargs") or {}
        headers = {**(session.get("headers") or {}), "Accept-Encoding": "identity"}
        session = {**session, "headers": headers, "auto_decompress": False}
        return {**options, "session_kwargs": session}

    async def _fetch(self, part: Range) -> Fetched:
        if part.end <= part.start:
            found = await self._metadata(part.key)
            if found is None:
                raise KeyError(part.key)
            return Fetched(b"", str(found["generation"]), int(found["size"]))
        conditions = {} if part.token is None else {"ifGenerationMatch": part.token}
        try:
            headers, data = await self._fs._call(
                "GET",
                f"{self._fs._location}/download/storage/v1/b/{{}}/o/{{}}",
                self._bucket,
                part.key,
                # "gzip", lest the server decompresses what is stored so.
                headers={
                    "Range": f"bytes={part.start}-{part.end - 1}",
                    "Accept-Encoding": "gzip",
                },
                alt="media",
                **conditions,
            )
        except FileNotFoundError:
            raise KeyError(part.key) from None
        except FileExistsError:
            raise ObjectChangedError from None
        except Exception as error:
            if getattr(error, "code", None) == 416:
                return await self._fetch(Range(part.key, part.start, part.start))
            raise self._translated(error, part.key) from None
        generation: Token = headers["X-Goog-Generation"]
        ranged = headers.get("Content-Range")
        if ranged is None:  # a server that knows no ranges sent the whole
            return Fetched(data[part.start : part.end], generation, len(data))
        return Fetched(data, generation, int(ranged.rpartition("/")[2]))

    async def _send(self, key: str, data: Data, condition: Condition | None) -> Token:
        if condition is not None and not (condition.token or "0").isdecimal():
            raise WriteRefusedError(retried=False)
        about: dict[str, Any] = {"name": key}
        arguments: dict[str, str] = {}
        if condition is not None:
            about["metadata"] = {WRITE_ID: condition.write_id}
            arguments["ifGenerationMatch"] = condition.token or "0"
        boundary = secrets.token_hex(16)  # nobody can put it into what is stored
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                json.dumps(about).encode(),
                f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode(),
                data,
                f"\r\n--{boundary}--".encode(),
            )
        )
        try:
            answer = await self._fs._call(
                "POST",
                f"{self._fs._location}/upload/storage/v1/b/{{}}/o",
                self._bucket,
                uploadType="multipart",
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
                data=body,
                json_out=True,
                **arguments,
            )
        except FileExistsError:
            # gcsfs sends again what got no answer and does not tell that it did.
            raise WriteRefusedError(retried=True) from None
        except Exception as error:
            if condition is not None and condition.token is not None and _is_absent(error):
                raise WriteRefusedError(retried=True) from None
            raise self._translated(error, key) from None
        return str(answer["generation"])

    async def _remove(self, key: str, token: Token | None) -> bool:
        if token is not None and not token.isdecimal():
            return False
        conditions = {} if token is None else {"ifGenerationMatch": token}
        try:
            await self._fs._call("DELETE", "b/{}/o/{}", self._bucket, key, **conditions)
        except (FileNotFoundError, FileExistsError):
            return False
        except Exception as error:
            raise self._translated(error, key) from None
        return True

    async def _metadata(self, key: str) -> dict[str, Any] | None:
        try:
            headers, body = await self._fs._call("GET", "b/{}/o/{}", self._bucket, key)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._translated(error, key) from None
        found: dict[str, Any] = json.loads(body)
        found["date"] = headers.get("Date")
        return found

    async def _facts(self, key: str) -> Facts | None:
        found = await self._metadata(key)
        if found is None:
            return None
        age = 0.0
        if found["date"] is not None:
            written = datetime.fromisoformat(found["updated"])
            age = (parsedate_to_datetime(found["date"]) - written).total_seconds()
        return Facts(str(found["generation"]), age, found.get("metadata", {}).get(WRITE_ID))

    async def _pages(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        more: dict[str, Any] = {}
        while True:
            try:
                page = await self._fs._call(
                    "GET",
                    "b/{}/o",
                    self._bucket,
                    prefix=prefix,
                    json_out=True,
                    **more,
                )
            except FileNotFoundError:
                raise StoreLocationError(
                    f"{self._url}: there is no bucket {self._bucket!r}. Create it, for instance "
                    f"with: gcloud storage buckets create gs://{self._bucket}"
                ) from None
            except Exception as error:
                raise self._translated(error, prefix) from None
            yield [
                ObjectInfo(
                    item["name"],
                    int(item.get("size", 0)),
                    datetime.fromisoformat(item["updated"]).timestamp(),
                    str(item["generation"]),
                )
                for item in page.get("items", ())
            ]
            if "nextPageToken" not in page:
                return
            more = {"pageToken": page["nextPageToken"]}

    def _translated(self, error: Exception, key: str) -> StoreError:
        """Say what failed in words that tell what to do."""
        text = scrub(str(error), self._options)
        code = getattr(error, "code", None)
        if code in {401, 403} or text.startswith("Forbidden") or "auth" in type(error).__module__:
            return StoreLocationError(
                f"{self._url}: the credentials are not accepted ({text}). Pass "
                f"storage_options={{'token': ...}} or run: gcloud auth application-default login"
            )
        if isinstance(error, OSError | TimeoutError) or code in {429, 500, 502, 503, 504}:
            return StoreUnavailableError(
                f"{self._url}: the store does not answer as it should ({text}). Is the "
                f"network up, and storage_options={{'endpoint_url': ...}} right if you pass it?"
            )
        return StoreError(f"{self._url}: the store refused a request for {key!r}: {text}")


def _is_absent(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or getattr(error, "code", None) == 404
