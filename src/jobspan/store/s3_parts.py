"""Objects too large for one PUT: sent in parts, of which the last request makes an object."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from jobspan.store.protocol import Token

__all__ = ["send_in_parts"]

_AT_ONCE = 4
_MOST_PARTS = 9_000

Call = Callable[..., Awaitable[dict[str, Any]]]


async def send_in_parts(
    call: Call,
    key: str,
    data: memoryview,
    part_size: int,
    metadata: Mapping[str, str],
    conditions: Mapping[str, str],
) -> Token:
    """Upload an object in parts.

    Parameters
    ----------
    call : callable
        Makes one request: the operation's name, and its arguments as keywords.
    key : str
        The object.
    data : memoryview
        All its bytes.
    part_size : int
        Bytes of a part; larger where there would be too many.
    metadata : mapping
        Metadata of the object.
    conditions : mapping
        ``IfMatch`` or ``IfNoneMatch``, which the request that makes the object carries.

    Returns
    -------
    str
        The token of the new object.
    """
    part_size = max(part_size, -(-data.nbytes // _MOST_PARTS))
    started = await call("create_multipart_upload", Key=key, Metadata=dict(metadata))
    upload = started["UploadId"]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def send(number: int) -> dict[str, Any]:
        async with gate:
            part = bytes(data[number * part_size : (number + 1) * part_size])
            answer = await call(
                "upload_part", Key=key, UploadId=upload, PartNumber=number + 1, Body=part
            )
            return {"PartNumber": number + 1, "ETag": answer["ETag"]}

    try:
        parts = await asyncio.gather(*map(send, range(-(-data.nbytes // part_size))))
        answer = await call(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            **conditions,
        )
    except BaseException:
        # Parts of an upload that nobody ends are kept, and paid for.
        await call("abort_multipart_upload", Key=key, UploadId=upload)
        raise
    etag: Token = answer["ETag"]
    return etag
