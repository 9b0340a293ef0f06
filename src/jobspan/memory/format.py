"""From a value to the bytes of an entry and back: codec, compression, signature, in this order.

::

    packed ── encode ── compress ── sign ── pack
    value  ── verify ── decompress ── decode
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from jobspan.codecs.compression import check_room, compress, decompress
from jobspan.codecs.entry import pack
from jobspan.codecs.header import Header
from jobspan.codecs.plain import choose_safe
from jobspan.codecs.signing import Signer
from jobspan.codecs.values import CODECS, Codec, Part, PickleCodec
from jobspan.errors import CodecError, EntryDamagedError, EntryUntrustedError
from jobspan.keys import CallKey

__all__ = ["EntryFormat"]


@dataclass(frozen=True, slots=True)
class EntryFormat:
    """How values are written, and what is read.

    Parameters
    ----------
    codec : Codec or None
        How values are written; None: pickle, or what fits the value's type.
    compression : tuple of str and int
        Name and level; an empty name: none.
    signer : Signer or None
        Signs and verifies entries.
    safe : bool
        Whether only formats that can run no code are read and written.
    by_type : bool
        Whether values whose type one of these fits are written so, and only the rest as pickles.
    """

    codec: Codec | None = None
    compression: tuple[str, int] = ("", 0)
    signer: Signer | None = None
    safe: bool = False
    by_type: bool = False

    def packed(self, key: CallKey, value: Any, seconds: float) -> bytearray:
        """Return the entry for a value.

        Raises
        ------
        CodecError
            If it cannot be written.
        """
        codec, parts = self._encoded(value)
        sizes = [len(part) for part in parts]
        name, level = self.compression
        if name:
            parts = [compress(name, level, part) for part in parts]
        header = Header(
            key.digest,
            key.function,
            time.time(),
            seconds,
            codec.name,
            name,
            sizes if name else (),
            key.components,
        )
        sign = self.signer.sign if self.signer is not None and self.signer.can_sign else None
        return pack(header, parts, sign)

    def _encoded(self, value: Any) -> tuple[Codec, list[Any]]:
        if self.codec is not None:
            return self.codec, _encode(self.codec, value)
        if self.safe:
            codec: Codec = choose_safe(value)
            return codec, _encode(codec, value)
        if self.by_type:
            with suppress(CodecError):
                codec = choose_safe(value)
                return codec, _encode(codec, value)
        return _PICKLE, _encode(_PICKLE, value)

    def verify(self, header: Header) -> None:
        """Refuse an entry whose signature is not ours, where there has to be one.

        Raises
        ------
        EntryUntrustedError
            If it is missing or wrong.
        """
        signer = self.signer
        if signer is not None and not signer.verify(header.signed_text(), header.signature):
            problem = "wrong" if header.signature else "missing"
            raise EntryUntrustedError(f"the signature is {problem}")

    def value(self, header: Header, parts: list[Part], *, writable: bool) -> Any:
        """Return the value of an entry whose parts are known to be whole.

        Parameters
        ----------
        header : Header
            The entry's header, its signature verified.
        parts : list of bytes-like
            Payload and buffers, as stored.
        writable : bool
            Whether read-only buffers are copied, lest arrays be read-only.

        Raises
        ------
        CodecError, EntryDamagedError
            If it cannot be read, or may not be.
        """
        codec = self._reader(header.codec)
        given: list[Any] = parts
        if header.compression:
            check_room(sum(header.sizes))
            given = [
                decompress(header.compression, part, size)
                for part, size in zip(parts, header.sizes, strict=True)
            ]
        if writable and len(given) > 1:
            # What can be written to is ours alone already.
            given = [
                given[0],
                *(p if not memoryview(p).readonly else bytearray(p) for p in given[1:]),
            ]
        try:
            return codec.decode(given)
        except (EntryDamagedError, CodecError):
            raise
        except Exception as error:
            raise CodecError(f"the value cannot be decoded: {error}") from error

    def _reader(self, name: str) -> Codec:
        if name == "pickle" and not self.safe:
            return _PICKLE
        codec = self.codec
        if codec is None or codec.name != name:
            try:
                codec = CODECS.load(name)()
            except KeyError:
                raise CodecError(f"no codec is called {name!r}; see register_codec") from None
        if self.safe and not codec.safe:
            raise CodecError(f"safe=True does not read the codec {name!r}")
        return codec


def _encode(codec: Codec, value: Any) -> list[Any]:
    try:
        return list(codec.encode(value))
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(
            f"the codec {codec.name!r} cannot write {type(value).__qualname__}: {error}"
        ) from error


_PICKLE = PickleCodec()
